"""The study's statistics against independent computations."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.study.statistics import MOST_PAIRS, effect, holm, interval, rank_correlation, sign_flip_p

SETS = [[0.5, 1.5, -0.2], [2.0, 2.5], [-1.0, 0.1, 0.3, 0.4]]


def test_effect_weighs_data_sets_equally():
    assert effect(SETS) == pytest.approx((0.6 + 2.25 - 0.05) / 3)


def test_p_is_that_of_scipy():
    terms = np.concatenate([np.array(of_set) / len(of_set) / len(SETS) for of_set in SETS])
    expected = stats.permutation_test(
        (terms,), lambda x, axis: x.sum(axis), permutation_type="samples", n_resamples=np.inf, vectorized=True
    )
    assert sign_flip_p(SETS) == pytest.approx(expected.pvalue, abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(-3, 3), min_size=1, max_size=4), min_size=1, max_size=3))
def test_p_counts_the_flips(sets):
    """Integers tie often: a tie counts as at least as extreme."""
    weights = [(value, len(of_set) * len(sets)) for of_set in sets for value in of_set]
    common = np.lcm.reduce([weight for _, weight in weights])
    exact = [value * (common // weight) for value, weight in weights]
    flips = [
        abs(sum(sign * value for sign, value in zip(signs, exact, strict=True))) >= abs(sum(exact))
        for signs in itertools.product((1, -1), repeat=len(exact))
    ]
    assert sign_flip_p(sets) == pytest.approx(np.mean(flips), abs=1e-12)


def test_p_of_twenty_equal_pairs_is_the_smallest_possible():
    assert sign_flip_p([[1.0] * 5] * 4) == 2 / 2**20
    with pytest.raises(ValueError, match="too many"):
        sign_flip_p([[1.0] * (MOST_PAIRS + 1)])


def test_interval_draws_pairs_within_data_sets():
    """A hand-written bootstrap gives the same bounds up to the noise of its draws."""
    random = np.random.default_rng(1)
    sets = [random.normal(place, spread, 5) for place, spread in ((0, 1), (10, 0.1), (-4, 2), (1, 1))]
    draws = [np.mean([random.choice(of_set, len(of_set)).mean() for of_set in sets]) for _ in range(20_000)]
    low, high = interval(sets)
    assert (low, high) == pytest.approx(np.quantile(draws, (0.025, 0.975)), abs=0.02)
    assert low < effect(sets) < high
    assert high - low < 2  # the spread between the data sets, 5.9, is no part of it


def test_interval_of_equal_differences_is_a_point():
    assert interval([[1.0, 1.0], [3.0, 3.0]]) == (2.0, 2.0)


def test_holm_is_the_published_procedure():
    """Reject in the order of p while p(k) ≤ α / (m − k + 1): the same decisions at every level."""
    p_values = [0.01, 0.005, 0.03, 0.04, 0.2, 0.012]
    adjusted = holm(p_values)
    for level in np.linspace(0.001, 0.999, 500):
        rejected = set()
        for rank, place in enumerate(sorted(range(6), key=lambda place: p_values[place])):
            if p_values[place] > level / (6 - rank):
                break
            rejected.add(place)
        assert rejected == {place for place, p in enumerate(adjusted) if p <= level}
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_rank_correlation_says_nothing_about_few_or_constant_points():
    assert rank_correlation([1, 2, 3, 4, 5], [2, 4, 6, 8, 9]) == pytest.approx(1)
    assert rank_correlation([1, 2, 3, 4], [1, 2, 3, 4]) is None
    assert rank_correlation([1] * 5, range(5)) is None
    assert rank_correlation([1, 2, 3, 4, float("nan")], range(5)) is None
