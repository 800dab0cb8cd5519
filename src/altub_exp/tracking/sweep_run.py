"""The MLflow run of a sweep: the parent of its runs, found by the sweep's name when the sweep is resumed.

At the end of the sweep it gets the report of :mod:`altub_exp.runs.sweep_report`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from filelock import FileLock

from altub_exp.errors import UserError, was_interrupted
from altub_exp.machine.terminal import console
from altub_exp.runs.folder import RunFolder
from altub_exp.runs.journal import now_ms
from altub_exp.runs.sweep_folder import LOCK_WAIT, SweepFolder
from altub_exp.runs.sweep_report import Report, command_line, write_report
from altub_exp.tracking.columns import description_tags, log_datasets
from altub_exp.tracking.store import Unreachable, connect, experiment_id, parent_run, unreachable
from altub_exp.tracking.tracker import recorded, tracking_uri


@dataclass
class SweepRun:
    """A sweep's run in MLflow, as a context manager: created or found at the sweep's start, ended at its end.

    If MLflow cannot be reached, the sweep runs without it; :meth:`open` and :meth:`close` may be called again later.

    Args:
        uri: the return value of :func:`altub_exp.tracking.uri.resolve_uri`.
        experiment: name of the MLflow experiment.
        folder: folder of the sweep, which gives the MLflow run its name and its report; without a record in it the
            MLflow run has the sweep's name and gets no report. A lock file makes sure that only one process creates it.
    """

    uri: str
    experiment: str
    folder: SweepFolder
    _run_id: str | None = field(default=None, init=False)
    _closed: bool = field(default=False, init=False)
    _report: tuple[str, Report] | None = field(default=None, init=False)  # with the states of the runs in it

    @property
    def place(self) -> tuple[str, str]:
        """The tracking URI and the experiment, as in the record of the folder."""
        return self.uri, self.experiment

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
        record = self.folder.record() or {"title": self.folder.name, "arguments": [], "tags": {}}
        lock = self.folder.runs_dir / ".sweeps" / ".lock"
        with unreachable(self.uri):
            client = connect(self.uri)
            experiment = experiment_id(client, self.uri, self.experiment)
            lock.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(lock, timeout=LOCK_WAIT):
                self._run_id = parent_run(client, experiment, self.folder.name)
                if self._run_id is not None:
                    return str(client.get_run(self._run_id).info.status) == "RUNNING"
                tags = record["tags"] | {"sweep_parent": self.folder.name}
                if record["arguments"]:
                    tags |= description_tags({}, command_line(record["arguments"]))
                created = client.create_run(
                    experiment, start_time=started or now_ms(), tags=tags, run_name=record["title"]
                )
                self._run_id = str(created.info.run_id)
                return True

    def open(self) -> None:
        """Find or create the run and mark it as running, unless that has been done; errors as in :meth:`find`."""
        if self._run_id is None and not self.find():
            with unreachable(self.uri):
                connect(self.uri).update_run(self._run_id, status="RUNNING")

    def close(self, ended: int | None = None, status: str = "FINISHED") -> None:
        """Mark the run as ended, now or at a time in Unix milliseconds; after the sweep's end send the report first.

        A sweep that was stopped (a status other than FINISHED) is reported when it is resumed, or by
        ``python -m altub_exp.sync``.

        Raises:
            OSError: a file of the report cannot be written; the rest as in :meth:`find`.
        """
        self.open()
        is_due = status == "FINISHED" and self.folder.record() is not None
        states = self.folder.states()
        if is_due and (self._report is None or self._report[0] != states):
            self._report = states, write_report(self.folder)
        with unreachable(self.uri):
            if is_due and self._report:
                self._send(self._report[1])
            connect(self.uri).set_terminated(self._run_id, status, ended)
        if is_due:
            self.folder.mark_reported(self.place, states)
        self._closed = True

    def _send(self, report: Report) -> None:
        """Send the report and the images of all runs; each call replaces an earlier report."""
        client = connect(self.uri)
        from mlflow.entities import RunTag

        assert self._run_id is not None
        run = client.get_run(self._run_id)
        tags = [RunTag(*tag) for tag in description_tags(run.data.tags, report.description).items()]
        client.log_batch(self._run_id, tags=tags, synchronous=True)
        datasets = [(recorded(folder) or {}).get("dataset") for folder in self.folder.runs()]
        log_datasets(client, self._run_id, [dataset for dataset in datasets if dataset])
        for file in report.files:
            client.log_artifact(self._run_id, str(file))

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
        except (Unreachable, UserError, OSError) as refusal:
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
        uri, experiment = self._uri or tracking_uri(folder) or "", self._experiment or record["experiment"]
        key = (uri, experiment, record["tags"]["sweep"])
        if key not in self._sweeps:
            sweep = SweepRun(uri, experiment, SweepFolder(self._root, record["tags"]["sweep"]))
            self._sweeps[key] = sweep, sweep.find(record["start_time"]), []
        self._sweeps[key][2].append(folder)

    def due(self) -> list[tuple[SweepRun, int | None]]:
        """Return the sweeps to end and to report, since none of their runs is computing, each with its end.

        Raises:
            UserError: a file of a sweep or a run is damaged.
        """
        due = []
        for sweep, running, folders in self._sweeps.values():
            if (running or not sweep.folder.is_reported(sweep.place)) and not any(
                folder.is_locked() for folder in folders
            ):
                ended = max(int((folder.status() or {}).get("ended", 0)) for folder in folders)
                due.append((sweep, ended or None))
        return due
