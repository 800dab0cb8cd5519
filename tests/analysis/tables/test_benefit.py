"""The statistics of "does it help?" against hand-computed values and scipy."""

from __future__ import annotations

import pytest
from scipy import stats

from analysis.paper.cells import half_width
from analysis.runs.run import Run
from analysis.tables.benefit import compare, rank_correlation


def of(ks, auroc):
    series = {"ks": dict(enumerate(ks, 1)), "pixel_auroc": dict(enumerate(auroc, 1))}
    return Run("id", "name", "experiment", {}, {}, {}, series)


def test_wilcoxon_of_five_gains():
    """All of n = 5 differences positive and distinct: the exact two-sided p is 2 / 2⁵."""
    found = compare([90, 91, 92, 93, 94], [91, 93, 95, 97, 99], 1)
    assert (found.pairs, found.difference) == (5, 3.0)
    assert found.p == pytest.approx(2 / 32)
    assert 1 < found.low < 3 < found.high < 5


def test_differences_that_are_equal_but_for_rounding_tie():
    """98.6 − 98.1 and 97.5 − 97.0 differ in the last bit; as equal differences they have equal ranks."""
    found = compare([98.1, 97.0, 95.0, 90.2], [98.6, 97.5, 95.5, 90.0], 1)
    assert found.p == pytest.approx(float(stats.wilcoxon([0.5, 0.5, 0.5, -0.2]).pvalue))


def test_nothing_to_compare():
    assert compare([], [], 1).difference is None
    one = compare([1.0], [2.0], 1)
    assert (one.pairs, one.difference, one.p, one.low) == (1, 1.0, None, None)
    equal = compare([1.0, 2.0], [1.0, 2.0], 1)
    assert (equal.difference, equal.p, equal.low, equal.high) == (0.0, None, 0.0, 0.0)


def test_the_bootstrap_is_the_same_every_time():
    data = [1.0, 2.0, 4.0, 8.0], [1.5, 2.0, 5.0, 10.0]
    assert compare(*data, 1) == compare(*data, 1)


def test_rank_correlation_within_a_run():
    assert rank_correlation(of([5, 4, 3, 2, 1], [0.1, 0.2, 0.3, 0.4, 0.5])) == pytest.approx(-1)
    # d = 0, 0, 0, 1, −1: ρ = 1 − 6·2 / (5·24)
    assert rank_correlation(of([1, 2, 3, 4, 5], [0.1, 0.2, 0.3, 0.5, 0.4])) == pytest.approx(0.9)
    assert rank_correlation(of([1, 2, 3, 4], [0.1, 0.2, 0.3, 0.5])) is None
    assert rank_correlation(of([1, 1, 1, 1, 1], [0.1, 0.2, 0.3, 0.5, 0.4])) is None


def test_interval_over_seeds():
    """t(0.975, 4) = 2.776445, s = √2.5."""
    assert half_width([1, 2, 3, 4, 5]) == pytest.approx(2.776445 * 2.5**0.5 / 5**0.5, rel=1e-6)
    assert half_width([1]) is None
