"""The tracker, which sends a run's journal to MLflow: every point arrives once, and no failure stops the training."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from altub_exp.errors import UserError
from altub_exp.runs.folder import RunFolder
from altub_exp.runs.journal import now_ms
from altub_exp.runs.outcome import outcome
from altub_exp.runs.seal import Damaged, read_sealed_json, write_sealed_json
from altub_exp.runs.states import RunState
from altub_exp.tracking.columns import description_tags, log_datasets
from altub_exp.tracking.store import (
    active_run,
    answer_within,
    connect,
    experiment_id,
    parent_run,
    reason,
    tagged_run,
)
from altub_exp.tracking.uri import database, resolve_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

METRICS_PER_CALL = 1000
PARAMS_PER_CALL = 100
PARAM_LENGTH = 6000
"""MLflow's limits; a longer value is cut."""

PARENT = "mlflow.parentRunId"
"""MLflow's tag for the parent of a run."""

FIRST_PAUSE = 5.0
LONGEST_PAUSE = 60.0
"""Seconds between attempts while the server cannot be reached; doubled each time."""

OUTAGE = 10.0
"""Seconds that a store may delay a process in all from its last answer on, while epochs are computed and at the end."""

AT_THE_END = 3.0
"""The share of them for the end of a run."""

ANSWER_WAIT = 6.0
"""Seconds that one answer may take, at most."""

log = logging.getLogger("altub_exp")


def recorded(folder: RunFolder) -> dict[str, Any] | None:
    """Return the arguments of a run's :class:`Tracker` (uri, experiment, name, tags, params, …), or None.

    Raises:
        UserError: the file is damaged.
    """
    return read_sealed_json(folder.record, "the run's training command writes it again")


def tracking_uri(folder: RunFolder) -> str | None:
    """Return the tracking URI that a recorded run is sent to, or None if it has no record.

    A SQLite store that was moved together with the run is found by its path from the run's folder.

    Raises:
        UserError: the record is damaged, or the folder of its store does not exist.
    """
    record = recorded(folder)
    return None if record is None else _store_of(folder, record)


def _store_of(folder: RunFolder, record: Mapping[str, Any]) -> str:
    uri, before = resolve_uri(record["uri"], write=False), record["tags"].get("run_folder")
    path = database(uri)
    if path is not None and uri == record["uri"] and not path.parent.is_dir():
        moved = folder.path.resolve() / os.path.relpath(path, before or path.parent)
        if before is None or not moved.is_file():
            raise UserError(
                f"Its store {path} does not exist any more: name the store by `python -m altub_exp.sync RUNS --uri …`."
            )
        uri = uri.replace(str(path), os.path.normpath(moved))
    return resolve_uri(uri, variable=None) if path is not None else uri


