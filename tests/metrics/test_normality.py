"""Normality of single units, summed up over a whole model."""

import json

import numpy as np
import pytest

from altub_exp.metrics import normality
from altub_exp.metrics.kolmogorov import ks_p_value, ks_statistic
from altub_exp.metrics.normality import UnitNormality, mean_square
from altub_exp.metrics.shapiro import shapiro_wilk


@pytest.fixture
def scales():
    """Latents of two scales: normal units with means and widths of their own, one of them constant, some skewed."""
    random = np.random.default_rng(0)
    q = [random.normal(size=(30, 6, 4, 5)), random.normal(size=(30, 8, 2, 2))]
    for units in q:
        units *= random.uniform(0.5, 1.5, size=units.shape[1:])
        units += random.normal(size=units.shape[1:])
    q[1][:, 2] = np.exp(3 * q[1][:, 2]) + 50
    q[0][:, 3, 1, 1] = 40
    return [units.astype(np.float32) for units in q]


def added(scales, channels):
    found = UnitNormality()
    for scale, q in enumerate(scales):
        for first in range(0, q.shape[1], channels):
            found.add(q[:, first : first + channels], scale, first)
    return found


def test_mean_square():
    q = np.random.default_rng(0).normal(size=(7, 2, 3, 4)).astype(np.float32)
    np.testing.assert_allclose(mean_square(q), (q.astype(np.float64) ** 2).mean(axis=0), rtol=1e-12)


def test_summary_of_a_model(scales):
    found = added(scales, 8).to_json()
    rows = np.concatenate([q.reshape(30, -1).T for q in scales])
    (_, shapiro_p), ks = shapiro_wilk(rows), ks_statistic(rows)
    ks_p = ks_p_value(ks, 30)
    defined = shapiro_p[~np.isnan(shapiro_p)]
    assert (found["images"], found["units"]) == (30, 152)
    assert found["mean_square"] == pytest.approx((rows.astype(np.float64) ** 2).mean())
    assert found["ks_statistic"] == pytest.approx(ks.mean())
    assert found["shapiro_wilk"]["histogram"] == np.histogram(defined, 50, (0, 1))[0].tolist()
    assert found["shapiro_wilk"]["units"] == 151
    assert found["shapiro_wilk"]["rejected"] == pytest.approx((defined < 0.05).mean())
    assert found["kolmogorov_smirnov"]["histogram"] == np.histogram(ks_p, 50, (0, 1))[0].tolist()
    assert found["kolmogorov_smirnov"]["units"] == 152
    assert found["kolmogorov_smirnov"]["rejected"] == pytest.approx((ks_p < 0.05).mean())
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_example_passes_shapiro_wilk_and_lies_farthest_from_the_standard_normal(scales):
    example = added(scales, 8).to_json()["example"]
    rows = np.concatenate([q.reshape(30, -1).T for q in scales])
    (_, shapiro_p), ks = shapiro_wilk(rows), ks_statistic(rows)
    assert example["ks"] == ks[shapiro_p > 0.05].max() < ks.max()
    assert example["shapiro_p"] > 0.05
    assert example["ks_p"] < 0.05
    unit = scales[example["scale"]][:, example["channel"], example["row"], example["column"]]
    assert example["values"] == unit.tolist()


@pytest.mark.parametrize("channels", [1, 3])
def test_block_by_block_equals_one_go(scales, channels, monkeypatch):
    whole = added(scales, 8).to_json()
    assert added(scales, channels).to_json() == {
        **whole,
        "mean_square": pytest.approx(whole["mean_square"], rel=1e-12),
        "ks_statistic": pytest.approx(whole["ks_statistic"], rel=1e-12),
    }
    monkeypatch.setattr(normality, "VALUES_AT_ONCE", 30 * 20 * 2)
    again = added(scales, 8).to_json()
    assert again["example"] == whole["example"]
    assert again["shapiro_wilk"] == whole["shapiro_wilk"]


def test_first_of_equal_examples_in_any_order_of_blocks():
    sample = np.random.default_rng(0).normal(2, 0.5, size=30).astype(np.float32)
    q = np.broadcast_to(sample[:, None, None, None], (30, 4, 2, 2))
    found = UnitNormality()
    found.add(q, scale=1)
    found.add(q[:, 2:], scale=0, first_channel=2)
    found.add(q[:, :2], scale=0)
    assert found.example[:4] == (0, 0, 0, 0)


def test_example_where_no_unit_passes_shapiro_wilk():
    found = UnitNormality()
    found.add(np.full((5, 1, 1, 2), [0.0, 3.0], np.float32), scale=0)
    described = found.to_json()
    assert described["example"]["column"] == 1
    assert described["example"]["shapiro_p"] is None
    assert described["shapiro_wilk"] == {"histogram": [0] * 50, "units": 0, "rejected": None}


def test_what_cannot_be_added():
    found = UnitNormality()
    with pytest.raises(ValueError, match="no unit"):
        found.to_json()
    with pytest.raises(ValueError, match="not finite"):
        found.add(np.full((5, 1, 1, 1), np.inf, np.float32), scale=0)
    with pytest.raises(ValueError, match="at least 3"):
        found.add(np.zeros((2, 1, 1, 1), np.float32), scale=0)
    found.add(np.zeros((5, 1, 1, 1), np.float32), scale=0)
    with pytest.raises(ValueError, match="4 images after one of 5"):
        found.add(np.zeros((4, 1, 1, 1), np.float32), scale=0)
