"""The MLflow run of a sweep: the parent of its runs, found by the sweep's name when the sweep is resumed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from filelock import FileLock

from altub_exp.errors import UserError, was_interrupted
from altub_exp.machine.terminal import console
from altub_exp.runs.folder import RunFolder
from altub_exp.runs.journal import now_ms
from altub_exp.tracking.store import Unreachable, connect, experiment_id, parent_run, unreachable
from altub_exp.tracking.tracker import recorded
from altub_exp.tracking.uri import resolve_uri

LOCK_WAIT = 60.0
"""Seconds to wait for another process that creates the same run."""


@dataclass
class SweepRun:
    """A sweep's run in MLflow, as a context manager: created or found at the sweep's start, ended at its end.

    If MLflow cannot be reached, the sweep runs without it; :meth:`open` and :meth:`close` may be called again later.

    Args:
        uri: the return value of :func:`altub_exp.tracking.uri.resolve_uri`.
        experiment: name of the MLflow experiment.
        name: name of the sweep.
        runs_dir: folder of its runs; its lock file makes sure that only one process creates the MLflow run.
        arguments: the command line, which MLflow shows as the run's note.
    """

    uri: str
    experiment: str
    name: str
    runs_dir: Path
    arguments: Sequence[str] = ()
    _run_id: str | None = field(default=None, init=False)
    _closed: bool = field(default=False, init=False)

    def find(self, started: int | None = None) -> bool:
        """Find the run, or create it.

        Args:
            started: start of the sweep in Unix milliseconds, by default now.

        Returns:
            True if MLflow shows it as running.

        Raises:
            UserError: the experiment was deleted.
            Unreachable: MLflow does not record.
        """
        lock = self.runs_dir / ".sweeps" / ".lock"
        with unreachable(self.uri):
            client = connect(self.uri)
            experiment = experiment_id(client, self.uri, self.experiment)
            lock.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(lock, timeout=LOCK_WAIT):
                self._run_id = parent_run(client, experiment, self.name)
                if self._run_id is not None:
                    return str(client.get_run(self._run_id).info.status) == "RUNNING"
                tags = {"sweep_parent": self.name}
                if self.arguments:
                    tags["mlflow.note.content"] = f"-m {' '.join(self.arguments)}"
                created = client.create_run(experiment, start_time=started or now_ms(), tags=tags, run_name=self.name)
                self._run_id = str(created.info.run_id)
                return True

    def open(self) -> None:
        """Find or create the run and mark it as running, unless that has been done; errors as in :meth:`find`."""
        if self._run_id is None and not self.find():
            with unreachable(self.uri):
                connect(self.uri).update_run(self._run_id, status="RUNNING")

    def close(self, ended: int | None = None, status: str = "FINISHED") -> None:
        """Mark the run as ended, now or at a time in Unix milliseconds; errors as in :meth:`find`."""
        self.open()
        with unreachable(self.uri):
            connect(self.uri).set_terminated(self._run_id, status, ended)
        self._closed = True

    def __enter__(self) -> SweepRun:
        """Open the run, or report that MLflow does not record it."""
        try:
            self.open()
        except Unreachable as error:
            console.print(f"{error} The sweep's runs continue.", highlight=False, markup=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the run if it was opened and is not closed yet; an interrupted sweep's run counts as killed."""
        if self._closed or self._run_id is None:
            return
        failure = "KILLED" if was_interrupted(error) else "FAILED"
        status = "FINISHED" if error is None else failure

        try:
            self.close(status=status)
        except (Unreachable, UserError) as refusal:
            console.print(f"{refusal} The sweep's own run is not marked as ended.", highlight=False, markup=False)


class SweepRuns:
    """The sweeps of runs that are sent to MLflow, to the given place if there is one; see :meth:`prepare`."""

    def __init__(self, root: Path, uri: str | None, experiment: str | None) -> None:
        self._root, self._uri, self._experiment = root, uri, experiment
        self._sweeps: dict[tuple[str, str, str], tuple[SweepRun, bool, list[RunFolder]]] = {}

    def prepare(self, folder: RunFolder) -> None:
        """Find or create the MLflow run of a run's sweep, before the run is sent; without a sweep do nothing.

        Raises:
            UserError: a file of the run is damaged, or its experiment was deleted.
            Unreachable: MLflow does not record.
        """
        record = recorded(folder)
        if record is None or "sweep" not in record["tags"]:
            return
        uri, experiment = self._uri or resolve_uri(record["uri"]), self._experiment or record["experiment"]
        key = (uri, experiment, record["tags"]["sweep"])
        if key not in self._sweeps:
            sweep = SweepRun(*key, self._root)
            self._sweeps[key] = sweep, sweep.find(record["start_time"]), []
        self._sweeps[key][2].append(folder)

    def end(self) -> list[str]:
        """Mark the sweeps without a computing run as ended, and return their names; errors as in :meth:`prepare`."""
        names = []
        for sweep, running, folders in self._sweeps.values():
            if running and not any(folder.is_locked() for folder in folders):
                ended = max(int((folder.status() or {}).get("ended", 0)) for folder in folders)
                sweep.close(ended or None)
                names.append(sweep.name)
        return names