@dataclass
class Tracker:
    """The tracker of one run.

    The folder's ``record.json`` has the arguments for a later ``python -m altub_exp.sync``; its ``tracking.json`` has
    the id and the completeness of the run in each store.

    Args:
        uri: the return value of :func:`altub_exp.tracking.uri.resolve_uri`.
        experiment: name of the MLflow experiment; a missing one is created.
        name: name of the MLflow run.
        tags: tags of the run; ``status`` and ``run_uid`` are added.
        params: the flattened configuration.
        folder: folder of the run.
        start_time: start of the run, Unix milliseconds.
        clock: monotonic clock, in seconds.
        dataset: the images, see :func:`altub_exp.tracking.columns.log_datasets`.
        keep_record: False leaves ``record.json`` unchanged.

    Attributes:
        sent: number of points that this object has sent.
    """

    uri: str
    experiment: str
    name: str
    tags: Mapping[str, str]
    params: Mapping[str, Any]
    folder: RunFolder
    start_time: int
    clock: Callable[[], float] = time.monotonic
    dataset: Mapping[str, Any] | None = None
    keep_record: bool = True
    sent: int = field(default=0, init=False)
    _lost: ClassVar[dict[str, float]] = {}  # seconds lost to each store since it answered
    _run_id: str = field(default="", init=False)
    _arrived: set[tuple[str, int]] | None = field(default=None, init=False)  # None: ask the server
    _outage: bool = field(default=False, init=False)
    _whole: bool = field(default=False, init=False)  # linked to its sweep's run, if it has one
    _pause: float = field(default=FIRST_PAUSE, init=False)
    _retry_at: float = field(default=float("-inf"), init=False)

    def __post_init__(self) -> None:
        self.tags = {key: str(value) for key, value in self.tags.items()}
        self.params = {key: str(value) for key, value in self.params.items()}
        if self.keep_record:
            kept = ("uri", "experiment", "name", "tags", "params", "start_time", "dataset")
            write_sealed_json(self.folder.record, {key: getattr(self, key) for key in kept})

    @classmethod
    def from_record(cls, folder: RunFolder, uri: str | None = None, experiment: str | None = None) -> Tracker | None:
        """Make the tracker of a folder from its record, or return None; ``uri`` and ``experiment`` replace its own."""
        record = recorded(folder)
        if record is None:
            return None
        record["uri"] = uri or _store_of(folder, record)
        record["experiment"] = experiment or record["experiment"]
        return cls(**record, folder=folder, keep_record=False)

    def flush(self, last_epoch: int) -> bool:
        """Send the rows of the journal up to an epoch that the server lacks.

        Call it for epochs that no resumed run computes again, that is, up to the checkpoint. While the server cannot be
        reached it returns at once, apart from one attempt after each pause until :data:`OUTAGE` is nearly used up.

        Returns:
            True if all of them have arrived.
        """
        seconds = int(min(ANSWER_WAIT, OUTAGE - AT_THE_END - self._lost.get(self.uri, 0.0)))
        if self.clock() < self._retry_at or seconds < 2:  # drivers of databases wait at least 2 seconds
            return False
        return self._attempt(
            lambda: self.send(last_epoch),
            seconds,
            "training continues, the points stay in the run's folder and are sent later",
            quiet=self._outage,
        )

    def finish(self, status: RunState, summary: Mapping[str, float], artifacts: Sequence[Path]) -> bool:
        """Send the missing parts of a run that has ended, and mark it as ended; may be called again.

        The epochs of a failed run after its checkpoint are not sent: a resumed run computes them again. State, summary
        and end time are also written to the folder's status.

        Returns:
            True if everything has arrived.
        """
        self.folder.write_status(state=status, summary=dict(summary))
        return self._attempt(
            lambda: self.send(self.folder.last_final_epoch(status), status, summary, artifacts),
            int(max(AT_THE_END, min(ANSWER_WAIT, OUTAGE - self._lost.get(self.uri, 0.0)))),
            "nothing is lost: "
            + ("the sweep sends it at its end, or, " if "sweep" in self.tags else "")
            + "when MLflow can be reached again, run `python -m altub_exp.sync`",
        )

    def send(
        self,
        last_epoch: int | None,
        state: RunState = RunState.running,
        summary: Mapping[str, float] | None = None,
        artifacts: Sequence[Path] = (),
    ) -> None:
        """Try once to send the rows up to an epoch, or all; a state other than ``running`` also ends the run.

        Raises:
            UserError: the experiment was deleted, or a file of the run is damaged.
            Exception: any error of MLflow, its database or the network.
        """
        client = connect(self.uri)
        from mlflow.entities import Metric

        rows = [row for row in self.folder.journal.rows() if last_epoch is None or row["epoch"] <= last_epoch]
        points = [
            Metric(key, float(value), int(row["time"]), row["epoch"])
            for row in rows
            for key, value in row.items()
            if key not in ("epoch", "time") and isinstance(value, int | float)
        ]
        ended = int((self.folder.status() or {}).get("ended", 0)) or now_ms()
        last = max((row["epoch"] for row in rows), default=0)
        points += [Metric(key, float(value), ended, last) for key, value in (summary or {}).items()]
        if self._arrived is None or state != RunState.running:
            run = self._register(client)
            self._arrived = self._reconcile(client, run, state, rows)
        missing = [point for point in points if (point.key, point.step) not in self._arrived]
        for start in range(0, len(missing), METRICS_PER_CALL):
            self._log_metrics(client, missing[start : start + METRICS_PER_CALL])
        self._upload(client, artifacts)
        if state != RunState.running:
            client.set_terminated(self._run_id, "FINISHED" if state == RunState.finished else "FAILED", ended)
            if self._whole:
                self._remember({"complete": self._end()})

    def log_model(self, folder: Path, name: str) -> str:
        """Add a saved model to the run in MLflow, and return its URI, ``models:/…``.

        Raises:
            UserError: the experiment was deleted, or a file of the run is damaged.
            Exception: any error of MLflow, its database or the network.
        """
        client = connect(self.uri)
        from mlflow.entities import LoggedModelOutput

        run = self._register(client)
        model = client.create_logged_model(run.info.experiment_id, name, self._run_id, params=dict(run.data.params))
        client.log_outputs(self._run_id, [LoggedModelOutput(model.model_id, step=0)])
        client.log_model_artifacts(model.model_id, str(folder))
        client.finalize_logged_model(model.model_id, "READY")
        return str(model.model_uri)

    def complete(self) -> bool:
        """Return True if the ended run is complete in MLflow according to its folder, without asking the server.

        The child of a sweep is complete only if it is linked to the sweep's own run.
        """
        place = self._places().get(self.uri, {})
        return (place.get("experiment"), place.get("complete")) == (self.experiment, self._end())

    def _end(self) -> list[Any]:
        """Return a key that distinguishes one end of the run from another."""
        status = self.folder.status() or {}
        return [status.get("ended"), *sorted(status.get("summary", {}))]

    def _attempt(self, work: Callable[[], None], seconds: int, consequence: str, quiet: bool = False) -> bool:
        with answer_within(seconds):
            began = time.monotonic()
            try:
                work()
            except Exception as error:  # no error of MLflow, its database or the network may stop the training
                self._lost[self.uri] = self._lost.get(self.uri, 0.0) + time.monotonic() - began
                self._arrived = None  # a request may have arrived although its reply did not
                self._retry_at = self.clock() + self._pause
                self._pause = min(2 * self._pause, LONGEST_PAUSE)
                if not quiet:
                    log.warning("MLflow at %s does not record (%s); %s.", self.uri, reason(error), consequence)
                self._outage = True
                return False
        self._lost.pop(self.uri, None)
        if self._outage:
            log.info("MLflow at %s is recording again; the missing points have arrived.", self.uri)
        self._outage, self._pause, self._retry_at = False, FIRST_PAUSE, float("-inf")
        return True

    def _log_metrics(self, client: MlflowClient, metrics: list[Metric]) -> None:
        assert self._arrived is not None
        # MLflow stores equal points once, so a request that the server seemed to drop, but executes after the
        # reconciliation, duplicates nothing. For this a point has the journal's time, not the time of sending.
        client.log_batch(self._run_id, metrics=metrics, synchronous=True)
        self._arrived |= {(metric.key, metric.step) for metric in metrics}
        self.sent += len(metrics)

    def _register(self, client: MlflowClient) -> Run:
        """Return the run in MLflow: that of ``tracking.json``, or the one with our ``run_uid``, or a new one."""
        place = self._places().get(self.uri, {})
        run = active_run(client, place["run_id"]) if place.get("experiment") == self.experiment else None
        uid = self.folder.run_uid()
        if run is None or run.data.tags.get("run_uid") != uid:  # no such run, or the file is another run's
            parent = experiment_id(client, self.uri, self.experiment)
            # the reply to an earlier creation may have been lost
            run = tagged_run(client, parent, "run_uid", uid) or self._create(client, parent, uid)
            self._remember(
                {"experiment": self.experiment, "experiment_id": parent, "run_id": run.info.run_id, "complete": None}
            )
        self._run_id = run.info.run_id
        return run

    def _places(self) -> dict[str, Any]:
        """Return the content of ``tracking.json``; a damaged file is rebuilt from MLflow by the run's ``run_uid``."""
        try:
            return read_sealed_json(self.folder.places, "it is rebuilt from MLflow") or {}
        except Damaged as error:
            log.warning("%s", error)
            return {}

    def _remember(self, facts: Mapping[str, Any]) -> None:
        """Record id and completeness of the run in this store."""
        places = self._places()
        places[self.uri] = {**places.get(self.uri, {}), **facts}
        write_sealed_json(self.folder.places, places)

    def _create(self, client: MlflowClient, parent: str, uid: str) -> Run:
        tags = {**self.tags, "run_uid": uid, "status": RunState.running.value}
        return client.create_run(parent, start_time=self.start_time, tags=tags, run_name=self.name)

    def _reconcile(
        self, client: MlflowClient, run: Run, state: RunState, rows: Sequence[Mapping[str, Any]]
    ) -> set[tuple[str, int]]:
        """Bring params, images, tags and status of the run up to date, and return its points (metric, step) in MLflow.

        The rows are those that MLflow gets; the description names the last of them.
        """
        from mlflow.entities import Param, RunTag

        # MLflow never changes a param: those of the first attempt stay
        params = [Param(key, value[:PARAM_LENGTH]) for key, value in self.params.items() if key not in run.data.params]
        for start in range(0, len(params), PARAMS_PER_CALL):
            client.log_batch(self._run_id, params=params[start : start + PARAMS_PER_CALL], synchronous=True)
        if self.dataset and not (run.inputs and run.inputs.dataset_inputs):
            log_datasets(client, self._run_id, [self.dataset])
        text = outcome({**(self.folder.status() or {}), "state": state}, rows)
        wanted = {**self.tags, "status": state.value, **description_tags(run.data.tags, text)}
        if "sweep" in wanted and PARENT not in run.data.tags:
            parent = parent_run(client, run.info.experiment_id, wanted["sweep"])
            wanted |= {PARENT: parent} if parent else {}
        self._whole = "sweep" not in wanted or PARENT in run.data.tags or PARENT in wanted
        tags = [RunTag(*tag) for tag in wanted.items() if run.data.tags.get(tag[0]) != tag[1]]
        if tags:
            client.log_batch(self._run_id, tags=tags, synchronous=True)
        if state == RunState.running and run.info.status != "RUNNING":  # resumed
            client.update_run(self._run_id, status="RUNNING")
        return {(key, p.step) for key in run.data.metrics for p in client.get_metric_history(self._run_id, key)}

    def _upload(self, client: MlflowClient, artifacts: Sequence[Path]) -> None:
        if not artifacts:
            return
        sizes = {file.path: file.file_size for file in client.list_artifacts(self._run_id)}
        for path in artifacts:
            if sizes.get(path.name) != path.stat().st_size:
                client.log_artifact(self._run_id, str(path))
