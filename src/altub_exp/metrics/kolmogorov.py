"""The one-sample Kolmogorov-Smirnov test against N(0, 1): statistics and p-values of many samples at once."""

from __future__ import annotations

from functools import lru_cache
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from scipy.special import ndtr
from scipy.stats import kstwo

from altub_exp.metrics.rows import of_sorted_rows

LONG, BLOCKS = 1 << 17, 64  # a row of at least LONG values is searched for its supremum block by block
LARGEST = 4.2  # D in units of 1/√n; larger ones have p-values below 1e-15


def ks_statistic(samples: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the Kolmogorov-Smirnov statistic sup_x |F_n(x) − Φ(x)| of every row (Eq. 8 of arXiv 2210.14913).

    Args:
        samples: [R, n]; each row is one sample of size n. All axes after the first are flattened into one.

    Returns:
        [R], fractions; NaN where a sample holds a NaN.

    >>> float(ks_statistic(np.zeros((1, 10)))[0])
    0.5
    """
    return of_sorted_rows(_of_sorted, samples)


def channel_ks(q: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the KS statistic [C] of each channel of q [N, C, H, W], over all images and positions (paper: Table 5)."""
    return ks_statistic(q.swapaxes(0, 1))


def ks_p_value(statistic: NDArray[np.floating], n: int) -> NDArray[np.float64]:
    """Return two-sided p-values P(D_n ≥ D) of statistics of samples of size n, from D_n's exact distribution.

    They equal those of ``scipy.stats.kstwo.sf``, which takes about 0.1 ms for each, to within 1e-5: scipy's values on
    a grid, found once for each n, are interpolated.

    Args:
        statistic: fractions, any shape.
        n: size of the samples.

    Returns:
        Of the same shape, fractions.

    Raises:
        ValueError: n is below 1.

    >>> ks_p_value(np.array([0.25, 0.5, 1.0]), 1)
    array([1., 1., 0.])
    """
    if n < 1:
        raise ValueError(f"a sample has at least 1 value, not {n}")
    survival = _survival(n)
    return np.asarray(np.clip(survival(np.clip(statistic, survival.x[0], survival.x[-1])), 0, 1))


def _of_sorted(rows: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the KS statistics [r] of sorted rows [r, n]."""
    n = rows.shape[1]
    if n >= LONG:
        return np.array([_of_long(row) for row in rows])
    # F_n steps from i/n to (i + 1)/n: the farther end lies 1/(2n) beyond the distance from the middle
    return np.asarray(_distance(rows, np.arange(n), n).max(axis=1) + 0.5 / n)


def _of_long(row: NDArray[np.floating]) -> float:
    """Return the KS statistic of one sorted row, computing Φ only where the supremum may lie.

    Φ and F_n increase, so that their values at the ends of a block of neighbours bound |F_n − Φ| inside it.
    """
    n = row.size
    if np.isnan(row[-1]):
        return float("nan")
    first = np.arange(0, n, n // BLOCKS)
    end = np.append(first[1:], n)
    cdf = np.append(ndtr(row[first], dtype=np.float64), ndtr(row[-1], dtype=np.float64))
    bound = np.maximum(end / n - cdf[:-1], cdf[1:] - first / n)
    largest = 0.0
    for block in np.argsort(-bound):
        if bound[block] <= largest:
            break
        a, b = first[block], end[block]
        largest = max(largest, float(_distance(row[a:b], np.arange(a, b), n).max()) + 0.5 / n)
    return largest


def _distance(values: NDArray[np.floating], rank: NDArray[np.integer], n: int) -> NDArray[np.float64]:
    """Return |Φ(x) − middle of F_n's step at x| of values by their rank, counted from 0."""
    distance: NDArray[np.float64] = ndtr(values, dtype=np.float64)
    distance -= (rank + 0.5) / n
    return np.abs(distance, out=distance)


@lru_cache(maxsize=32)
def _survival(n: int) -> PchipInterpolator:
    """Return P(D_n ≥ D) as a function of D, from 1/(2n), where it is 1, to where it is 0 or below 1e-15."""
    points = 500 + 120_000 // max(n, 2) ** 2  # its kinks, at multiples of 1/(2n), are sharper the smaller n is
    statistic = np.linspace(0.5 / n, min(1, LARGEST / sqrt(n)), points)
    return PchipInterpolator(statistic, kstwo.sf(statistic, n))
