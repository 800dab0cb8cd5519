"""The settings of the parts of the grid, each beside ``none`` and ``alternating`` of the same surroundings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from analysis.runs.run import Run
from analysis.study.grid import PlannedRun, settings
from analysis.study.measures import measure_if_complete
from analysis.study.protocol import DATA, FEWEST_PAIRS, NORMS

BASES = ("none", "alternating")
"""The bases with which a setting is compared."""

STATISTICS = ("mean", "log_sd")

Reference = Mapping[str, Run | None]
"""The runs of a base by seed."""


class Gap(NamedTuple):
    """The mean of paired differences over the seeds, the smallest and the largest, and their number."""

    mean: float
    low: float
    high: float
    pairs: int


@dataclass(frozen=True)
class Control:
    """One setting of the grid on one data set.

    Attributes:
        runs: its planned runs, one per seed.
        gaps: its differences from a base in a statistic of the primary AUROC, by both; only those that have a pair.
        within_a: True if only the base distribution and its settings differ from part a.
    """

    runs: Sequence[PlannedRun]
    gaps: Mapping[tuple[str, str], Gap]
    within_a: bool

    @property
    def first(self) -> PlannedRun:
        """The run of the first seed, whose setting all have."""
        return self.runs[0]

    @property
    def name(self) -> str:
        """The base distribution and what else the sweep sets, as on the command line."""
        kept = {key: value for key, value in self.first.setting.items() if key.startswith("altub.") or key == "model"}
        kept |= {key: value for key, value in self.first.setting.items() if key == "dataset.image_size"}
        return " ".join([f"`{self.first.base}`", *(f"`{key}={value}`" for key, value in kept.items())])


def controls(parts: Mapping[str, Sequence[PlannedRun]], *names: str) -> dict[str, list[Control]]:
    """Return the settings of the named parts beside the bases with their default settings, of whichever part."""
    references: dict[object, dict[str, Run | None]] = {}
    for planned in (planned for of_part in parts.values() for planned in of_part):
        if not any(key.startswith("altub.") for key in planned.setting):
            references.setdefault((planned.data, planned.surroundings, planned.base), {})[planned.seed] = planned.run
    surroundings_of_a = {(planned.data, planned.surroundings) for planned in parts["a"]}

    def control(runs: Sequence[PlannedRun]) -> Control:
        place = (runs[0].data, runs[0].surroundings)
        gaps = {
            (base, statistic): gap
            for base in BASES
            for statistic in STATISTICS
            if (gap := _gap(runs, references.get((*place, base), {}), statistic))
        }
        return Control(runs, gaps, place in surroundings_of_a)

    return {name: [control(runs) for runs in settings(parts[name])] for name in names}


def _gap(runs: Sequence[PlannedRun], reference: Reference, statistic: str) -> Gap | None:
    """Return the differences from a base; None if there is no pair, or if these runs are the base's own."""
    metric = runs[0].data.primary
    every = (
        measure_if_complete(planned.run, "", metric, statistic)
        - measure_if_complete(reference.get(planned.seed), "", metric, statistic)
        for planned in runs
    )
    differences = [difference for difference in every if not math.isnan(difference)]
    if not differences or all(planned.run == reference.get(planned.seed) for planned in runs):
        return None
    return Gap(float(np.mean(differences)), min(differences), max(differences), len(differences))


def in_place_of_altub(found: Mapping[str, Sequence[Control]]) -> dict[str, dict[str, Control]]:
    """Return the settings that have pairs with ``alternating`` of part a, by data set and norm, then by name."""
    kept = [
        control
        for of_part in found.values()
        for control in of_part
        if control.within_a and ("alternating", "mean") in control.gaps
    ]
    kept.sort(key=lambda control: (DATA.index(control.first.data), NORMS.index(control.first.norm)))
    places: dict[str, dict[str, Control]] = {}
    for control in kept:
        place = f"{control.first.data.name}, norm {control.first.norm}"
        places.setdefault(place, {})[control.name.removeprefix("`alternating` ")] = control
    return places


def names_of(places: Mapping[str, Mapping[str, Control]]) -> list[str]:
    """Return the names of the settings of all places, each once."""
    return list(dict.fromkeys(name for of_place in places.values() for name in of_place))


def directions(places: Mapping[str, Mapping[str, Control]]) -> list[str]:
    """Return for each data set and norm which settings are higher or lower than AltUB in every seed of enough pairs."""
    sentences = []
    for place, controls_of in places.items():
        gaps = {name: control.gaps["alternating", "mean"] for name, control in controls_of.items()}
        if parts := in_every_seed(gaps, "higher with", "lower with", "neither with"):
            sentences.append(f"{place}: {parts}")
    return sentences


def in_every_seed(gaps: Mapping[str, Gap], above: str, below: str, neither: str) -> str:
    """Return after each word the names of the differences of enough pairs that are so in every seed; "" if none are.

    >>> gaps = {"a": Gap(1, 0.5, 2, 3), "b": Gap(0, -1, 1, 3), "c": Gap(-1, -1, -1, 1)}
    >>> in_every_seed(gaps, "higher on", "lower on", "neither on")
    'higher on a; neither on b'
    """
    enough = {name: gap for name, gap in gaps.items() if gap.pairs >= FEWEST_PAIRS}
    groups = {
        above: [name for name, gap in enough.items() if gap.low > 0],
        below: [name for name, gap in enough.items() if gap.high < 0],
        neither: [name for name, gap in enough.items() if gap.low <= 0 <= gap.high],
    }
    return "; ".join(f"{word} {', '.join(names)}" for word, names in groups.items() if names)
