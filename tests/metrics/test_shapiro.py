"""The Shapiro-Wilk test against scipy."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import kstest, shapiro

from altub_exp.metrics.shapiro import shapiro_wilk


def samples_of(n):
    """[50, n] float32: normal, skewed, short-tailed, shifted, with ties, with an outlier."""
    random = np.random.default_rng(n)
    outlier = random.normal(size=(5, n))
    outlier[:, 0] = 1e4
    kinds = [
        random.normal(size=(15, n)),
        random.exponential(size=(5, n)),
        random.uniform(size=(5, n)),
        random.normal(300, 0.1, size=(5, n)),
        random.normal(scale=1e-6, size=(5, n)),
        random.normal(size=(5, n)).round(1) + np.linspace(0, 0.2, n),
        (random.normal(size=(5, n)) > 0) + (np.arange(n) == 0) * 0.5,
        outlier,
    ]
    return np.concatenate(kinds).astype(np.float32)


@pytest.mark.parametrize("n", [3, 4, 5, 6, 8, 11, 12, 20, 50, 219, 391, 1000, 4999])
def test_equals_scipys_row_by_row(n):
    samples = samples_of(n)
    w, p = shapiro_wilk(samples)
    expected = np.array([shapiro(row) for row in samples])
    np.testing.assert_allclose(w, expected[:, 0], rtol=0, atol=1e-8)
    np.testing.assert_allclose(p, expected[:, 1], rtol=0, atol=1e-5)


@settings(max_examples=100, deadline=None)
@given(
    arrays(np.float32, st.integers(3, 30), elements=st.integers(-1000, 1000).map(lambda i: i / 64)),
    st.sampled_from([-4.0, -1.0, 0.125, 2.0**20]),
    st.integers(-500, 500),
)
def test_shift_scale_and_sign_do_not_matter(sample, scale, shift):
    assume(np.ptp(sample) > 0)
    w, p = shapiro_wilk(np.stack([sample, scale * (sample.astype(np.float64) + shift)]))
    assert w[0] == pytest.approx(w[1], abs=1e-9)
    assert p[0] == pytest.approx(p[1], abs=1e-5)
    assert 0 < w[0] <= 1
    assert 0 <= p[0] <= 1


@pytest.mark.parametrize("n", [3, 7, 219])
def test_equal_or_infinite_values_have_no_w(n):
    samples = np.random.default_rng(0).normal(size=(4, n)).astype(np.float32)
    samples[0], samples[1, 0], samples[2, 0] = 0.1, np.nan, np.inf
    w, p = shapiro_wilk(samples)
    np.testing.assert_array_equal(np.isnan(w), [True, True, True, False])
    np.testing.assert_array_equal(np.isnan(p), [True, True, True, False])


def test_sizes_beyond_the_approximation():
    with pytest.raises(ValueError, match="at least 3"):
        shapiro_wilk(np.zeros((1, 2)))
    sample = np.random.default_rng(0).normal(size=(1, 5001))
    with pytest.warns(UserWarning, match="5,000"):
        w, _ = shapiro_wilk(sample)
    assert w[0] > 0.99


@pytest.mark.parametrize("n", [3, 50])
def test_p_values_of_normal_samples_are_uniform(n):
    _, p = shapiro_wilk(np.random.default_rng(0).normal(3, 0.2, size=(5_000, n)))
    assert kstest(p, "uniform").pvalue > 0.01
