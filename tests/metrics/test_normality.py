"""KS statistics against scipy."""

import numpy as np
import pytest
from scipy.stats import kstest

from altub_exp.metrics.normality import channel_ks, ks_statistic


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ks_statistic_equals_scipys(dtype):
    samples = np.random.default_rng(0).normal(0.4, 1.3, size=(7, 211)).astype(dtype)
    samples[2] = samples[2].round(1)  # ties
    expected = [kstest(row.astype(np.float64), "norm").statistic for row in samples]
    np.testing.assert_allclose(ks_statistic(samples), expected, rtol=1e-12)


def test_channel_ks_pools_images_and_positions_of_a_channel():
    q = np.random.default_rng(1).normal(size=(5, 3, 4, 4)).astype(np.float32)
    q[:, 1] += 2
    expected = [kstest(q[:, c].ravel().astype(np.float64), "norm").statistic for c in range(3)]
    np.testing.assert_allclose(channel_ks(q), expected, rtol=1e-12)
    assert channel_ks(q).argmax() == 1
