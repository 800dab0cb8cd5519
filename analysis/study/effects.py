"""The effects of the study: paired differences by data set, their mean, interval and p, and the claims' verdicts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from altub_exp.runs.states import RunState
from analysis.study import statistics
from analysis.study.grid import PlannedRun
from analysis.study.measures import measure_if_complete
from analysis.study.protocol import (
    CLAIMS,
    DATA,
    FEWEST_PAIRS,
    IMAGE,
    LEVEL,
    NORMS,
    Claim,
    Contrast,
    DataSet,
    between,
)

Metric = str | None
"""The AUROC of an effect; None for the primary one of each data set."""


@dataclass(frozen=True)
class Pairs:
    """The differences of one data set's pairs.

    Attributes:
        data: the data set.
        differences: of the complete pairs, by their seeds.
        planned: number of pairs in the grid.
        crashed: number of pairs in which a run diverged.
    """

    data: DataSet
    differences: Mapping[str, float]
    planned: int
    crashed: int

    @property
    def enters(self) -> bool:
        """True if there are enough complete pairs."""
        return len(self.differences) >= FEWEST_PAIRS

    @property
    def mean(self) -> float | None:
        """The mean difference; None if there is no complete pair."""
        return float(np.mean(list(self.differences.values()))) if self.differences else None


@dataclass(frozen=True)
class Effect:
    """A difference over the data sets.

    Attributes:
        name: its name.
        pairs: the differences of each data set.
        value: the mean over the data sets that enter; None if none does.
        low: lower end of its 95 % interval.
        high: upper end.
        p: exact p-value, uncorrected.
    """

    name: str
    pairs: tuple[Pairs, ...]
    value: float | None
    low: float | None
    high: float | None
    p: float | None

    @property
    def missing(self) -> list[str]:
        """The names of the data sets that have too few complete pairs."""
        return [pairs.data.name for pairs in self.pairs if not pairs.enters]

    @property
    def counts(self) -> tuple[int, int, int]:
        """Complete pairs that enter, planned pairs, pairs with a crashed run."""
        entered = sum(len(pairs.differences) for pairs in self.pairs if pairs.enters)
        return entered, sum(pairs.planned for pairs in self.pairs), sum(pairs.crashed for pairs in self.pairs)


@dataclass(frozen=True)
class Verdict:
    """The outcome of one claim.

    Attributes:
        claim: the claim.
        norm: the feature norm.
        effect: its effect.
        p: after Holm's correction within its family.
        word: supported, refuted, unsupported, or missing.
    """

    claim: Claim
    norm: str
    effect: Effect
    p: float | None
    word: str


def effect(name: str, pairs: Iterable[Pairs]) -> Effect:
    """Return the effect of the data sets that have enough complete pairs."""
    pairs = tuple(pairs)
    differences = [list(of_set.differences.values()) for of_set in pairs if of_set.enters]
    if not differences:
        return Effect(name, pairs, None, None, None, None)
    low, high = statistics.interval(differences)
    return Effect(name, pairs, statistics.effect(differences), low, high, statistics.sign_flip_p(differences))


def contrast_effect(
    grid: Sequence[PlannedRun],
    contrast: Contrast,
    statistic: str,
    metric: Metric = None,
    data_sets: Sequence[DataSet] = DATA,
) -> Effect:
    """Return the effect of a contrast on a statistic of the runs."""
    places = {(run.data, run.norm, run.base, run.seed): run for run in grid}
    return effect(contrast.name, (_pairs(places, data, contrast, statistic, metric) for data in data_sets))


def _pairs(
    places: Mapping[tuple[DataSet, str, str, str], PlannedRun],
    data: DataSet,
    contrast: Contrast,
    statistic: str,
    metric: Metric,
) -> Pairs:
    differences: dict[str, float] = {}
    planned = crashed = 0
    for seed in dict.fromkeys(seed for of, _, _, seed in places if of == data):
        terms = [
            (term, places.get((data, term.norm, "none" if term.arm == "fitted" else term.arm, seed)))
            for term in contrast.terms
        ]
        if any(run is None for _, run in terms):
            continue
        planned += 1
        crashed += any(run is not None and run.state == RunState.crashed for _, run in terms)
        values = [
            term.sign * measure_if_complete(run.run if run else None, term.arm, metric or data.primary, statistic)
            for term, run in terms
        ]
        if not math.isnan(sum(values)):
            differences[seed] = sum(values)
    return Pairs(data, differences, planned, crashed)


def verdicts(grid: Sequence[PlannedRun], metric: Metric = None) -> list[Verdict]:
    """Return the verdicts of a family: with the primary AUROCs H1 to H4, with the image AUROC H1 to H3."""
    claims = [claim for claim in CLAIMS if metric != IMAGE or claim.statistic != "ks"]
    tests = [
        (claim, norm, contrast_effect(grid, between("alternating", "none", norm), claim.statistic, metric))
        for claim in claims
        for norm in NORMS
    ]
    # a claim without a p-value keeps its place in the family
    corrected = statistics.holm([1.0 if test.missing or test.p is None else test.p for _, _, test in tests])
    return [
        Verdict(claim, norm, test, None if word == "missing" else p, word)
        for (claim, norm, test), p in zip(tests, corrected, strict=True)
        for word in [verdict(test, claim.sign, p)]
    ]


def verdict(effect: Effect, sign: int, p: float) -> str:
    """Return the verdict on a claim of this sign, with p after Holm's correction."""
    if effect.missing or effect.low is None or effect.high is None:
        return "missing"
    near, far = sorted((sign * effect.low, sign * effect.high))
    if far < 0:
        return "refuted"
    return "supported" if near > 0 and p < LEVEL else "unsupported"
