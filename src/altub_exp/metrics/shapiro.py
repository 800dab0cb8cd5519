"""The Shapiro-Wilk test of normality, of any mean and variance, of many samples at once."""

from __future__ import annotations

import warnings
from functools import lru_cache

import numpy as np
from numpy.polynomial.polynomial import polyval
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from altub_exp.metrics.rows import of_sorted_rows

FEWEST_VALUES = 3  # of a sample

# Coefficients of increasing powers, from Royston 1995
LAST_WEIGHT = (0.0, 0.221157, -0.147981, -2.07119, 4.434685, -2.706056)  # of 1/√n, added to the normalised score
SECOND_WEIGHT = (0.0, 0.042981, -0.293762, -1.752461, 5.682633, -3.582633)
SMALL_LIMIT = (-2.273, 0.459)  # of n, 4 to 11: upper bound of ln(1 − W)
SMALL_MEAN = (0.544, -0.39978, 0.025054, -6.714e-4)
SMALL_LOG_STD = (1.3822, -0.77857, 0.062767, -0.0020322)
LARGE_MEAN = (-1.5861, -0.31082, -0.083751, 0.0038915)  # of ln n, n from 12
LARGE_LOG_STD = (-0.4803, -0.082676, 0.0030302)


def shapiro_wilk(samples: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return Shapiro and Wilk's W of every row, and its p-value by Royston's approximation (algorithm AS R94).

    They agree with ``scipy.stats.shapiro`` on each row: W to 1e-8, and p to 1e-5, because scipy's normal quantiles are
    less exact.

    Args:
        samples: [R, n]; each row is one sample of size n.

    Returns:
        W [R] and p [R], fractions; NaN where all values of a row are equal (scipy returns 1 with a warning) or one is
        not finite.

    Raises:
        ValueError: n is below 3.

    Warns:
        UserWarning: n is above 5,000, the largest n for which the approximation of p was made.

    Source: P. Royston 1995, "Remark AS R94: A remark on algorithm AS 181: The W-test for normality", Applied
    Statistics 44(4), https://doi.org/10.2307/2986146.

    >>> w, p = shapiro_wilk(np.array([[0.0, 1.0, 2.0], [0.0, 0.0, 1.0]]))
    >>> w.round(3), p.round(3)
    (array([1.  , 0.75]), array([1., 0.]))
    """
    n = samples.shape[1]
    if n < FEWEST_VALUES:
        raise ValueError(f"the Shapiro-Wilk test needs samples of at least {FEWEST_VALUES} values, not {n}")
    if n > 5000:
        warnings.warn(f"Shapiro-Wilk p-values are made for up to 5,000 values; these samples have {n}", stacklevel=2)
    complement = of_sorted_rows(_one_minus_w, samples)
    return 1 - complement, _p_value(complement, n)


@lru_cache(maxsize=32)
def _weights(n: int) -> NDArray[np.float64]:
    """Return Royston's weights of the order statistics [n]: antisymmetric, with squares that sum to 1.

    They are Blom's normal scores, normalised; but on each side the outermost weight (n ≤ 5) or the two outermost
    (n > 5) come from a polynomial, and the others are scaled to make up the norm.
    """
    if n == 3:
        return np.array([-np.sqrt(0.5), 0.0, np.sqrt(0.5)])
    scores = ndtri((np.arange(n, 0, -1) - 0.375) / (n + 0.25))  # the largest first
    outer = scores[:1] / np.linalg.norm(scores) + polyval(1 / np.sqrt(n), LAST_WEIGHT)
    if n > 5:
        second = scores[1] / np.linalg.norm(scores) + polyval(1 / np.sqrt(n), SECOND_WEIGHT)
        outer = np.append(outer, second)
    inner = scores[len(outer) : n - len(outer)]
    inner = inner * np.sqrt((1 - 2 * outer @ outer) / (inner @ inner))
    return np.concatenate([-outer, inner[::-1], outer[::-1]])


def _one_minus_w(rows: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return 1 − W [r] of sorted rows [r, n]; it keeps its digits where W is close to 1."""
    n = rows.shape[1]
    with np.errstate(divide="ignore", invalid="ignore"):  # for equal values and infinite ones
        # The mean lies within one standard deviation of the median, so that little cancels in the variance; equal
        # values become exact zeros.
        centred = np.subtract(rows, rows[:, n // 2, None], dtype=np.float64)
        squares = np.vecdot(centred, centred) - centred.sum(axis=1) ** 2 / n
        norm, fit = np.sqrt(squares), np.vecdot(centred, _weights(n))
        return np.asarray(np.maximum((norm - fit) * (norm + fit) / squares, 0))


def _p_value(complement: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Return the p-values [R] of 1 − W [R]: exact for n = 3, otherwise from a nearly normal function of ln(1 − W)."""
    if n == 3:
        angle = np.arcsin(np.sqrt(np.clip(1 - complement, 0.75, 1)))
        return np.asarray(6 / np.pi * (angle - np.arcsin(np.sqrt(0.75))))
    with np.errstate(divide="ignore"):  # for W = 1, and W beyond the limit
        score = np.log(complement)
        if n <= 11:
            score = -np.log(np.maximum(polyval(n, SMALL_LIMIT) - score, 0))
            mean, log_std = polyval(n, SMALL_MEAN), polyval(n, SMALL_LOG_STD)
        else:
            mean, log_std = polyval(np.log(n), LARGE_MEAN), polyval(np.log(n), LARGE_LOG_STD)
    return np.asarray(ndtr((mean - score) / np.exp(log_std)))
