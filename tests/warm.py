"""The program's commands in forks of a process that has imported the libraries, which saves seconds for each.

A fork is given its own module, arguments, folder, environment and output, imports altub_exp itself and ends as any
command does. Only what a library reads from the environment while it is imported cannot be changed any more.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

LIBRARIES = (
    "FrEIA.framework",
    "IPython",
    "hydra",
    "matplotlib.pyplot",
    "mlflow.store.tracking.sqlalchemy_store",
    "pandas",
    "rich.progress",
    "scipy.stats",
    "timm",
    "torch",
    "torchvision",
)
UNREAD = {"COLUMNS", "CUDA_VISIBLE_DEVICES", "MLFLOW_TRACKING_URI", "PYTEST_CURRENT_TEST", "PYTHONPATH"}
"""Variables that no library reads at its import; the folders of PYTHONPATH are added in the fork."""


class Warm:
    """The process that has imported the libraries; it starts with the first command and ends with this one.

    Args:
        env: its environment, and that of the commands.
        modules: further modules that it imports.
    """

    def __init__(self, env: Mapping[str, str], modules: Sequence[str] = ()) -> None:
        self._env, self._modules, self._lock = dict(env), modules, threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def serves(self, env: Mapping[str, str]) -> bool:
        """True if a command in this environment finds the libraries in the same state as in a new process."""
        changed = {name for name, _ in self._env.items() ^ env.items()}
        return changed <= UNREAD

    def run(
        self, words: Sequence[str], *, cwd: Path, env: Mapping[str, str], seconds: float
    ) -> subprocess.CompletedProcess[str]:
        """Run a command like ``subprocess.run(words, capture_output=True, text=True)``.

        Args:
            words: python, ``-m``, a module and its arguments.
            cwd: where.
            env: an environment that it serves.
            seconds: how long it may take.

        Raises:
            subprocess.TimeoutExpired: it took longer, and was killed.
            ChildProcessError: the process that has imported the libraries ended; the message says how and why.
        """
        with self._lock, tempfile.TemporaryDirectory() as folder:
            files = [Path(folder) / name for name in ("stdout", "stderr")]
            request = {
                "words": list(map(str, words)),
                "cwd": str(cwd),
                "env": dict(env),
                "files": list(map(str, files)),
            }
            child, late = int(self._ask(json.dumps(request))), threading.Event()

            def kill() -> None:
                late.set()
                os.kill(child, signal.SIGKILL)

            timer = threading.Timer(seconds, kill)
            timer.start()
            try:
                status = int(self._ask())
            finally:
                timer.cancel()
            out, err = (path.read_text() for path in files)
        if late.is_set():
            raise subprocess.TimeoutExpired(words, seconds, out, err)
        return subprocess.CompletedProcess(words, status, out, err)

    def _ask(self, request: str | None = None) -> str:
        """Send a line, if one is given, and return the next answer."""
        if self._process is None:
            words, pipe = [sys.executable, "-m", "tests.warm", *self._modules], subprocess.PIPE
            self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  nobody would empty a pipe
            self._process = subprocess.Popen(
                words, env=self._env, stdin=pipe, stdout=pipe, stderr=self._errors, text=True
            )
            atexit.register(self._process.communicate)  # it ends with its input
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        answer = ""
        with contextlib.suppress(BrokenPipeError):  # it has ended
            if request is not None:
                print(request, file=self._process.stdin, flush=True)
            answer = self._process.stdout.readline()
        if not answer:
            raise ChildProcessError(self._last_words())
        return answer

    def _last_words(self) -> str:
        """Forget the process, which has ended, and return its exit status and the end of its stderr."""
        assert self._process is not None
        process, self._process = self._process, None
        atexit.unregister(process.communicate)
        process.communicate()
        self._errors.seek(0)
        return f"`{shlex.join(process.args)}` ended with status {process.returncode}:\n{self._errors.read()[-4000:]}"


def main() -> None:
    """Serve requests; in a fork, run the command."""
    atexit.register(_silence)
    for module in (*LIBRARIES, *sys.argv[1:]):
        importlib.import_module(module)
    gc.freeze()  # a fork's collector would copy every page that it looks at
    for line in sys.stdin:
        child = os.fork()
        if not child:
            _become(json.loads(line))
            return
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _silence() -> None:
    """Suppress complaints of libraries, at the very end, about frozen objects that were not collected."""
    sys.stderr.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _become(request: dict[str, Any]) -> None:
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    for number, path in enumerate([os.devnull, *request["files"]]):
        opened = os.open(path, flags if number else os.O_RDONLY)
        os.dup2(opened, number)
        os.close(opened)
    _, _, module, *arguments = request["words"]
    sys.argv = [module, *arguments]
    places = request["env"].get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:1] = [os.getcwd(), *(place for place in places if place and place not in sys.path)]
    importlib.invalidate_caches()
    if "SNAPSHOTS" in request["env"]:
        from tests.snapshots import begin

        begin()
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
