"""The one-sample Kolmogorov-Smirnov test against N(0, 1): statistic and exact p-value of many samples at once."""

from __future__ import annotations

from functools import lru_cache
from math import ceil, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PPoly
from scipy.special import ndtr
from scipy.stats import kstwo

from altub_exp.metrics.rows import of_sorted_rows

LONG, BLOCKS = 1 << 17, 64  # a row of so many values is searched for its supremum block by block

DEGREE, WIDTH, LARGEST = 10, 0.1, 4.2  # of the polynomials in D; width and largest D in units of 1/√n


def ks_statistic(samples: NDArray[np.floating]) -> NDArray[np.float64]:
    """One-sample Kolmogorov-Smirnov statistic sup_x |F_n(x) − Φ(x)| of every row (paper: Eq. 8).

    Args:
        samples: [R, n]; each row is one sample of size n. With more axes, all behind the first are one sample.

    Returns:
        [R], fractions; NaN where a sample holds a NaN.

    >>> float(ks_statistic(np.zeros((1, 10)))[0])
    0.5
    """
    return of_sorted_rows(_of_sorted, samples)


def channel_ks(q: NDArray[np.floating]) -> NDArray[np.float64]:
    """KS statistic of each channel of q [N, C, H, W], its values flattened over images × H × W → [C] (Table 5)."""
    return ks_statistic(q.swapaxes(0, 1))


def ks_p_value(statistic: NDArray[np.floating], n: int) -> NDArray[np.float64]:
    """Two-sided p-values P(D_n ≥ D) of statistics of samples of size n, from D_n's exact distribution.

    They are those of ``scipy.stats.kstwo.sf``, which takes about 0.1 ms for each, to within 1e-8; what lies below
    1e-15 comes out as about that. Between neighbouring multiples of 1/(2n), P is a polynomial in D of degree n (Drew,
    Glen and Leemis 2000, "Computing the cumulative distribution function of the Kolmogorov-Smirnov statistic"), so
    that interpolation in Chebyshev points is exact for n up to 10. The larger n, the more smoothly these pieces join,
    and polynomials of degree 10 on intervals of 1/(2n) or 0.1/√n, whichever is longer, keep to the bound. They are
    found once for each n: in 0.05 s for n = 219, in 1 s for n = 5,000.

    Args:
        statistic: of any shape, fractions.
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
    """KS statistic of sorted rows [r, n] → [r]."""
    n = rows.shape[1]
    if n >= LONG:
        return np.array([_of_long(row) for row in rows])
    # F_n steps from i/n to (i + 1)/n: the farther end lies 1/(2n) beyond the distance from the middle
    return np.asarray(_distance(rows, np.arange(n), n).max(axis=1) + 0.5 / n)


def _of_long(row: NDArray[np.floating]) -> float:
    """KS statistic of one sorted row, computing Φ only where the supremum may lie.

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
    """|Φ(x) − middle of F_n's step at x| of values by their rank from 0."""
    distance: NDArray[np.float64] = ndtr(values, dtype=np.float64)
    distance -= (rank + 0.5) / n
    return np.abs(distance, out=distance)


@lru_cache(maxsize=32)
def _survival(n: int) -> PPoly:
    """P(D_n ≥ D) as a piecewise polynomial in D, from 1/(2n), where it is 1, to where it is 0 or below 1e-15."""
    per_unit = 2 * sqrt(n)  # multiples of 1/(2n) in 1/√n
    last = min(2 * n, ceil(LARGEST * per_unit))
    ends = np.append(np.arange(1, last, max(1, int(WIDTH * per_unit))), last) / (2 * n)
    if n > 140:
        # here scipy changes its method for the left part and the right, and its values step by up to 3e-6
        ends = np.union1d(ends, [(1.4 / n) ** (2 / 3), sqrt(2.2 / n)])
    width = np.diff(ends)
    degree = min(n, DEGREE)
    at = (1 - np.cos(np.pi * (np.arange(degree + 1) + 0.5) / (degree + 1))) / 2
    values = kstwo.sf(ends[:-1] + np.outer(at, width), n)
    coefficients = np.linalg.solve(np.vander(at), values)
    return PPoly(coefficients / width ** np.arange(degree, -1, -1)[:, None], ends)
