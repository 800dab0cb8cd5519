"""Statistics over the window of epochs."""

import numpy as np

from altub_exp.metrics.stability import stability


def test_window_includes_both_ends_and_best_is_over_all_epochs():
    series = {epoch: 0.5 + 0.001 * epoch for epoch in range(1, 301)} | {7: 0.99}
    found = stability(series, 100, 300)
    window = [series[epoch] for epoch in range(100, 301)]
    assert found.epochs == 201
    assert found.mean == np.mean(window)
    assert found.std == np.std(window)
    assert (found.best, found.best_epoch) == (0.99, 7)


def test_no_value_in_the_window():
    assert stability({1: 0.5}, 2, 3) is None
