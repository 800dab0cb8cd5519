"""Statistics of sorted rows take no more threads than the run may."""

import threading

import numpy as np
import torch

from altub_exp.metrics.rows import of_sorted_rows


def test_there_are_no_more_threads_than_pytorch_s():
    threads = set()

    def first(rows):
        threads.add(threading.get_ident())
        return rows[:, 0]

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        of_sorted_rows(first, np.random.default_rng(0).normal(size=(40, 1 << 16)))
    finally:
        torch.set_num_threads(before)
    assert len(threads) == 1
