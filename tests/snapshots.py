"""Copies a command's folder before each of its operations on the disk: what a kill at that operation would leave.

``snapshots.c`` is preloaded, a layer above the C library. It sees every write (also of SQLite and of PyTorch's C++),
rename, fsync, truncation, removal, new folder, and every file that is created or emptied, of all threads of the
process, below the folder of the command; it sees neither what the C library writes by itself (stdio) nor processes that
the command starts. It waits before each operation until the folder is copied; the copy also gets the first half of a
write. The kernel keeps what a killed process has written, so that a copy is what SIGKILL at this operation leaves.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import socket
import sqlite3
import struct
import subprocess
import tempfile
import threading
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from tests.commandline import command, environment
from tests.warm import Warm

SOURCE = Path(__file__).with_name("snapshots.c")
COMPILER = shutil.which("cc") or shutil.which("gcc")
PROGRAM = ("altub_exp.experiment", "altub_exp.sweep.run", "hydra._internal.config_loader_impl")
STORE = ("mlflow.db", "mlflow.db-journal")

Snapshot = dict[str, tuple[bytes, int] | None]
"""SHA-256 and modification time (ns) of each file of a folder, by its relative path; None for a folder."""


@dataclass
class Snapshots:
    """Copies of a folder; equal contents are held once.

    Attributes:
        folder: the folder.
        taken: its copies, in order.
    """

    folder: Path
    taken: list[Snapshot] = field(default_factory=list)
    _contents: dict[bytes, bytes] = field(default_factory=dict)

    def take(self, torn: Path | None = None, offset: int = 0, data: bytes = b"") -> Snapshot:
        """Copy the folder; the copy of the file ``torn`` gets ``data`` at an offset."""
        snapshot: Snapshot = {}
        for path in sorted(self.folder.rglob("*")):
            name = str(path.relative_to(self.folder))
            snapshot[name] = None
            if path.is_file():
                content = path.read_bytes()
                if path == torn:
                    content = content[:offset].ljust(offset, b"\0") + data + content[offset + len(data) :]
                digest = hashlib.sha256(content).digest()
                snapshot[name] = digest, path.stat().st_mtime_ns
                self._contents.setdefault(digest, content)
        return snapshot

    def restore(self, snapshot: Snapshot, folder: Path) -> None:
        """Write a copy into an empty folder."""
        for name, file in snapshot.items():
            if file is None:
                (folder / name).mkdir()
            else:
                (folder / name).write_bytes(self._contents[file[0]])
                os.utime(folder / name, ns=(file[1], file[1]))

    def state(self, snapshot: Snapshot) -> bytes:
        """Return the SHA-256 of all names and contents of a copy, its store as SQLite reads it.

        The first reader undoes an interrupted commit; a journal that it leaves is ignored by all readers.
        """
        held = {name: file and file[0] for name, file in snapshot.items()}
        if store := {name: snapshot[name] for name in STORE if held.pop(name, None)}:
            with tempfile.TemporaryDirectory() as folder:
                self.restore(store, Path(folder))
                with closing(sqlite3.connect(Path(folder) / STORE[0])) as connection:
                    connection.execute("SELECT * FROM sqlite_master").fetchone()
                held[STORE[0]] = hashlib.sha256((Path(folder) / STORE[0]).read_bytes()).digest()
        return hashlib.sha256(repr(sorted(held.items())).encode()).digest()

    def serve(self, listening: socket.socket) -> None:
        """Take a copy at each report of the layer, until its process ends."""
        connection, _ = listening.accept()
        with connection, connection.makefile("rb") as reports:
            while header := reports.read(24):
                length, offset, size = struct.unpack("=3q", header)
                path = Path(os.fsdecode(reports.read(length)))
                self.taken.append(self.take(path, offset, reports.read(size)) if size else self.take())
                connection.sendall(b"\0")


@cache
def _warm(layer: Path) -> Warm:
    """Return a process with the layer, whose forks can report their operations."""
    library = layer / "snapshots.so"
    words = [COMPILER, "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl", "-lpthread"]
    subprocess.run(words, check=True)
    return Warm(environment(LD_PRELOAD=str(library)), PROGRAM)


def train(layer: Path, cwd: Path, *arguments: str, reporting: str = "") -> None:
    """Train with the layer.

    Args:
        layer: a folder for the compiled layer.
        cwd: where the command runs.
        arguments: the command's.
        reporting: the address of a socket that gets reports of the operations below cwd.
    """
    reports = {"SNAPSHOTS": reporting} if reporting else {}
    env = environment(LD_PRELOAD=str(layer / "snapshots.so"), **reports)
    done = _warm(layer).run(command(*arguments), cwd=cwd, env=env, seconds=600)
    assert done.returncode == 0, done.stderr


def snapshots(layer: Path, cwd: Path, *arguments: str) -> Snapshots:
    """Train, and return copies of the folder before each operation below it."""
    copies = Snapshots(cwd)
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listening:
        address = f"{folder}/socket"
        listening.bind(address)
        listening.listen()
        server = threading.Thread(target=copies.serve, args=[listening], daemon=True)
        server.start()
        train(layer, cwd, *arguments, reporting=address)
        server.join()
    return copies


def begin() -> None:
    """Report this process's operations below its folder from now on; tests.warm calls it in a fork."""
    layer = ctypes.CDLL(os.environ.pop("LD_PRELOAD"))
    layer.snapshots_begin(os.getcwd().encode(), os.environ.pop("SNAPSHOTS").encode())
