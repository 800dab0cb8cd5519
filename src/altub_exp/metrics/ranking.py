"""Ranks of some scores among others, from which every exact metric of a ranking is computed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]


def ranks(scores: NDArray[np.floating], others: NDArray[np.floating], threads: int = 1) -> tuple[Counts, Counts]:
    """Count, for each of the scores, the others that are below it and those that are not above it.

    Args:
        scores: [n], ascending, so that the look-ups stay in cache.
        others: [m], in any order; they are sorted in place, in parts.
        threads: the others are counted in this many parts at once; the result does not depend on it.

    Returns:
        Two arrays [n]; they differ by the number of ties.

    Raises:
        ValueError: a score is NaN.

    >>> ranks(np.array([0.2, 0.5]), np.array([0.5, 0.1, 0.9]))
    (array([1, 1]), array([1, 2]))
    """
    if np.isnan(scores[-1:]).any():  # NaN is sorted last
        raise ValueError("a score is NaN")

    def counted(part: NDArray[np.floating]) -> tuple[Counts, Counts]:
        part.sort()
        if np.isnan(part[-1:]).any():
            raise ValueError("a score is NaN")
        return np.searchsorted(part, scores, "left"), np.searchsorted(part, scores, "right")

    below, not_above = np.zeros(len(scores), np.int64), np.zeros(len(scores), np.int64)
    with ThreadPoolExecutor(threads) as pool:
        for left, right in pool.map(counted, np.array_split(others, threads)):
            below += left
            not_above += right
    return below, not_above
