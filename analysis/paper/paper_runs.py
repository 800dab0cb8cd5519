"""The runs of a figure of the paper: those that its sweep composes, each with the recorded run that stands for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from altub_exp.sweep.paper_sweeps import jobs
from analysis.paper.protocol import Deviations, deviations_from, flattened
from analysis.runs.conditions import NO_INFLUENCE
from analysis.runs.run import Run

KEYS = {"dataset": "dataset.name", "category": "dataset.category", "model": "model.name", "altub": "altub.name"}
"""The parameters that become tags of a run; the tag of the backbone is its label, not timm's name."""


@dataclass(frozen=True)
class PaperRun:
    """One run of a sweep.

    Attributes:
        values: values of the keys that the sweep varies.
        run: the best recorded run that stands for it; None if there is none.
        deviations: keys whose values are not the sweep's.
    """

    values: Mapping[str, str]
    run: Run | None
    deviations: Deviations

    @property
    def name(self) -> str:
        """The values that distinguish it from the others of its sweep, as on the command line."""
        return " ".join(f"{key}={value}" for key, value in self.values.items())


class ComposedRun(NamedTuple):
    """One run as a sweep composes it: flattened configuration, tags, and the values that its overrides set."""

    params: Mapping[str, str]
    tags: Mapping[str, str]
    values: Mapping[str, str]


def paper_runs(sweep: str, runs: Iterable[Run]) -> list[PaperRun]:
    """Return the runs of a sweep, each with the recorded run that deviates least from it and got furthest.

    A recorded run can stand for one of the sweep only if it agrees in data set, category, model, backbone, base
    distribution and in the keys that the sweep varies; its other deviations are listed.
    """
    composed = composed_runs(sweep)
    varied = [key for key in composed[0].values if len({run.values.get(key) for run in composed}) > 1]
    paper = []
    for params, tags, values in composed:
        required = {key: params[key] for key in varied if key in params}
        candidates = [
            run for run in runs if tags.items() <= run.tags.items() and required.items() <= run.params.items()
        ]
        best = min(candidates, key=lambda run: _rank(run, params), default=None)
        deviations = deviations_from(params, best, NO_INFLUENCE) if best else {}
        paper.append(PaperRun({key: values[key] for key in varied}, best, deviations))
    return paper


@cache
def composed_runs(sweep: str, *arguments: str) -> tuple[ComposedRun, ...]:
    """Return the runs of a sweep, with further arguments of the command line, as MLflow would hold them."""
    composed = []
    for job in jobs(sweep, *arguments):
        params = flattened(job.config)
        tags = {tag: params[key] for tag, key in KEYS.items()} | {"backbone": job.config.backbone.key}
        values = dict(override.split("=", 1) for override in job.overrides if "=" in override)
        composed.append(ComposedRun(params, tags, values))
    return tuple(composed)


def _rank(run: Run, params: Mapping[str, str]) -> tuple[object, ...]:
    deviations = deviations_from(params, run, NO_INFLUENCE)
    return (len(deviations), run.state != "finished", -run.last_epoch, run.started, run.run_id)
