"""The runs that a figure of the paper takes: what its sweep composes, and what of it is there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from altub_exp.sweep.paper_sweeps import jobs
from analysis.paper.protocol import differing, flattened
from analysis.runs.conditions import NO_INFLUENCE, PLACE
from analysis.runs.records import Run

KEYS = {"dataset": "dataset.name", "category": "dataset.category", "model": "model.name", "altub": "altub.name"}
"""Of the tags that say what a run is of; the backbone's is its label, not timm's name."""


@dataclass(frozen=True)
class Wanted:
    """One run of a sweep, and the recorded one that stands for it.

    Attributes:
        values: of the keys that the sweep varies.
        run: the best that is there; None where there is none.
        deviations: keys whose values are not the sweep's, {key: (recorded, wanted)}.
    """

    values: Mapping[str, str]
    run: Run | None
    deviations: Mapping[str, tuple[str, str]]

    @property
    def name(self) -> str:
        """What tells it from the others of its sweep, as on the command line."""
        return " ".join(f"{key}={value}" for key, value in self.values.items())


def wanted(sweep: str, runs: Iterable[Run]) -> list[Wanted]:
    """What a sweep composes, one by one, with the run of it that deviates least and got furthest.

    A run stands for another only if it agrees in data set, category, model, backbone, base distribution and in what the
    sweep varies; in what else it deviates is told.
    """
    sought = composed(sweep)
    varied = [key for key in sought[0].values if len({job.values.get(key) for job in sought}) > 1]
    found = []
    for params, tags, values in sought:
        own = {key: params[key] for key in varied if key in params}
        alike = [
            run
            for run in runs
            if all(run.tags.get(tag) == value for tag, value in tags.items())
            and all(run.params.get(key) == value for key, value in own.items())
        ]
        best = min(alike, key=lambda run: _rank(run, params), default=None)
        shown = {key: values[key] for key in varied}
        found.append(Wanted(shown, best, differing(best, params, NO_INFLUENCE) if best else {}))
    return found


class Job(NamedTuple):
    """One run that a sweep composes: flattened configuration, tags of its place, what its overrides set."""

    params: Mapping[str, str]
    tags: Mapping[str, str]
    values: Mapping[str, str]


@cache
def composed(sweep: str) -> tuple[Job, ...]:
    """The runs of a sweep, as MLflow would hold them."""
    found = []
    for job in jobs(sweep):
        params = flattened(job.config)
        tags = {tag: params[key] for tag, key in KEYS.items()} | {"backbone": job.config.backbone.key}
        found.append(Job(params, tags, dict(one.split("=", 1) for one in job.overrides if "=" in one)))
    return tuple(found)


def _rank(run: Run, params: Mapping[str, str]) -> tuple[object, ...]:
    apart = differing(run, params, NO_INFLUENCE)
    extra = run.params.get("eval.unit_normality") != params["eval.unit_normality"]
    return (len(apart), extra, run.state != "finished", -run.last_epoch, run.started, run.run_id)


def place_of(sweep: Sequence[Wanted]) -> tuple[str, ...]:
    """Data set, category, model and backbone of the first run that is there."""
    run = next(one.run for one in sweep if one.run is not None)
    return tuple(run.tags[tag] for tag in PLACE)
