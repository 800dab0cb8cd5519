"""The recipe that the study supports: chosen on two data sets, with a rule for when to stop, checked on two others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.runs.run import Run
from analysis.study.effects import Effect, Pairs, effect
from analysis.study.grid import PlannedRun
from analysis.study.measures import is_complete, measure, series_of
from analysis.study.protocol import ARMS, CHECKING, CHOOSING, DATA, FEWEST_PAIRS, NORMS, DataSet
from analysis.study.statistics import holm

ALIKE = 0.1
"""Points of AUROC within which the steadier recipe is taken."""

FIXED_EPOCHS = range(10, 101, 10)
PLATEAU_FROM, PLATEAU_EPOCHS, PLATEAU_NATS = 20, 5, 0.01
"""First epoch of the plateau's rule, epochs of its means, and the smallest fall of the loss per dimension."""

PUBLISHED = (("trainable", "none"), ("trainable", "alternating"))

Recipe = tuple[str, str]
"""Feature norm and arm."""

Rule = Callable[[Run], int]
"""Returns the epoch in which the training stops, from quantities that need no labels."""


@dataclass(frozen=True)
class Candidate:
    """A recipe on the data sets of the choice; values are None where too few runs are complete.

    Attributes:
        norm: the feature norm.
        arm: the arm.
        mean: the mean primary AUROC over the window in percent, over seeds, then data sets.
        sd: the mean standard deviation over the window in points.
    """

    norm: str
    arm: str
    mean: float | None
    sd: float | None


@dataclass(frozen=True)
class Regret:
    """The mean regret of a rule in points of AUROC, by the names of the data sets."""

    rule: str
    by_set: Mapping[str, float]


@dataclass(frozen=True)
class Choice:
    """The recipe and its check.

    Attributes:
        candidates: all recipes.
        recipe: the chosen one; None while candidates lack runs.
        fixed_epoch: the best fixed epoch on the data sets of the choice.
        regrets: of every rule and, last, of the best epoch, which needs labels.
        rule: the rule of the smallest mean regret on the data sets of the choice.
        checks: the effects against both published recipes, on the other data sets.
        p: their p-values after Holm's correction; None where data sets are missing.
    """

    candidates: tuple[Candidate, ...]
    recipe: Recipe | None = None
    fixed_epoch: int | None = None
    regrets: tuple[Regret, ...] = ()
    rule: str | None = None
    checks: tuple[Effect, ...] = ()
    p: tuple[float | None, ...] = ()


def last_epoch(run: Run) -> int:
    """Return the last epoch of the window."""
    return run.due_epochs[-1]


def smallest_ks(run: Run) -> int:
    """Return the first epoch with the smallest Kolmogorov-Smirnov statistic on the training images."""
    ks = run.series.get("ks", {})
    return min(ks, key=lambda epoch: (ks[epoch], epoch)) if ks else last_epoch(run)


def plateau(run: Run) -> int:
    """Return the first epoch in which the loss has levelled off, see ``docs/study-protocol.md``; otherwise the last."""
    loss = run.series.get("loss", {})
    for epoch in range(PLATEAU_FROM, last_epoch(run)):
        recent = [loss.get(epoch - back) for back in range(2 * PLATEAU_EPOCHS)]
        values = [value for value in recent if value is not None]
        if len(values) < len(recent):
            continue
        before, now = np.mean(values[PLATEAU_EPOCHS:]), np.mean(values[:PLATEAU_EPOCHS])
        if before - now < PLATEAU_NATS:
            return epoch
    return last_epoch(run)


RULES: dict[str, Rule] = {"last epoch": last_epoch, "smallest KS statistic": smallest_ks, "loss plateau": plateau}
"""The rules beside that of a fixed epoch."""


