"""The two ways to read many runs at once: SQL where the tracking URI is a database, MLflow's interface of a server."""

from __future__ import annotations

import math
import os
import sqlite3
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from altub_exp.tracking.store import SQLITE_WAIT, import_mlflow
from altub_exp.tracking.uri import database, redacted

if TYPE_CHECKING:
    from mlflow import MlflowClient

SERIES = (
    "pixel_auroc",
    "image_auroc",
    "loss",
    "ks",
    "ks_std",
    "ks_channels",
    "mean_square",
    "ks_test_good",
)
"""The metrics whose values at all epochs are read; of the others the last value."""

OWN = "run_key"
"""The tag that tells this program's runs from others and from the parents of sweeps."""

RUNS_AT_ONCE = 50
"""For each request to a server or database; a server allows 100."""

POINTS_AT_ONCE = 25_000
"""What MLflow's bulk endpoint returns at most, without a word about what it left out."""

BULK = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"

READ_SECONDS = 120
"""How long a server may take for an answer: a busy one takes long for many points, and no training waits for it."""

RUNS_PER_PAGE = 100

QUIET_SECONDS = 3.0
"""Nothing is said about progress for so long."""


@dataclass
class Raw:
    """One run as it is stored; see :class:`analysis.runs.records.Run`."""

    run_id: str
    name: str
    experiment: str
    started: int
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    series: dict[str, dict[int, float]] = field(default_factory=dict)


@dataclass
class Found:
    """The names of all experiments that are there, and this program's runs of those that were asked for."""

    experiments: set[str]
    runs: list[Raw]


class Progress:
    """One line on stderr every few seconds while something takes long."""

    def __init__(self, what: str, total: int):
        self.what, self.total, self.told = what, total, time.monotonic()

    def __call__(self, done: int) -> None:
        """Say how far it is, if it is time."""
        if time.monotonic() - self.told >= QUIET_SECONDS:
            self.told = time.monotonic()
            print(f"{self.what}: {done} of {self.total} …", file=sys.stderr, flush=True)


def batches(items: Sequence[str], size: int = RUNS_AT_ONCE) -> Iterator[Sequence[str]]:
    """Consecutive parts of at most ``size``.

    >>> [list(part) for part in batches(["a", "b", "c"], 2)]
    [['a', 'b'], ['c']]
    """
    return (items[start : start + size] for start in range(0, len(items), size))


EXPERIMENTS = sa.table("experiments", *map(sa.column, ("experiment_id", "name", "lifecycle_stage")))
RUNS = sa.table("runs", *map(sa.column, ("run_uuid", "name", "experiment_id", "start_time", "lifecycle_stage")))
TAGS = sa.table("tags", *map(sa.column, ("run_uuid", "key", "value")))
PARAMS = sa.table("params", *map(sa.column, ("run_uuid", "key", "value")))
LATEST = sa.table("latest_metrics", *map(sa.column, ("run_uuid", "key", "value", "is_nan")))
METRICS = sa.table("metrics", *map(sa.column, ("run_uuid", "key", "value", "is_nan", "step", "timestamp")))


def read_database(uri: str, experiments: Sequence[str] | None) -> Found:
    """Read MLflow's tables; SQLite is opened read-only.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: the database cannot be read, or is no MLflow store.
    """
    path = database(uri)
    if path is not None:
        source = f"{path.as_uri()}?mode=ro"
        engine = sa.create_engine("sqlite://", creator=lambda: sqlite3.connect(source, uri=True, timeout=SQLITE_WAIT))
    else:
        engine = sa.create_engine(uri)
    try:
        with engine.connect() as connection:
            return _read(connection, experiments)
    finally:
        engine.dispose()


