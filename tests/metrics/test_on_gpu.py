"""The metrics for tensors on a GPU, here on the CPU: the same counts and statistics as the others, and as scipy's."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from scipy.stats import kstest

from altub_exp.metrics import on_gpu as device
from altub_exp.metrics.auroc import auroc
from altub_exp.metrics.kolmogorov import LONG, channel_ks
from tests.metrics.rankings import with_ties


@settings(max_examples=100, deadline=None)
@given(with_ties())
def test_auroc_is_the_same_number(drawn):
    scores, labels = drawn
    assert device.auroc(torch.from_numpy(scores), torch.from_numpy(labels)) == auroc(scores, labels)


@pytest.mark.parametrize("share", [0.002, 0.5, 0.98])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_auroc_in_parts_is_the_same_number(share, dtype, monkeypatch):
    monkeypatch.setattr(device, "VALUES_AT_ONCE", 1000)
    random = np.random.default_rng(0)
    labels = random.random((3, 50, 50)) < share
    scores = (random.normal(size=labels.shape) + labels).round(2).astype(dtype)
    assert device.auroc(torch.from_numpy(scores), torch.from_numpy(labels)) == auroc(scores, labels)


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([0.1, float("nan"), 0.3], [True, False, False], "NaN"),
        ([float("nan"), 0.1, 0.3], [True, False, False], "NaN"),
        ([0.1, 0.2], [True, True], "positives and negatives"),
        ([0.1, 0.2, 0.3], [True, False], "shape"),
    ],
)
def test_what_has_no_auroc_is_refused(scores, labels, message):
    with pytest.raises(ValueError, match=message):
        device.auroc(torch.tensor(scores), torch.tensor(labels))


@pytest.mark.parametrize("at_once", [1, 2**24])
@pytest.mark.parametrize("positions", [(4, 4), (1, LONG // 4)])
def test_channel_ks_equals_scipys(positions, at_once, monkeypatch):
    monkeypatch.setattr(device, "VALUES_AT_ONCE", at_once)
    q = torch.from_numpy(np.random.default_rng(1).normal(0.2, 1.1, size=(5, 3, *positions)).astype(np.float32))
    q[:, 1] = q[:, 1].round(decimals=1)
    expected = [kstest(q[:, c].ravel().double().numpy(), "norm", mode="asymp").statistic for c in range(3)]
    np.testing.assert_allclose(device.channel_ks(q), expected, rtol=1e-12)
    np.testing.assert_allclose(device.channel_ks(q), channel_ks(q.numpy()), rtol=1e-12)