def choose(grid: Sequence[PlannedRun]) -> Choice:
    """Choose recipe and rule, and check them."""
    candidates = tuple(_candidate(grid, norm, arm) for norm in NORMS for arm in ARMS)
    if any(candidate.mean is None for candidate in candidates):
        return Choice(candidates)
    best = max(candidate.mean or 0.0 for candidate in candidates)
    alike = [candidate for candidate in candidates if (candidate.mean or 0.0) >= best - ALIKE]
    chosen = min(alike, key=lambda candidate: candidate.sd or 0.0)
    recipe = (chosen.norm, chosen.arm)
    fixed = max(_common_epochs(grid, recipe), key=lambda epoch: (_mean_at(grid, recipe, epoch), -epoch))
    rules = RULES | {f"fixed epoch {fixed}": lambda run: fixed}
    regrets = [
        Regret(name, {data.name: _regret(grid, data, recipe, rule) for data in DATA if _runs(grid, data, recipe)})
        for name, rule in rules.items()
    ]
    names = [data.name for data in CHOOSING]
    rule = min(regrets, key=lambda regret: np.mean([regret.by_set[name] for name in names])).rule
    oracle = {data.name: _best_regret(grid, data, recipe) for data in DATA if _runs(grid, data, recipe)}
    checks = tuple(_check(grid, recipe, rules[rule], published) for published in PUBLISHED)
    corrected = holm([1.0 if check.missing or check.p is None else check.p for check in checks])
    p = tuple(None if check.missing else value for check, value in zip(checks, corrected, strict=True))
    return Choice(candidates, recipe, fixed, (*regrets, Regret("best epoch (needs labels)", oracle)), rule, checks, p)


def _runs(grid: Sequence[PlannedRun], data: DataSet, recipe: Recipe) -> dict[str, Run]:
    """Return the complete runs of a recipe by their seeds."""
    norm, arm = recipe
    base = "none" if arm == "fitted" else arm
    return {
        planned.seed: planned.run
        for planned in grid
        if (planned.data, planned.norm, planned.base) == (data, norm, base)
        and planned.run is not None
        and is_complete(planned.run, arm, data.primary)
    }


def _candidate(grid: Sequence[PlannedRun], norm: str, arm: str) -> Candidate:
    of_sets = [(data, list(_runs(grid, data, (norm, arm)).values())) for data in CHOOSING]
    if any(len(runs) < FEWEST_PAIRS for _, runs in of_sets):
        return Candidate(norm, arm, None, None)
    mean, log_sd = (
        [[measure(run, arm, data.primary, statistic) for run in runs] for data, runs in of_sets]
        for statistic in ("mean", "log_sd")
    )
    sd = np.mean([100 * np.mean(np.exp(values)) for values in log_sd])
    return Candidate(norm, arm, float(np.mean([np.mean(values) for values in mean])), float(sd))


def _auroc(run: Run, data: DataSet, recipe: Recipe, epoch: int) -> float:
    """Return the primary AUROC in percent in an epoch."""
    return 100 * series_of(run, recipe[1], data.primary)[epoch]


def _common_epochs(grid: Sequence[PlannedRun], recipe: Recipe) -> list[int]:
    """Return the fixed epochs that all runs of a recipe have reached."""
    series = [series_of(run, recipe[1], data.primary) for data in DATA for run in _runs(grid, data, recipe).values()]
    return [epoch for epoch in FIXED_EPOCHS if all(epoch in of_run for of_run in series)]


def _mean_at(grid: Sequence[PlannedRun], recipe: Recipe, epoch: int) -> float:
    """Return the mean AUROC of the data sets of the choice in an epoch."""
    return float(
        np.mean(
            [
                np.mean([_auroc(run, data, recipe, epoch) for run in _runs(grid, data, recipe).values()])
                for data in CHOOSING
            ]
        )
    )


def _regret(grid: Sequence[PlannedRun], data: DataSet, recipe: Recipe, rule: Rule) -> float:
    """Return the mean over the runs of the window's mean minus the AUROC in the rule's epoch."""
    runs = _runs(grid, data, recipe).values()
    gaps = [measure(run, recipe[1], data.primary, "mean") - _auroc(run, data, recipe, rule(run)) for run in runs]
    return float(np.mean(gaps))


def _best_regret(grid: Sequence[PlannedRun], data: DataSet, recipe: Recipe) -> float:
    runs = _runs(grid, data, recipe).values()
    best = [100 * max(series_of(run, recipe[1], data.primary).values()) for run in runs]
    means = [measure(run, recipe[1], data.primary, "mean") for run in runs]
    return float(np.mean(np.subtract(means, best)))


def _check(grid: Sequence[PlannedRun], recipe: Recipe, rule: Rule, published: Recipe) -> Effect:
    """Return the effect of the recipe in its epoch against a published one in its last epoch."""

    def pairs(data: DataSet) -> Pairs:
        ours, theirs = _runs(grid, data, recipe), _runs(grid, data, published)
        differences = {
            seed: _auroc(run, data, recipe, rule(run)) - measure(theirs[seed], published[1], data.primary, "last")
            for seed, run in ours.items()
            if seed in theirs
        }
        planned = {run.seed for run in grid if run.data == data}
        return Pairs(data, differences, len(planned), 0)

    return effect(f"against norm {published[0]}, `{published[1]}`", map(pairs, CHECKING))
