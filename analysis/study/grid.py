"""The planned runs of the study's sweeps, each with the recorded run that stands for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from altub_exp.config.schema import NEUTRAL
from altub_exp.runs.states import RunState
from analysis.paper.paper_runs import ComposedRun, composed_runs
from analysis.paper.protocol import deviations_from
from analysis.runs.run import Run
from analysis.study.protocol import DATA, PARTS, SEEDS, DataSet

MISSING = "missing"

IGNORED = (*NEUTRAL, "backbone.weights")
"""Weights that come from a file are named by its path; the records have their SHA-256."""

IDENTIFYING = ("dataset", "category", "model", "backbone", "altub", "seed")
"""Tags by which recorded runs are looked up."""


@dataclass(frozen=True)
class PlannedRun:
    """One run of the grid.

    Attributes:
        data: its data set.
        params: its flattened configuration.
        backbone: the backbone's label.
        setting: the values that its sweep varies or sets, without data set and seed.
        run: the recorded run; None if there is none.
        duplicates: number of further recorded runs of the same configuration, which differ in images or weights.
    """

    data: DataSet
    params: Mapping[str, str]
    backbone: str
    setting: Mapping[str, str]
    run: Run | None
    duplicates: int = 0

    @property
    def norm(self) -> str:
        """The feature norm."""
        return self.params["model.feature_norm"]

    @property
    def base(self) -> str:
        """The base distribution's option."""
        return self.params["altub.name"]

    @property
    def seed(self) -> str:
        """The seed."""
        return self.params["seed"]

    @property
    def state(self) -> str:
        """The state of the recorded run, or :data:`MISSING`."""
        return self.run.state if self.run is not None else MISSING

    @cached_property
    def surroundings(self) -> tuple[tuple[str, str], ...]:
        """All that can change the numbers, except base distribution and seed."""
        kept = (
            (key, value)
            for key, value in self.params.items()
            if not key.startswith("altub.") and key not in ("seed", "eval.fitted", *NEUTRAL)
        )
        return tuple(sorted(kept))


def part(name: str, runs: Sequence[Run]) -> list[PlannedRun]:
    """Return the planned runs of a part of the grid, by sweeps, settings and seeds."""
    recorded: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        recorded.setdefault(_identity(run.tags), []).append(run)
    return [
        _planned(_with_seed(composed, seed), recorded)
        for sweep in PARTS[name]
        for composed in composed_runs(sweep, "seed=1")  # to compose each seed would take minutes
        for seed in range(1, SEEDS[name] + 1)
    ]


def _with_seed(composed: ComposedRun, seed: int) -> ComposedRun:
    return composed._replace(
        params={**composed.params, "seed": str(seed)}, values={**composed.values, "seed": str(seed)}
    )


def _planned(composed: ComposedRun, recorded: Mapping[tuple[str, ...], Sequence[Run]]) -> PlannedRun:
    tags = {**composed.tags, "seed": composed.params["seed"]}
    same = [
        run
        for run in recorded.get(_identity(tags), ())
        if not deviations_from(composed.params, run, IGNORED)
        and (run.params.get("backbone.weights") == "random") == (composed.params["backbone.weights"] == "random")
    ]
    same.sort(key=lambda run: (run.state != RunState.finished, -run.last_epoch, -run.started, run.run_id))
    data = next(data for data in DATA if (data.dataset, data.category) == (tags["dataset"], tags["category"]))
    setting = {key: value for key, value in composed.values.items() if key not in ("experiment", "seed")}
    return PlannedRun(data, composed.params, tags["backbone"], setting, same[0] if same else None, len(same[1:]))


def _identity(tags: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(tags.get(tag, "") for tag in IDENTIFYING)


def settings(planned: Iterable[PlannedRun]) -> list[list[PlannedRun]]:
    """Return the planned runs that differ in their seeds only, together."""
    groups: dict[object, list[PlannedRun]] = {}
    for run in planned:
        base = tuple(sorted((key, value) for key, value in run.params.items() if key.startswith("altub.")))
        groups.setdefault((run.data, run.surroundings, base), []).append(run)
    return list(groups.values())
