"""The two ways to read many runs at once: SQL for a database, otherwise MLflow's server interface."""

from __future__ import annotations

import math
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa
from rich.progress import track

from altub_exp.machine.terminal import console
from altub_exp.metrics.stability import AUROCS
from altub_exp.tracking.store import SQLITE_WAIT, import_mlflow
from altub_exp.tracking.uri import database, whole
from analysis.runs.run import Run

if TYPE_CHECKING:
    from mlflow import MlflowClient

SERIES = (
    *(*AUROCS, "loss", "ks", "ks_std", "ks_channels", "mean_square", "ks_test_good"),
    *("norm_gain", "psi_mu_std", "psi_log_sigma", "psi_log_sigma_std"),
)
"""The metrics whose values at all epochs are read; of the others only the last value is read."""

OWN = "run_key"
"""The tag that distinguishes this program's runs from others and from the parents of sweeps."""

RUNS_AT_ONCE = 50
"""Runs per request to a server or database; a server allows 100."""

POINTS_AT_ONCE = 25_000
"""The most points that MLflow's bulk endpoint returns; it does not report that it left some out."""

BULK = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"

READ_SECONDS = 120
"""Seconds a server may take to answer: a busy one needs long for many points, and no training waits for it."""

RUNS_PER_PAGE = 100

Point = tuple[str, int, float]
"""Run id, step and value."""

Item = TypeVar("Item")


def batches(items: Sequence[str], size: int = RUNS_AT_ONCE) -> Iterator[Sequence[str]]:
    """Split a sequence into consecutive parts of at most ``size``.

    >>> [list(part) for part in batches(["a", "b", "c"], 2)]
    [['a', 'b'], ['c']]
    """
    return (items[start : start + size] for start in range(0, len(items), size))


def _progress(items: Sequence[Item], description: str) -> Iterable[Item]:
    return track(items, description, console=console, transient=True, disable=not console.is_terminal)


EXPERIMENTS = sa.table("experiments", *map(sa.column, ("experiment_id", "name", "lifecycle_stage")))
RUNS = sa.table("runs", *map(sa.column, ("run_uuid", "name", "experiment_id", "start_time", "lifecycle_stage")))
TAGS = sa.table("tags", *map(sa.column, ("run_uuid", "key", "value")))
PARAMS = sa.table("params", *map(sa.column, ("run_uuid", "key", "value")))
LATEST = sa.table("latest_metrics", *map(sa.column, ("run_uuid", "key", "value", "is_nan")))
METRICS = sa.table("metrics", *map(sa.column, ("run_uuid", "key", "value", "is_nan", "step", "timestamp")))


def read_database(uri: str, experiments: Sequence[str] | None) -> tuple[set[str], list[Run]]:
    """Read MLflow's tables; SQLite is opened read-only.

    Returns:
        The names of all experiments, and this program's runs of those that were asked for.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: the database cannot be read, or is not an MLflow store.
    """
    path = database(uri)
    if path is not None:
        source = f"{path.as_uri()}?mode=ro"
        engine = sa.create_engine("sqlite://", creator=lambda: sqlite3.connect(source, uri=True, timeout=SQLITE_WAIT))
    else:
        engine = sa.create_engine(whole(uri))
    try:
        with engine.connect() as connection:
            return _read(connection, experiments)
    finally:
        engine.dispose()


def _read(connection: sa.Connection, experiments: Sequence[str] | None) -> tuple[set[str], list[Run]]:
    active = sa.select(EXPERIMENTS.c.experiment_id, EXPERIMENTS.c.name).where(EXPERIMENTS.c.lifecycle_stage == "active")
    names = {row.experiment_id: row.name for row in connection.execute(active)}
    chosen = [key for key, name in names.items() if experiments is None or name in experiments]
    own = sa.select(TAGS.c.run_uuid).where(TAGS.c.key == OWN)
    rows = sa.select(RUNS).where(
        RUNS.c.lifecycle_stage == "active", RUNS.c.experiment_id.in_(chosen), RUNS.c.run_uuid.in_(own)
    )
    runs = {
        row.run_uuid: Run(row.run_uuid, row.name or "", names[row.experiment_id], started=row.start_time or 0)
        for row in connection.execute(rows)
    }
    for ids in _progress(list(batches(list(runs))), "Reading runs from the database"):
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
    return set(names.values()), list(runs.values())


def read_server(uri: str, experiments: Sequence[str] | None) -> tuple[set[str], list[Run]]:
    """Read through MLflow's client, the series through the endpoint of its own web interface.

    Returns:
        The names of all experiments, and this program's runs of those that were asked for.

    Raises:
        mlflow.exceptions.MlflowException: the server cannot be reached, or refuses.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(READ_SECONDS))  # before the program's own, which is short
    client = import_mlflow()(tracking_uri=whole(uri))
    names = {experiment.experiment_id: experiment.name for experiment in _pages(client.search_experiments)}
    chosen = [key for key, name in names.items() if experiments is None or name in experiments]
    runs: dict[str, Run] = {}
    for entity in _pages(client.search_runs, chosen, f"tags.{OWN} != ''", max_results=RUNS_PER_PAGE) if chosen else ():
        info, data = entity.info, entity.data
        runs[info.run_id] = Run(
            info.run_id,
            info.run_name or "",
            names[info.experiment_id],
            dict(data.tags),
            dict(data.params),
            dict(data.metrics),
            started=info.start_time or 0,
        )
    requests = [
        (key, ids)
        for key in SERIES
        for ids in batches([run_id for run_id, run in runs.items() if key in run.metrics], RUNS_AT_ONCE)
    ]
    for key, ids in _progress(requests, f"Reading series from {uri}"):
        for run_id, step, value in _history(client, uri, ids, key):
            runs[run_id].series.setdefault(key, {})[step] = value
    return set(names.values()), list(runs.values())


def _pages(search: Callable[..., Any], *arguments: Any, **options: Any) -> Iterator[Any]:
    token = None
    while True:
        page = search(*arguments, **options, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _history(client: MlflowClient, uri: str, ids: Sequence[str], key: str) -> list[Point]:
    """Return all points of a metric, a later one of the same step after the earlier."""
    points = _bulk(uri, ids, key)
    if points is not None and len(points) < POINTS_AT_ONCE:
        return points
    if points is not None and len(ids) > 1:  # some were left out
        middle = len(ids) // 2
        return [*_history(client, uri, ids[:middle], key), *_history(client, uri, ids[middle:], key)]
    return [
        (run_id, point.step, point.value)
        for run_id in ids
        for point in sorted(client.get_metric_history(run_id, key), key=lambda point: point.timestamp)
    ]


def _bulk(uri: str, ids: Sequence[str], key: str) -> list[Point] | None:
    """Return the bulk endpoint's points, in the order of their times; None if the server has no such endpoint.

    It is not part of MLflow's published interface, which takes one request per run and metric: more than three times
    as long.
    """
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request, verify_rest_response

    response = http_request(
        get_default_host_creds(whole(uri)),
        BULK,
        "GET",
        timeout=READ_SECONDS,
        params={"run_id": list(ids), "metric_key": key, "max_results": POINTS_AT_ONCE},
        raise_on_status=False,
    )
    if response.status_code == 404 and "error_code" not in response.text:  # otherwise MLflow itself answered
        return None
    points = verify_rest_response(response, BULK).json()["metrics"]
    return [(point["run_id"], int(point["step"]), float(point["value"])) for point in points]
