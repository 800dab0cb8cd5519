"""Exact AUPRO against a loop over all thresholds, on drawn maps with ties and on maps of real images."""

import numpy as np
import pytest

from altub_exp.metrics.aupro import aupro
from tests.metrics.maps import aupro_by_thresholds, blobs


@pytest.mark.parametrize("decimals", [0, 1, None])
@pytest.mark.parametrize("rate", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_equals_a_loop_over_all_thresholds(seed, rate, decimals):
    maps, masks = blobs(np.random.default_rng(seed))
    maps = maps if decimals is None else maps.round(decimals)
    for dtype in (np.float32, np.float64):
        typed = maps.astype(dtype)
        expected = aupro_by_thresholds(typed, masks, rate)
        before = typed.copy()
        assert aupro(typed, masks, largest_rate=rate) == pytest.approx(expected, abs=1e-10)
        assert aupro(typed, masks, largest_rate=rate, threads=3) == aupro(typed, masks, largest_rate=rate)
        assert np.array_equal(typed, before)


@pytest.mark.parametrize("normal", [[9.0, 9.0, 5.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0], list(range(10))])
def test_a_point_of_the_curve_on_the_largest_rate(normal):
    """Several points of the curve lie at a false-positive rate of exactly 0.3."""
    maps = np.array([[[9.5, 4.0, 3.0, 2.0, *normal]]])
    masks = np.arange(14).reshape(1, 1, 14) < 4
    assert aupro(maps, masks) == pytest.approx(aupro_by_thresholds(maps, masks), abs=1e-12)


def test_every_region_counts_alike_and_touching_corners_join():
    masks = np.zeros((2, 6, 6), dtype=bool)
    masks[0, :3] = True  # 18 pixels
    masks[1, 0, 0] = masks[1, 1, 1] = True  # one region of 2
    masks[1, 5, 5] = True
    for region, expected in (((0, slice(3)), 1 / 3), ((1, 5, 5), 1 / 3), ((1, 0, 0), 1 / 6)):
        maps = np.zeros(masks.shape)
        maps[region] = 1.0  # and all others tie with the normal pixels
        flat = expected + (1 - expected) * 0.3 / 2
        assert aupro(maps, masks) == pytest.approx(flat, abs=1e-12)


def test_regions_of_consecutive_images_are_two():
    masks = np.zeros((2, 4, 4), dtype=bool)
    masks[:, 0, 0] = True
    masks[0, 0, 1:3] = True
    maps = np.where(masks, 1.0, 0.0)
    maps[1, 0, 0] = -1.0
    assert aupro(maps, masks) == pytest.approx(0.5, abs=1e-12)


def test_perfect_and_infinite_scores():
    _, masks = blobs(np.random.default_rng(0))
    assert aupro(masks.astype(float), masks) == 1.0
    assert aupro(np.where(masks, np.inf, -np.inf), masks) == 1.0
    assert aupro(-masks.astype(float), masks) == 0.0
    assert aupro(np.zeros(masks.shape), masks) == pytest.approx(0.15)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda maps, masks: maps.__setitem__((0, 0, 0), np.nan), "NaN"),
        (lambda maps, masks: maps.__setitem__(masks, np.nan), "NaN"),
        (lambda maps, masks: masks.fill(True), "defective and normal pixels"),
        (lambda maps, masks: masks.fill(False), "defective and normal pixels"),
    ],
)
def test_what_has_no_aupro_is_refused(change, message):
    maps, masks = blobs(np.random.default_rng(0))
    change(maps, masks)
    with pytest.raises(ValueError, match=message):
        aupro(maps, masks)


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="shape"):
        aupro(np.zeros((1, 4, 4)), np.zeros((1, 4, 5), dtype=bool))
