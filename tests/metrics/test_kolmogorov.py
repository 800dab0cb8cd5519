"""KS statistics and p-values against scipy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import kstest, kstwo

from altub_exp.metrics.kolmogorov import LONG, channel_ks, ks_p_value, ks_statistic

COUNTS = [1, 2, 3, 7, 10, 20, 60, 140, 141, 160, 219, 280, 391, 1000]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ks_statistic_equals_scipys(dtype):
    samples = np.random.default_rng(0).normal(0.4, 1.3, size=(7, 211)).astype(dtype)
    samples[2] = samples[2].round(1)  # ties
    expected = [kstest(row.astype(np.float64), "norm").statistic for row in samples]
    np.testing.assert_allclose(ks_statistic(samples), expected, rtol=1e-12)


@pytest.mark.parametrize("n", [LONG - 1, LONG, 3 * LONG + 1])
@pytest.mark.parametrize(("mean", "std", "decimals"), [(0, 1, 9), (0.01, 1, 9), (3, 0.2, 9), (0.3, 2, 1), (-50, 0, 9)])
def test_long_samples(n, mean, std, decimals):
    samples = np.random.default_rng(0).normal(mean, std, size=(3, n)).round(decimals).astype(np.float32)
    expected = [kstest(row.astype(np.float64), "norm", mode="asymp").statistic for row in samples]
    np.testing.assert_allclose(ks_statistic(samples), expected, rtol=1e-12)


def test_many_rows_in_any_layout():
    samples = np.random.default_rng(0).normal(size=(50, 9000)).astype(np.float32)
    of_rows = ks_statistic(samples.T)
    np.testing.assert_array_equal(of_rows, ks_statistic(np.ascontiguousarray(samples.T)))
    assert of_rows[8123] == ks_statistic(samples[:, 8123][None])[0]
    assert ks_statistic(samples.T[:0]).shape == (0,)


@pytest.mark.parametrize("n", [5, LONG])
def test_infinite_values_count_and_nan_stays(n):
    samples = np.random.default_rng(0).normal(size=(3, n)).astype(np.float32)
    samples[0, 3], samples[1, : n // 2 + 1] = np.nan, -np.inf
    found = ks_statistic(samples)
    assert np.isnan(found[0])
    np.testing.assert_array_equal(found[1:], ks_statistic(np.maximum(samples[1:], np.float32(-1e30))))
    assert found[1] >= (n // 2 + 1) / n


@settings(max_examples=100, deadline=None)
@given(arrays(np.float32, st.integers(1, 40), elements=st.floats(-4, 4, width=32)), st.randoms())
def test_order_and_sign_do_not_matter(sample, random):
    shuffled = sample.copy()
    random.shuffle(shuffled)
    found = ks_statistic(np.stack([sample, shuffled, -sample]))
    assert found[0] == found[1] == pytest.approx(found[2], abs=1e-12)
    assert 0.5 / len(sample) <= found[0] + 1e-12 <= 1 + 1e-9


def test_channel_ks_pools_images_and_positions_of_a_channel():
    q = np.random.default_rng(1).normal(size=(5, 3, 4, 4)).astype(np.float32)
    q[:, 1] += 2
    expected = [kstest(q[:, c].ravel().astype(np.float64), "norm").statistic for c in range(3)]
    np.testing.assert_allclose(channel_ks(q), expected, rtol=1e-12)
    assert channel_ks(q).argmax() == 1


@pytest.mark.parametrize("n", COUNTS)
def test_p_values_are_those_of_the_exact_distribution(n):
    random = np.random.default_rng(n)
    statistic = np.concatenate(
        [random.uniform(0, min(1, 4 / np.sqrt(n)), 300), np.arange(0, 2 * n + 1, n)[:9] / (2 * n)]
    )
    p = ks_p_value(statistic, n)
    np.testing.assert_allclose(p, kstwo.sf(statistic, n), rtol=0, atol=1e-5)
    assert p.min() >= 0
    assert p.max() <= 1


def test_p_values_are_those_of_kstest():
    samples = np.random.default_rng(0).normal(0.1, 1, size=(20, 219)).astype(np.float32)
    expected = [kstest(row.astype(np.float64), "norm", method="exact").pvalue for row in samples]
    np.testing.assert_allclose(ks_p_value(ks_statistic(samples), 219), expected, rtol=0, atol=1e-5)


def test_p_values_of_extremes():
    p = ks_p_value(np.array([[0.0, 0.5 / 219, 1.0], [0.9, np.nan, 0.2]]), 219)
    assert p[0, 0] == p[0, 1] == pytest.approx(1, abs=1e-12)
    assert p[0, 2] == p[1, 0] == pytest.approx(0, abs=1e-14)
    assert np.isnan(p[1, 1])
    with pytest.raises(ValueError, match="at least 1 value"):
        ks_p_value(np.array([0.5]), 0)


def test_p_values_of_normal_samples_are_uniform():
    p = ks_p_value(ks_statistic(np.random.default_rng(0).normal(size=(20_000, 50)).astype(np.float32)), 50)
    assert kstest(p, "uniform").pvalue > 0.01
