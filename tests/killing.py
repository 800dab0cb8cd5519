"""Kills a command at its n-th operation on the disk, as SQLite's tests do: a layer above the C library.

``killing.c`` is preloaded. It sees every write (also of SQLite and of PyTorch's C++), rename, fsync, truncation,
removal, new folder, and every file that is created or emptied, of all threads of the process, below the folder of the
command; it sees neither what the C library writes by itself (stdio) nor processes that the command starts. At the n-th
operation the process gets SIGKILL before it is done; a write is torn: its first half reaches the file.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

from tests.commandline import command, environment
from tests.warm import Warm

SOURCE = Path(__file__).with_name("killing.c")
COMPILER = shutil.which("cc") or shutil.which("gcc")


@cache
def _warm(folder: Path) -> Warm:
    """Return a process with the layer, whose forks are killed."""
    library = folder / "killing.so"
    subprocess.run([COMPILER, "-O2", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"], check=True)
    return Warm(environment(LD_PRELOAD=str(library)))


def killed(layer: Path, cwd: Path, *arguments: str, at: int, module: str = "altub_exp.train") -> int:
    """Run a command, and kill it at an operation.

    Args:
        layer: a folder for the compiled layer.
        cwd: where the command runs; the operations below it count.
        arguments: the command's.
        at: the operation, counted from 1; 0 kills none.
        module: the command.

    Returns:
        The number of operations if it was not killed, otherwise 0.
    """
    count = layer / "operations"
    count.unlink(missing_ok=True)
    env = environment(LD_PRELOAD=str(layer / "killing.so"), KILLED_AT=str(at), KILLED_COUNT=str(count))
    done = _warm(layer).run(command(*arguments, module=module), cwd=cwd, env=env, seconds=240)
    assert done.returncode in (0, -9), done.stderr
    return int(count.read_text()) if done.returncode == 0 else 0


def begin() -> None:
    """Count this process's operations below its folder from now on; tests.warm calls it in a fork."""
    layer = ctypes.CDLL(os.environ.pop("LD_PRELOAD"))
    layer.killing_begin(os.getcwd().encode() + b"/", ctypes.c_long(int(os.environ.pop("KILLED_AT"))))
    count = Path(os.environ.pop("KILLED_COUNT"))
    atexit.register(lambda: count.write_text(str(layer.killing_seen())))
