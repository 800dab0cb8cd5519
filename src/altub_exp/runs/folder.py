"""A run's folder: its files, its status and its lock. A process that is killed while writing damages nothing."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from altub_exp.errors import UserError
from altub_exp.machine.disk import make_folder
from altub_exp.runs.journal import Journal, now_ms
from altub_exp.runs.seal import ANEW, Damaged, archive_facts, read_sealed_json, write_sealed_json
from altub_exp.runs.states import FINAL, RunState

DIED = "its process ended without giving a reason (killed, out of memory, or the machine went down)"
"""The reason recorded for a run that could not record one itself, see :meth:`RunFolder.mark_dead`."""

PATIENCE = 0.5
"""Seconds to wait for a lock: far longer than a check holds it, so that a check never stops a run that starts."""


RESTORE = f"remove the file, and the run's training command restores it from the checkpoint, or {ANEW}"
"""The remedy for a damaged status."""

ENDING = ("ended", "summary", "journal")
"""Fields of the status that a run has when it has ended."""


class RunLocked(UserError):
    """Another process holds the run's lock; a launcher recognises it by its exit status (EX_TEMPFAIL)."""

    status = 75


def _inode(file: Path) -> int | None:
    with contextlib.suppress(FileNotFoundError):
        return file.stat().st_ino
    return None


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run. All times in its files are Unix milliseconds."""

    path: Path

    @property
    def config(self) -> Path:
        """Configuration file of the run."""
        return self.path / "config.yaml"

    @property
    def status_file(self) -> Path:
        """Status file: state, process, times and versions; see :meth:`write_status`."""
        return self.path / "status.json"

    @property
    def journal(self) -> Journal:
        """Journal of the epochs."""
        return Journal(self.path / "metrics.jsonl")

    @property
    def checkpoint(self) -> Path:
        """Checkpoint from which the run is resumed."""
        return self.path / "checkpoint.pt"

    @property
    def log(self) -> Path:
        """Log file: a copy of the terminal's messages."""
        return self.path / "train.log"

    @property
    def normality(self) -> Path:
        """Tests of normality of the latent units, see ``altub_exp.measure``."""
        return self.path / "normality.json"

    @property
    def record(self) -> Path:
        """Arguments with which the run is sent to MLflow, see :class:`~altub_exp.tracking.tracker.Tracker`."""
        return self.path / "record.json"

    @property
    def places(self) -> Path:
        """Id and completeness of the run in each store of MLflow."""
        return self.path / "tracking.json"

    @property
    def is_archived(self) -> bool:
        """True if :meth:`archive` has put this run aside."""
        return re.search(r"\.old-\d+$", self.path.name) is not None

    def artifacts(self) -> list[Path]:
        """Return the existing files that are uploaded to MLflow: configuration, tests of normality, pictures."""
        files = (self.config, self.normality, *sorted(self.path.glob("*.png")))
        return [path for path in files if path.is_file()]

    @contextlib.contextmanager
    def lock(self, patience: float = PATIENCE) -> Iterator[None]:
        """Hold the run's lock, which the system releases whenever the process ends.

        Args:
            patience: seconds to wait for another process to release it.

        Raises:
            RunLocked: another process holds the lock.
        """
        make_folder(self.path, "runs_dir")
        try:
            lock = self._acquired(patience)
        except Timeout:
            status = self.status() or {}
            if status.get("state") != RunState.running:  # being archived, or sent to MLflow
                raise RunLocked(f"Another process holds {self.path}; try again in a moment.") from None
            since = datetime.fromtimestamp(status["since"] / 1000)
            raise RunLocked(
                f"This run is being computed by process {status['pid']} on {status['host']} (since "
                f"{since:%Y-%m-%d %H:%M:%S}); wait for it, or choose another seed."
            ) from None
        try:
            yield
        finally:
            lock.release()

    def is_locked(self) -> bool:
        """Return True if a living process holds the run's lock; write nothing to the disk."""
        if not (self.path / ".lock").exists():
            return False
        try:
            with self.lock(patience=0):
                return False
        except RunLocked:
            return True

    def _acquired(self, patience: float) -> FileLock:
        file = self.path / ".lock"
        while True:
            before = _inode(file)
            lock = FileLock(file, timeout=patience)
            lock.acquire()
            # archiving the folder moves its lock too: a file opened before may be the lock of the archived run
            if before is None or _inode(file) == before:
                return lock
            lock.release()

    def has_died(self) -> bool:
        """Return True if the run's process has died: the status says running, and no process holds the lock.

        A run takes its lock before it writes a status, so a run that is just starting never counts as dead.

        Raises:
            UserError: the status is damaged.
        """
        return self._says_running() and not self.is_locked() and self._says_running()  # it may have ended meanwhile

    def mark_dead(self) -> bool:
        """Mark a run as failed if its process has died; call it while holding the lock, which proves the death.

        The recorded end is the time of the last write to a file. The same command resumes the run.

        Returns:
            True if the status said running until now.

        Raises:
            UserError: the status is damaged.
        """
        if not self._says_running():
            return False
        files = [file for file in (self.status_file, self.journal.file, self.log) if file.exists()]
        ended = max(file.stat().st_mtime_ns for file in files) // 1_000_000
        self.write_status(state=RunState.failed, reason=DIED, interrupted=True, ended=ended)
        return True

    def _says_running(self) -> bool:
        return (self.status() or {}).get("state") == RunState.running

    def status(self) -> dict[str, Any] | None:
        """Return the fields of the status file, or None if there is no file.

        Raises:
            UserError: the file is damaged.
        """
        return read_sealed_json(self.status_file, RESTORE)

    def state(self) -> RunState | None:
        """Return the state in the status, or None if there is no status.

        Raises:
            UserError: the status is damaged, or names no state.
        """
        if (status := self.status()) is None:
            return None
        if status.get("state") not in tuple(RunState):
            raise Damaged(f"{self.status_file} names no state: {RESTORE}.")
        return RunState(status["state"])

    def exists(self) -> bool:
        """Return True if a run has recorded something here, even if its files are damaged."""
        return any(os.path.lexists(file) for file in (self.status_file, self.checkpoint, self.journal.file))

    def write_status(self, **fields: Any) -> None:
        """Merge fields into the status.

        ``state`` changes further fields: ``running`` sets pid, host and since of this process and, the first time,
        started; it drops the :data:`ENDING` of an earlier attempt. The other states set ended when they are new.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        status = self.status() or {}
        now = now_ms()
        state = fields.get("state")
        if state == RunState.running:
            status = {key: value for key, value in status.items() if key not in ENDING}
            status |= {"pid": os.getpid(), "host": socket.gethostname(), "since": now}
            status.setdefault("started", now)
        elif state is not None and (state != status.get("state") or "ended" not in status):
            status["ended"] = now
        write_sealed_json(self.status_file, status | fields)

    def run_uid(self) -> str:
        """Return the unique name of this run: 32 hex digits, drawn once and kept in the status."""
        uid = self.known_uid()
        if uid is None:
            uid = uuid.uuid4().hex
            self.write_status(run_uid=uid)
        return uid

    def known_uid(self) -> str | None:
        """Return the ``run_uid`` in the status, or otherwise in the checkpoint; None if neither has one."""
        uid = (self.status() or {}).get("run_uid")
        if uid is None and self.checkpoint.exists():
            uid = (archive_facts(self.checkpoint) or {}).get("run_uid")
        return uid

    def last_final_epoch(self, state: RunState) -> int | None:
        """Return the last epoch that no resumed run repeats; None if a run in this state is never resumed."""
        if state in FINAL:
            return None
        return int((self.status() or {}).get("checkpoint_epoch", 0))

    def discard(self, keep: Path) -> None:
        """Remove the folder of a run that recorded nothing, and the empty folders between it and ``keep``."""
        shutil.rmtree(self.path)
        for parent in self.path.parents:
            if parent == keep.parent or any(parent.iterdir()):
                break
            parent.rmdir()

    def archive(self) -> Path:
        """Rename the folder to ``NAME.old-1`` or the next free number, and return the new path."""
        number = 1
        while (archived := self.path.with_name(f"{self.path.name}.old-{number}")).exists():
            number += 1
        return self.path.rename(archived)


def run_folders(root: Path, *, without_status: bool = False) -> list[RunFolder]:
    """Return every run below a folder, sorted by path, including archived runs.

    Args:
        root: the folder.
        without_status: True adds runs that have lost their status, but have a checkpoint or a journal.

    Raises:
        UserError: there is no such folder.
    """
    if not root.is_dir():
        raise UserError(f"There is no folder {root}; name the one that holds the runs.")
    names = ["status.json", *(["checkpoint.pt", "metrics.jsonl"] if without_status else [])]
    return [RunFolder(path) for path in sorted({file.parent for name in names for file in root.rglob(name)})]
