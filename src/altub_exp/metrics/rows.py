"""Statistics of sorted samples, computed in blocks of rows that fit in the processor's cache, by several threads."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

VALUES_AT_ONCE = 1 << 18  # float64 intermediates of this many values stay in cache
BYTES_AT_ONCE = 1 << 28  # of the sorted copies of all threads together

Statistic = Callable[[NDArray[np.floating]], NDArray[np.float64]]


def of_sorted_rows(statistic: Statistic, samples: NDArray[np.floating]) -> NDArray[np.float64]:
    """Apply a statistic to every row of the samples in ascending order.

    Rows are copied and sorted in blocks of ``VALUES_AT_ONCE`` values, whatever the samples' layout in memory; a longer
    row is a block of its own. There are as many threads as PyTorch has, but no more than fit in ``BYTES_AT_ONCE``.
    numpy and scipy release the interpreter's lock while they sort and compute.

    Args:
        statistic: sorted rows [r, n] → [r], each from its own row only; it may overwrite them.
        samples: [R, ...]; all axes after the first are one sample of size n.

    Returns:
        [R].

    >>> of_sorted_rows(lambda rows: rows[:, 0].astype(float), np.array([[3.0, 1.0], [2.0, 5.0]]))
    array([1., 2.])
    """
    import torch  # here: the analysis takes constants from these modules, and needs no PyTorch

    if len(samples) == 0:
        return np.empty(0)
    n = samples[0].size
    size = max(1, VALUES_AT_ONCE // max(n, 1))

    def of_block(first: int) -> NDArray[np.float64]:
        rows = np.array(samples[first : first + size], order="C").reshape(-1, n)
        rows.sort(axis=1)
        return statistic(rows)

    available = min(torch.get_num_threads(), len(os.sched_getaffinity(0)))
    threads = max(1, min(available, BYTES_AT_ONCE // max(1, size * n * samples.itemsize)))
    with ThreadPoolExecutor(threads) as pool:
        return np.concatenate(list(pool.map(of_block, range(0, len(samples), size))))
