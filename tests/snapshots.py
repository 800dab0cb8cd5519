"""Copies a command's folder before each of its operations on the disk: what a kill at that operation would leave.

``snapshots.c`` is preloaded, a layer above the C library. It sees every write (also of SQLite and of PyTorch's C++),
rename, fsync, truncation, removal, new folder, and every file that is created or emptied, of all threads of the
process, below the folder of the command; it sees neither what the C library writes by itself (stdio) nor processes that
the command starts. Before each operation it copies the folder; before a write the copy also gets the first half of it.
The kernel keeps what a killed process has written, so that a copy is what SIGKILL at this operation leaves.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import sqlite3
import subprocess
import tempfile
from contextlib import closing
from functools import cache
from pathlib import Path

from tests.commandline import command, environment
from tests.warm import Warm

SOURCE = Path(__file__).with_name("snapshots.c")
PROGRAM = ("altub_exp.experiment", "altub_exp.sweep.run", "hydra._internal.config_loader_impl")
STORE = ("mlflow.db", "mlflow.db-journal")
COMPILER = shutil.which("cc") or shutil.which("gcc")


@cache
def _warm(layer: Path) -> Warm:
    """Return a process with the layer, whose forks take snapshots."""
    library = layer / "snapshots.so"
    words = [COMPILER, "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl", "-lpthread"]
    subprocess.run(words, check=True)
    return Warm(environment(LD_PRELOAD=str(library)), PROGRAM)


def train(layer: Path, cwd: Path, *arguments: str, into: Path | None = None) -> int:
    """Train with the layer, and copy the folder before each of its operations to ``into``/1, ``into``/2, …

    Args:
        layer: a folder for the compiled layer.
        cwd: where the command runs; the operations below it count.
        arguments: the command's.
        into: an existing folder that is not below cwd; None copies nothing.

    Returns:
        The number of copies.
    """
    copies = {} if into is None else {"SNAPSHOTS": str(into)}
    env = environment(LD_PRELOAD=str(layer / "snapshots.so"), **copies)
    done = _warm(layer).run(command(*arguments), cwd=cwd, env=env, seconds=600)
    assert done.returncode == 0, done.stderr
    return 0 if into is None else len(list(into.iterdir()))


def begin() -> None:
    """Copy this process's folder before each operation from now on; tests.warm calls it in a fork."""
    layer = ctypes.CDLL(os.environ.pop("LD_PRELOAD"))
    layer.snapshots_begin(os.getcwd().encode(), os.environ.pop("SNAPSHOTS").encode())


def state(folder: Path) -> bytes:
    """Return the SHA-256 of all names and contents below a folder, its store as SQLite reads it.

    The first reader undoes an interrupted commit; a journal that it leaves is ignored by all readers.
    """
    contents = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*"))}
    with tempfile.TemporaryDirectory() as elsewhere:
        store = [shutil.copy(path, elsewhere) for name in STORE if (path := contents.pop(name, None))]
        if store:
            with closing(sqlite3.connect(store[0])) as connection:
                connection.execute("SELECT * FROM sqlite_master").fetchone()
            contents[STORE[0]] = Path(store[0])
        total = hashlib.sha256()
        for name, path in contents.items():
            total.update(f"{name}\0".encode())
            total.update(hashlib.sha256(path.read_bytes()).digest() if path.is_file() else b"folder")
        return total.digest()
