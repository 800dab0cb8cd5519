"""Sends a run's journal to MLflow: every point arrives once, and no failure of the server stops the training."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from altub_exp.machine.disk import write_json
from altub_exp.runs.folder import RunFolder, read_json
from altub_exp.runs.journal import now_ms
from altub_exp.runs.states import RunState
from altub_exp.tracking.store import active_run, connect, experiment_id, parent_run, reason
from altub_exp.tracking.uri import redacted, resolve_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

METRICS_PER_CALL = 1000
PARAMS_PER_CALL = 100
PARAM_LENGTH = 6000
"""MLflow's own limits; a longer value is cut."""

PARENT = "mlflow.parentRunId"
"""The tag by which MLflow shows a run below another."""

FIRST_PAUSE = 5.0
LONGEST_PAUSE = 60.0
"""Seconds between attempts while the server cannot be reached; doubled each time."""

log = logging.getLogger("altub_exp")


def recorded(folder: RunFolder) -> dict[str, Any] | None:
    """What a run's :class:`Tracker` was made of (uri, experiment, name, tags, params, start_time); None: it had none.

    Raises:
        UserError: the file is damaged.
    """
    return read_json(folder.path / "record.json")


@dataclass
class Tracker:
    """One run's way to MLflow.

    The folder's ``record.json`` keeps what a later ``python -m altub_exp.sync`` needs, its ``tracking.json`` where the
    run stands in MLflow.

    Args:
        uri: what :func:`altub_exp.tracking.uri.resolve_uri` returned.
        experiment: name of the MLflow experiment; created where it is missing.
        name: name of the MLflow run.
        tags: tags of the run; ``status`` and ``run_uid`` are added.
        params: the flattened configuration.
        folder: where the journal lies.
        start_time: when the run began, Unix milliseconds.
        clock: seconds that never go back.
        keep_record: False leaves ``record.json`` as it is.

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
    keep_record: bool = True
    sent: int = field(default=0, init=False)
    _run_id: str = field(default="", init=False)
    _arrived: set[tuple[str, int]] | None = field(default=None, init=False)  # None: ask the server
    _outage: bool = field(default=False, init=False)
    _whole: bool = field(default=False, init=False)  # tied to its sweep's run, where it has one
    _pause: float = field(default=FIRST_PAUSE, init=False)
    _retry_at: float = field(default=float("-inf"), init=False)

    def __post_init__(self) -> None:
        self.tags = {key: str(value) for key, value in self.tags.items()}
        self.params = {key: str(value) for key, value in self.params.items()}
        if self.keep_record:
            kept = ("experiment", "name", "tags", "params", "start_time")
            write_json(self._record, {"uri": redacted(self.uri)} | {key: getattr(self, key) for key in kept})

    @classmethod
    def from_record(cls, folder: RunFolder, uri: str | None = None, experiment: str | None = None) -> Tracker | None:
        """The tracker that recorded a folder, or None where none did; ``uri`` and ``experiment`` replace its own."""
        record = recorded(folder)
        if record is None:
            return None
        record["uri"] = uri or resolve_uri(record["uri"])
        record["experiment"] = experiment or record["experiment"]
        return cls(**record, folder=folder, keep_record=False)

    @property
    def _record(self) -> Path:
        return self.folder.path / "record.json"

    def flush(self, last_epoch: int) -> bool:
        """Send the journal's rows up to an epoch, as far as the server lacks them.

        Call it for epochs that no resumed run computes again: up to the checkpoint. While the server cannot be reached
        it returns at once, apart from one attempt after each pause.

        Returns:
            Whether all of them have arrived.
        """
        if self.clock() < self._retry_at:
            return False
        return self._attempt(
            lambda: self.send(last_epoch),
            "training goes on, the points stay in the run's folder and are sent later",
            quiet=self._outage,
        )

    def finish(self, status: RunState, summary: Mapping[str, float], artifacts: Sequence[Path]) -> bool:
        """Send all that is missing of a run that has ended, and mark it as ended; may be called again.

        Of a failed run, what follows the checkpoint stays in the journal: a resumed run computes it again.

        State, summary and end time are kept in the folder's status.

        Args:
            status: how it ended.
            summary: metrics of the whole run, recorded at the last epoch.
            artifacts: files to upload.

        Returns:
            Whether all has arrived.
        """
        self.folder.write_status(state=status, summary=dict(summary))
        return self._attempt(
            lambda: self.send(self.folder.last_final_epoch(status), status, summary, artifacts),
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
        """One attempt of :meth:`flush` (``running``) or :meth:`finish` (another state): rows up to an epoch, or all.

        Raises:
            UserError: the experiment was deleted, or a file of the run is damaged.
            Exception: whatever kept a point or a file from arriving.
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
            self._arrived = self._reconcile(client, run, state)
        missing = [point for point in points if (point.key, point.step) not in self._arrived]
        for start in range(0, len(missing), METRICS_PER_CALL):
            self._log_metrics(client, missing[start : start + METRICS_PER_CALL])
        self._upload(client, artifacts)
        if state != RunState.running:
            client.set_terminated(self._run_id, "FINISHED" if state == RunState.finished else "FAILED", ended)
            if self._whole:
                self._remember({"complete": self._end()})

    def complete(self) -> bool:
        """Whether all of the run, as it has ended, is in MLflow: what its folder remembers, without asking the server.

        The child of a sweep is complete when it is tied to the sweep's own run.
        """
        place = self._places().get(redacted(self.uri), {})
        return (place.get("experiment"), place.get("complete")) == (self.experiment, self._end())

    def _end(self) -> list[Any]:
        """What tells one end of the run from another."""
        status = self.folder.status() or {}
        return [status.get("ended"), *sorted(status.get("summary", {}))]

    def _attempt(self, work: Callable[[], None], consequence: str, quiet: bool = False) -> bool:
        try:
            work()
        except Exception as error:  # whatever MLflow, its database or the network raise: training goes on
            self._arrived = None  # a request may have arrived although its reply did not
            self._retry_at = self.clock() + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            if not quiet:
                log.warning("MLflow at %s does not record (%s); %s.", redacted(self.uri), reason(error), consequence)
            self._outage = True
            return False
        if self._outage:
            log.info("MLflow at %s records again; what was missing has arrived.", redacted(self.uri))
        self._outage, self._pause, self._retry_at = False, FIRST_PAUSE, float("-inf")
        return True

    def _log_metrics(self, client: MlflowClient, metrics: list[Metric]) -> None:
        assert self._arrived is not None
        # Equal points are stored once: so a request that the server only seemed to drop, and then carries out after the
        # reconciliation, doubles nothing. That is why a point's time is the journal's and not the time of sending.
        client.log_batch(self._run_id, metrics=metrics, synchronous=True)
        self._arrived |= {(metric.key, metric.step) for metric in metrics}
        self.sent += len(metrics)

    def _register(self, client: MlflowClient) -> Run:
        """The run in MLflow: the one in ``tracking.json``, else the one with our ``run_uid``, else a new one."""
        from mlflow.entities import ViewType

        place = self._places().get(redacted(self.uri), {})
        run = active_run(client, place["run_id"]) if place.get("experiment") == self.experiment else None
        if run is None:
            uid = self.folder.run_uid()
            parent = experiment_id(client, self.uri, self.experiment)
            # a creation whose reply was lost is found again by its uid
            found = client.search_runs([parent], f"tags.run_uid = '{uid}'", ViewType.ACTIVE_ONLY)
            run = found[0] if found else self._create(client, parent, uid)
            self._remember(
                {"experiment": self.experiment, "experiment_id": parent, "run_id": run.info.run_id, "complete": None}
            )
        self._run_id = run.info.run_id
        return run

    def _places(self) -> dict[str, Any]:
        return read_json(self.folder.path / "tracking.json") or {}

    def _remember(self, facts: Mapping[str, Any]) -> None:
        """Keep where, and how, the run stands in this store."""
        places = self._places()
        places[redacted(self.uri)] = {**places.get(redacted(self.uri), {}), **facts}
        write_json(self.folder.path / "tracking.json", places)

    def _create(self, client: MlflowClient, parent: str, uid: str) -> Run:
        tags = {**self.tags, "run_uid": uid, "status": RunState.running.value}
        return client.create_run(parent, start_time=self.start_time, tags=tags, run_name=self.name)

    def _reconcile(self, client: MlflowClient, run: Run, state: RunState) -> set[tuple[str, int]]:
        """Bring params, tags and status of the run up to date; returns the points (metric, step) that are there."""
        from mlflow.entities import Param, RunTag

        # a param can never be changed: those of the first attempt stay
        params = [Param(key, value[:PARAM_LENGTH]) for key, value in self.params.items() if key not in run.data.params]
        for start in range(0, len(params), PARAMS_PER_CALL):
            client.log_batch(self._run_id, params=params[start : start + PARAMS_PER_CALL], synchronous=True)
        wanted = {**self.tags, "status": state.value}
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
        there = {file.path: file.file_size for file in client.list_artifacts(self._run_id)}
        for path in artifacts:
            if there.get(path.name) != path.stat().st_size:
                client.log_artifact(self._run_id, str(path))
