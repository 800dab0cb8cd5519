"""What MLflow holds of this program's runs, read in bulk: tags, params, last values and series of the metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from altub_exp.errors import UserError
from altub_exp.metrics.stability import Stability, stability
from altub_exp.runs.folder import State
from altub_exp.tracking.store import reason
from altub_exp.tracking.uri import database, redacted, resolve_uri
from analysis.runs.readers import read_database, read_server

BASES = ("none", "stereotype", "cnn", "alternating")
"""The base distributions in the order of the paper's Table 6."""

DEFAULT_URI = "sqlite:///mlflow.db"


@dataclass(frozen=True)
class Run:
    """One MLflow run; metrics are fractions, loss in nats per dimension, times in Unix milliseconds, epochs from 1.

    Attributes:
        run_id: MLflow's.
        name: MLflow's.
        experiment: the name of its MLflow experiment.
        tags: all tags.
        params: the flattened configuration.
        metrics: the last value of every metric.
        series: {metric: {epoch: value}} of the metrics in :data:`analysis.runs.readers.SERIES`; of an epoch that was
            recorded twice the later value.
        started: when it began.
        chosen_window: epochs of the statistics that replace the run's own.
    """

    run_id: str
    name: str
    experiment: str
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    series: Mapping[str, Mapping[int, float]]
    started: int = 0
    chosen_window: tuple[int, int] | None = None

    @property
    def state(self) -> str:
        """``running``, ``finished``, ``failed`` or ``crashed``; ``unknown`` where the run does not say."""
        status = self.tags.get("status", "")
        return status if status in list(State) else "unknown"

    @property
    def window(self) -> tuple[int, int]:
        """The epochs of the stability statistics: those chosen, else the run's own.

        Raises:
            UserError: the run has not recorded its own.
        """
        if self.chosen_window is not None:
            return self.chosen_window
        try:
            return int(self.params["eval.first_epoch"]), int(self.params["eval.last_epoch"])
        except (KeyError, ValueError):
            raise UserError(
                f"MLflow run {self.run_id} ({self.name}) has not recorded its window of epochs: choose one by "
                "--window FIRST LAST, or delete the run."
            ) from None

    @property
    def due(self) -> list[int]:
        """The epochs of the window that are evaluated."""
        first, last = self.window
        every = int(self.params.get("eval.every", 1))
        return [epoch for epoch in range(first, last + 1) if epoch % every == 0]

    def absent(self, metric: str) -> int:
        """How many epochs of the window were due for evaluation and are not there."""
        there = self.series.get(metric, {})
        return sum(epoch not in there for epoch in self.due)

    @property
    def missing(self) -> int:
        """How many evaluations of the window are not there; ``image_auroc`` is what every evaluation records."""
        return self.absent("image_auroc")

    @property
    def last_epoch(self) -> int:
        """The last epoch that any series reaches; 0 before the first."""
        return max((epoch for series in self.series.values() for epoch in series), default=0)

    def statistics(self, metric: str) -> Stability | None:
        """Mean, standard deviation and best as fractions; None where the run does not reach into its window."""
        series = self.series.get(metric)
        return stability(series, *self.window) if series else None


@dataclass(frozen=True)
class Records:
    """What was read.

    Attributes:
        uri: the tracking URI, without user name and password.
        experiments: names of the MLflow experiments that were read.
        runs: in the order of the tables.
    """

    uri: str
    experiments: tuple[str, ...]
    runs: tuple[Run, ...]

    @cached_property
    def by_id(self) -> Mapping[str, Run]:
        """The runs by MLflow's ids."""
        return {run.run_id: run for run in self.runs}

    def windowed(self, first: int, last: int) -> Records:
        """The same with statistics over the epochs first … last, both included."""
        return replace(self, runs=tuple(replace(run, chosen_window=(first, last)) for run in self.runs))


def tracking_uri(given: str | None) -> str:
    """The store to read: the one given, else ``MLFLOW_TRACKING_URI``, else ``mlflow.db`` in the working folder.

    Raises:
        UserError: there is no store at that place.
    """
    uri = resolve_uri(given or DEFAULT_URI, environment=given is None, write=False)
    path = database(uri)
    if path is not None and not path.is_file():
        raise UserError(f"There is no MLflow store {path}: give --tracking-uri, or train first.")
    return uri


def read(uri: str, experiments: Sequence[str] | None = None) -> Records:
    """All runs of this program (those with the tag ``run_key``, so no parents of sweeps) that were not deleted.

    A database is read by SQL, a server through its interface; nothing is written.

    Args:
        uri: what :func:`tracking_uri` returned.
        experiments: names of MLflow experiments; None for all that hold such runs.

    Raises:
        UserError: there is no such experiment, or the store cannot be read.
    """
    reader = read_server if uri.startswith(("http", "databricks")) else read_database
    try:
        found = reader(uri, experiments)
    except Exception as error:  # whatever MLflow, the database's driver or the network raise
        why = reason(error)
        raise UserError(f"MLflow at {redacted(uri)} cannot be read ({why}); give another --tracking-uri.") from error
    for name in experiments or ():
        if name not in found.experiments:
            raise UserError(
                f"{redacted(uri)} holds no experiment {name!r}: give --tracking-uri and --experiment, or train first."
            )
    runs = sorted((Run(**vars(one)) for one in found.runs), key=place)
    names = tuple(experiments) if experiments else tuple(sorted({run.experiment for run in runs}))
    return Records(redacted(uri), names, tuple(runs))


def place(run: Run) -> tuple[object, ...]:
    """Where a run stands in a table: by data, model and backbone, then the base distribution, then the seed."""
    base = run.tags.get("altub", "")
    rank = BASES.index(base) if base in BASES else len(BASES)
    keys = (run.tags.get(tag, "") for tag in ("dataset", "category", "model", "backbone"))
    seed = run.tags.get("seed", "")
    return (*keys, rank, base, int(seed) if seed.isdecimal() else 0, run.started, run.run_id)
