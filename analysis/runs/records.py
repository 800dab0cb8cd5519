"""All runs of this program that one MLflow store holds, read in bulk and in the order of the tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from altub_exp.errors import UserError
from altub_exp.text import printable
from altub_exp.tracking.store import reason
from altub_exp.tracking.uri import VARIABLE, database, is_server, resolve_uri
from analysis.runs.readers import read_database, read_server
from analysis.runs.run import Run

BASES = ("none", "stereotype", "cnn", "alternating")
"""The base distributions in the order of the paper's Table 6."""

CONTROLS = ("fitted", "constant", "channelwise", "mu_only", "sigma_only", "split_prior")
"""The base distributions that the paper does not have."""

DEFAULT_URI = "sqlite:///mlflow.db"


@dataclass(frozen=True)
class Records:
    """The runs that were read from a store.

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
        """Return the same runs with statistics over the epochs first … last, both included."""
        return replace(self, runs=tuple(replace(run, chosen_window=(first, last)) for run in self.runs))

    def without(self, run_ids: Iterable[str]) -> Records:
        """Return the same records without the runs of these ids."""
        excluded = set(run_ids)
        return replace(self, runs=tuple(run for run in self.runs if run.run_id not in excluded))


def tracking_uri(given: str | None) -> str:
    """Return the store to read: the one given, ``MLFLOW_TRACKING_URI``, or ``mlflow.db`` in the working folder.

    Raises:
        UserError: the store does not exist.
    """
    uri = resolve_uri(given or DEFAULT_URI, variable=None if given else VARIABLE, name="--tracking-uri", write=False)
    path = database(uri)
    if path is not None and not path.is_file():
        raise UserError(f"There is no MLflow store {path}: give --tracking-uri, or train first.")
    return uri


def read(uri: str, experiments: Sequence[str] | None = None) -> Records:
    """Read all runs of this program that were not deleted: those with the tag ``run_key``, so no parents of sweeps.

    A database is read by SQL, a server through its interface; nothing is written.

    Args:
        uri: the result of :func:`tracking_uri`.
        experiments: names of MLflow experiments; None for all that hold such runs.

    Raises:
        UserError: an experiment does not exist, or the store cannot be read.
    """
    reader = read_server if is_server(uri) else read_database
    try:
        known, runs = reader(uri, experiments)
    except Exception as error:  # whatever MLflow, the database's driver or the network raise
        why = reason(error)
        raise UserError(f"MLflow at {uri} cannot be read ({why}); give another --tracking-uri.") from error
    for name in experiments or ():
        if name not in known:
            raise UserError(
                f"{uri} holds no experiment {name!r}: give --tracking-uri and --experiment, or train first."
            )
    runs = [_printable(run) for run in runs]
    names = map(printable, experiments) if experiments else sorted({run.experiment for run in runs})
    return Records(str(uri), tuple(names), tuple(sorted(runs, key=table_order)))


def _printable(run: Run) -> Run:
    """Return a run whose texts have no control characters, wherever they will be shown."""
    texts = ({key: printable(value) for key, value in values.items()} for values in (run.tags, run.params))
    tags, params = texts
    return replace(run, name=printable(run.name), experiment=printable(run.experiment), tags=tags, params=params)


def table_order(run: Run) -> tuple[object, ...]:
    """Return the key by which tables sort runs: data, model and backbone, then the base distribution, then the seed."""
    base = run.tags.get("altub", "")
    keys = (run.tags.get(tag, "") for tag in ("dataset", "category", "model", "backbone"))
    return (*keys, base_order(base), base, *run.seed_order, run.started, run.run_id)


def base_order(base: str) -> int:
    """Return the place of a base distribution: the paper's first, then :data:`CONTROLS`, then all others."""
    order = (*BASES, *CONTROLS)
    return order.index(base) if base in order else len(order)