def _read(connection: sa.Connection, experiments: Sequence[str] | None) -> Found:
    active = sa.select(EXPERIMENTS.c.experiment_id, EXPERIMENTS.c.name).where(EXPERIMENTS.c.lifecycle_stage == "active")
    names = {row.experiment_id: row.name for row in connection.execute(active)}
    wanted = [key for key, name in names.items() if experiments is None or name in experiments]
    own = sa.select(TAGS.c.run_uuid).where(TAGS.c.key == OWN)
    chosen = sa.select(RUNS).where(
        RUNS.c.lifecycle_stage == "active", RUNS.c.experiment_id.in_(wanted), RUNS.c.run_uuid.in_(own)
    )
    runs = {
        row.run_uuid: Raw(row.run_uuid, row.name or "", names[row.experiment_id], row.start_time or 0)
        for row in connection.execute(chosen)
    }
    progress = Progress("reading runs from the database", len(runs))
    for number, ids in enumerate(batches(list(runs))):
        progress(number * RUNS_AT_ONCE)
        for table, kind in ((TAGS, "tags"), (PARAMS, "params")):
            for row in connection.execute(sa.select(table).where(table.c.run_uuid.in_(ids))):
                getattr(runs[row.run_uuid], kind)[row.key] = row.value
        for row in connection.execute(sa.select(LATEST).where(LATEST.c.run_uuid.in_(ids))):
            runs[row.run_uuid].metrics[row.key] = math.nan if row.is_nan else row.value
        points = (
            sa.select(METRICS)
            .where(METRICS.c.run_uuid.in_(ids), METRICS.c.key.in_(SERIES))
            .order_by(METRICS.c.timestamp, METRICS.c.step, METRICS.c.value)
        )
        for run_id, key, value, is_nan, step, _ in connection.execute(points):
            runs[run_id].series.setdefault(key, {})[int(step)] = math.nan if is_nan else value
    return Found(set(names.values()), list(runs.values()))


def read_server(uri: str, experiments: Sequence[str] | None) -> Found:
    """Read through MLflow's client, the series through the endpoint of its own web interface.

    Raises:
        mlflow.exceptions.MlflowException: the server cannot be reached, or refuses.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(READ_SECONDS))  # before the program's own, which is short
    client = import_mlflow()(tracking_uri=uri)
    names = {one.experiment_id: one.name for one in _pages(client.search_experiments)}
    wanted = [key for key, name in names.items() if experiments is None or name in experiments]
    runs: dict[str, Raw] = {}
    for found in _pages(client.search_runs, wanted, f"tags.{OWN} != ''", max_results=RUNS_PER_PAGE) if wanted else ():
        info, data = found.info, found.data
        runs[info.run_id] = Raw(
            info.run_id,
            info.run_name or "",
            names[info.experiment_id],
            info.start_time or 0,
            dict(data.tags),
            dict(data.params),
            dict(data.metrics),
        )
    progress = Progress(f"reading series from {redacted(uri)}", len(SERIES) * len(runs))
    done = 0
    for key in SERIES:
        having = [run_id for run_id, run in runs.items() if key in run.metrics]
        for ids in batches(having):
            for run_id, step, value in _history(client, uri, ids, key):
                runs[run_id].series.setdefault(key, {})[step] = value
            progress(done + len(ids))
        done += len(runs)
    return Found(set(names.values()), list(runs.values()))


def _pages(search: Any, *arguments: Any, **options: Any) -> Iterator[Any]:
    token = None
    while True:
        page = search(*arguments, **options, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _history(client: MlflowClient, uri: str, ids: Sequence[str], key: str) -> Iterable[tuple[str, int, float]]:
    """All points (run id, step, value) of a metric, a later one of the same step behind the earlier."""
    points = _bulk(uri, ids, key)
    if points is not None and len(points) < POINTS_AT_ONCE:
        return [(point["run_id"], int(point["step"]), float(point["value"])) for point in points]
    if points is not None and len(ids) > 1:  # some were left out
        middle = len(ids) // 2
        return [*_history(client, uri, ids[:middle], key), *_history(client, uri, ids[middle:], key)]
    return [
        (run_id, point.step, point.value)
        for run_id in ids
        for point in sorted(client.get_metric_history(run_id, key), key=lambda point: point.timestamp)
    ]


def _bulk(uri: str, ids: Sequence[str], key: str) -> list[dict[str, Any]] | None:
    """The bulk endpoint's points, in order of their times; None where the server has no such endpoint.

    It is no part of MLflow's published interface, but that takes one request per run and metric: more than three times
    as long.
    """
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request, verify_rest_response

    response = http_request(
        get_default_host_creds(uri),
        BULK,
        "GET",
        timeout=READ_SECONDS,
        params={"run_id": list(ids), "metric_key": key, "max_results": POINTS_AT_ONCE},
        raise_on_status=False,
    )
    if response.status_code == 404 and "error_code" not in response.text:  # else MLflow itself answered
        return None
    points: list[dict[str, Any]] = verify_rest_response(response, BULK).json()["metrics"]
    return points
