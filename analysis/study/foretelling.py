"""The rank correlations of quantities that need no labels with the AUROC, within runs and over runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.runs.run import Run
from analysis.study.grid import PlannedRun
from analysis.study.measures import is_complete, measure, series_of, window_of
from analysis.study.protocol import DATA, INDICATORS, NORMS, DataSet
from analysis.study.statistics import rank_correlation

ENOUGH = 0.75
"""The part of the runs of every data set in which a useful quantity's correlation has the same sign."""


@dataclass(frozen=True)
class Correlations:
    """Spearman's rank correlations of an indicator with the primary AUROC.

    Attributes:
        indicator: the metric.
        data: the data set.
        within: over the epochs of the window, one for each run of part a in which it is defined.
        over_runs: over the means of all runs over their windows; None if it is undefined.
        over_runs_of: the same of the runs with each norm.
    """

    indicator: str
    data: DataSet
    within: tuple[float, ...]
    over_runs: float | None
    over_runs_of: dict[str, float | None]

    @property
    def quartiles(self) -> tuple[float, float, float] | None:
        """Lower quartile, median and upper quartile within runs; None without runs."""
        if not self.within:
            return None
        low, middle, high = np.quantile(self.within, (0.25, 0.5, 0.75))
        return float(low), float(middle), float(high)

    @property
    def negative(self) -> int:
        """Number of runs with a negative correlation."""
        return sum(rho < 0 for rho in self.within)


def correlations(grid: Sequence[PlannedRun]) -> list[Correlations]:
    """Return the correlations of every indicator on every data set, over the complete runs of both bases."""
    return [_of(grid, indicator, data) for indicator in INDICATORS for data in DATA]


def _of(grid: Sequence[PlannedRun], indicator: str, data: DataSet) -> Correlations:
    runs = [
        (planned.norm, planned.run)
        for planned in grid
        if planned.data == data and planned.run is not None and is_complete(planned.run, planned.base, data.primary)
    ]
    within = [rho for _, run in runs if (rho := _within(run, indicator, data.primary)) is not None]
    points = [(norm, *means) for norm, run in runs if (means := window_means(run, indicator, data.primary)) is not None]
    by_norm = {norm: _over([point[1:] for point in points if point[0] == norm]) for norm in NORMS}
    return Correlations(indicator, data, tuple(within), _over([point[1:] for point in points]), by_norm)


def _within(run: Run, indicator: str, metric: str) -> float | None:
    known, auroc = window_of(run, run.series.get(indicator, {})), series_of(run, run.tags["altub"], metric)
    epochs = sorted(known.keys() & auroc.keys())
    return rank_correlation([known[epoch] for epoch in epochs], [auroc[epoch] for epoch in epochs])


def window_means(run: Run, indicator: str, metric: str) -> tuple[float, float] | None:
    """Return the means of an indicator and of the AUROC in percent over the window; None without the indicator."""
    known = list(window_of(run, run.series.get(indicator, {})).values())
    return (float(np.mean(known)), measure(run, run.tags["altub"], metric, "mean")) if known else None


def _over(points: Sequence[tuple[float, float]]) -> float | None:
    return rank_correlation([x for x, _ in points], [y for _, y in points]) if points else None


def is_useful(of_indicator: Sequence[Correlations]) -> bool:
    """Return True if the correlation within runs has one sign in three quarters of the runs of every data set.

    >>> screw, elpv, *_ = DATA
    >>> is_useful([Correlations("ks", data, (-0.5, -0.1, -0.2, 0.3), None, {}) for data in (screw, elpv)])
    True
    """
    shares = [of_set.negative / len(of_set.within) if of_set.within else 0.5 for of_set in of_indicator]
    return all(share >= ENOUGH for share in shares) or all(1 - share >= ENOUGH for share in shares)
