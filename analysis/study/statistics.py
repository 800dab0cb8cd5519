"""The study's statistics of paired differences: effect, bootstrap interval, sign flips, Holm's correction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

RESAMPLES = 10_000
SEED = 25
"""Of the bootstrap, so that the same runs always give the same page."""

MOST_PAIRS = 24
"""2²⁴ sums of sign flips take 128 MiB."""

Differences = Sequence[Sequence[float]]
"""The differences of the pairs, one sequence per data set."""


def effect(differences: Differences) -> float:
    """Return the mean over the data sets of the mean over the pairs.

    >>> effect([[1.0, 3.0], [4.0]])
    3.0
    """
    return float(np.mean([np.mean(of_set) for of_set in differences]))


def interval(differences: Differences, level: float = 0.95) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the effect; pairs are drawn within each data set.

    Raises:
        ValueError: a data set has fewer than two pairs.
    """

    def mean_of_means(*samples: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
        return np.asarray(np.mean([np.mean(sample, axis=axis) for sample in samples], axis=0))

    samples = [np.asarray(of_set, float) for of_set in differences]
    bounds = stats.bootstrap(
        samples,
        mean_of_means,
        n_resamples=RESAMPLES,
        confidence_level=level,
        method="percentile",
        vectorized=True,
        rng=np.random.default_rng(SEED),
    ).confidence_interval
    return float(bounds.low), float(bounds.high)


def sign_flip_p(differences: Differences) -> float:
    """Return the exact two-sided p-value of the effect under all sign flips of the pairs' differences.

    The distribution is that of ``scipy.stats.permutation_test(..., permutation_type="samples")``, whose loop over
    2²⁰ flips takes a quarter of a minute; the sums of all flips double with each pair.

    >>> sign_flip_p([[1.0, 2.0, 3.0]])
    0.25

    Raises:
        ValueError: there are more than :data:`MOST_PAIRS` pairs.
    """
    terms = np.concatenate([np.asarray(of_set, float) / len(of_set) for of_set in differences]) / len(differences)
    if len(terms) > MOST_PAIRS:
        raise ValueError(f"{len(terms)} pairs are too many for an exact test")
    sums = np.zeros(1)
    for term in terms:
        sums = np.concatenate([sums + term, sums - term])
    rounding = 1e-12 * np.abs(terms).sum()  # equal sums in another order of their terms
    return float(np.mean(np.abs(sums) >= abs(terms.sum()) - rounding))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values after Holm's step-down correction (Holm 1979, https://www.jstor.org/stable/4615733).

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    count = len(p_values)
    adjusted, running = [0.0] * count, 0.0
    for rank, place in enumerate(np.argsort(p_values, kind="stable")):
        running = max(running, min(1.0, (count - rank) * p_values[place]))
        adjusted[place] = running
    return adjusted


def rank_correlation(x: Sequence[float], y: Sequence[float], fewest: int = 5) -> float | None:
    """Return Spearman's rank correlation; None of fewer than ``fewest`` points, of constant or of infinite values."""
    points = np.array([x, y], float)
    if points.shape[1] < fewest or not np.isfinite(points).all() or (np.ptp(points, axis=1) == 0).any():
        return None
    return float(stats.spearmanr(*points).statistic)
