"""The built-in images: the same everywhere, drawn once, and neither trivial nor impossible to tell apart."""

import hashlib
import multiprocessing

import numpy as np
import pytest
from PIL import Image

from altub_exp.data import mvtec
from altub_exp.data.synthetic import CATEGORIES, DEFECTS, Drawing, draw, image
from altub_exp.errors import UserError

SMALL = Drawing(size=64, train_images=3, good_images=2, defect_images=2, seed=0)


def pixels(root, category):
    found = mvtec.LAYOUT.read(root, category)
    return [np.asarray(Image.open(sample.image)) for sample in found.train + found.test]


@pytest.mark.parametrize("category", CATEGORIES)
def test_layout_counts_and_masks(tmp_path, category):
    draw(tmp_path, category, SMALL)
    found = mvtec.LAYOUT.read(tmp_path, category)
    assert len(found.train) == 3
    assert len(DEFECTS[category]) >= 3
    assert [s.kind for s in found.test] == sorted(["good"] * 2 + [k for k in DEFECTS[category] for _ in range(2)])
    for sample in found.test:
        if sample.defective:
            share = (np.asarray(Image.open(sample.mask)) > 127).mean()
            assert 0.0005 <= share < 0.2, sample.mask


@pytest.mark.parametrize("category", CATEGORIES)
def test_two_drawings_are_equal_and_another_seed_is_not(tmp_path, category):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        drawing = Drawing(**{**vars(SMALL), "seed": seed})
        draw(tmp_path / name, category, drawing)
    a, b, c = (pixels(tmp_path / name, category) for name in "abc")
    assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
    assert not any(np.array_equal(x, y) for x, y in zip(a, c, strict=True))
    assert len({x.tobytes() for x in a}) == len(a)


@pytest.mark.parametrize(
    ("category", "digest"),
    [("fabric", "ccf3a4c8d47cda4f"), ("grain", "cf1d2685005f0153"), ("washer", "de36f3040d8a65f0")],
)
def test_pixels_do_not_drift(category, digest):
    """Coarsely quantised, so that only a change of the drawing shows and not another library's last bit."""
    drawn, mask = image(category, next(iter(DEFECTS[category])), 64, np.random.default_rng(0))
    coarse = (drawn.reshape(16, 4, 16, 4, 3).mean(axis=(1, 3)) / 32 + 0.5).astype(np.uint8)
    assert mask.any()
    assert hashlib.sha256(coarse.tobytes()).hexdigest()[:16] == digest


@pytest.mark.parametrize("category", CATEGORIES)
def test_every_kind_of_defect_has_an_image_and_a_mask(category):
    for kind in DEFECTS[category]:
        drawn, mask = image(category, kind, 64, np.random.default_rng(1))
        assert drawn.shape == (64, 64, 3)
        assert set(np.unique(mask)) == {0, 255}, kind


def test_one_category_is_in_gray(tmp_path):
    draw(tmp_path, "grain", SMALL)
    assert pixels(tmp_path, "grain")[0].ndim == 2


def test_it_is_drawn_once(tmp_path):
    folder = draw(tmp_path, "washer", SMALL)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")}
    draw(tmp_path, "washer", SMALL)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")} == before


def test_other_parameters_in_the_same_place_are_refused(tmp_path):
    draw(tmp_path, "washer", SMALL)
    with pytest.raises(UserError, match="holds other images than these"):
        draw(tmp_path, "washer", Drawing(**{**vars(SMALL), "seed": 1}))
    (tmp_path / "fabric").mkdir()
    with pytest.raises(UserError, match="holds other images than these"):
        draw(tmp_path, "fabric", SMALL)


@pytest.mark.parametrize(
    ("category", "changes", "words"),
    [
        ("fabrik", {}, "did you mean fabric"),
        ("fabric", {"size": 8}, "size=8"),
        ("fabric", {"good_images": 0}, "good_images=0"),
    ],
)
def test_what_cannot_be_drawn(tmp_path, category, changes, words):
    with pytest.raises(UserError, match=words):
        draw(tmp_path, category, Drawing(**{**vars(SMALL), **changes}))


@pytest.mark.slow
def test_several_processes_at_once_draw_it_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=draw, args=(tmp_path, "grain", SMALL)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert len(pixels(tmp_path, "grain")) == 3 + 2 + 6
    assert sorted(path.name for path in tmp_path.iterdir()) == [".grain.lock", "grain"]
