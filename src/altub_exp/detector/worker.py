"""The handle of a worker: a process in anomalib's environment that computes a rival, see ``anomalib_worker``."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from altub_exp.config.rivals import PACKAGE, VERSION
from altub_exp.errors import UserError
from altub_exp.machine.disk import make_folder
from altub_exp.text import printable

SCRIPT = Path(__file__).with_name("anomalib_worker.py")


class WorkerFailure(UserError):
    """The worker refused its work, or ended before it was done; its run is recorded as failed."""


class Worker:
    """The process of a rival; use it as a context, at whose end the process and its folder are gone.

    Args:
        model: ``model.name``, for messages.
        python: the Python of anomalib's environment.
        folder: folder of the arrays that both sides exchange; it is made, and removed at the end.
        log: file of the worker's messages.

    Attributes:
        versions: versions of the worker's packages, once :meth:`wait_until_ready` has returned.
    """

    versions: Mapping[str, str]

    def __init__(self, model: str, python: Path, folder: Path, log: Path) -> None:
        self.folder = folder
        self._model, self._python, self._log = model, python, log

    def __enter__(self) -> Self:
        """Start the process, which imports anomalib meanwhile."""
        self._remove_folder()  # of a process that was killed
        make_folder(self.folder, "runs_dir")
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [self._python, "-I", SCRIPT, self.folder.absolute()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=self.folder,
                env=environment | {"TQDM_DISABLE": "1"},
                start_new_session=True,  # Ctrl-C reaches only this process, which ends it
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):  # it had ended before
                pipe.close()
        self._remove_folder()

    def wait_until_ready(self) -> None:
        """Wait until the process has imported anomalib.

        Raises:
            WorkerFailure: it cannot, or it is another version.
        """
        self.versions = self._answer()
        if (version := self.versions.get(PACKAGE)) != VERSION:
            raise WorkerFailure(
                f"model={self._model} needs {PACKAGE} {VERSION}, and the environment of {self._python} has {version}: "
                "make it by `make rivals`."
            )

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request, and return the answer.

        Raises:
            WorkerFailure: the worker refuses it, or has ended.
        """
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended, which its answer shows
            print(json.dumps(request), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line.startswith("{") else {"error": self._end()}
        if "error" in answer:
            raise WorkerFailure(
                f"{PACKAGE} cannot compute model={self._model} ({printable(answer['error'])}): correct that, or make "
                "its environment anew by `make rivals`."
            )
        return answer

    def _end(self) -> str:
        """Return the reason why the process has ended without an answer."""
        deadline = time.monotonic() + 5
        while self._process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        status = self._process.poll()
        if status is not None and status < 0:
            return f"it was killed by signal {-status}, as for lack of memory"
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"it ended with status {status}"

    def _remove_folder(self) -> None:
        if self.folder.exists():
            shutil.rmtree(self.folder)
