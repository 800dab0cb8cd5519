"""Tiles of a canvas: where they lie, how they are put together, and where an image lies among them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from altub_exp.config.check import check
from altub_exp.data import Sample, images, load_images, load_masks
from altub_exp.data.canvas import Box, Canvas, cropped
from altub_exp.data.images import ImageFiles, load_insides, place
from altub_exp.errors import UserError

PROPERTY = settings(max_examples=40, deadline=None, database=None, derandomize=True)
GRIDS = st.builds(Canvas, st.integers(16, 40), st.integers(1, 4), st.integers(1, 4), st.floats(0, 0.5))


@PROPERTY
@given(GRIDS)
def test_tiles_cover_the_canvas_and_reach_its_edges(canvas):
    cover = torch.zeros(canvas.height, canvas.width)
    for number in range(canvas.tiles):
        tile = canvas.tile(cover, number)
        assert tile.shape == (canvas.size, canvas.size)
        tile.add_(1)
    assert (int(cover.min()), int(cover[0, 0]), int(cover[-1, -1])) == (1, 1, 1)
    assert cover.max() <= 4  # at most two tiles along each side


@PROPERTY
@given(GRIDS)
def test_stitched_tiles_of_a_map_are_the_map_and_constant_ones_are_constant(canvas):
    maps = torch.rand(2, canvas.height, canvas.width, dtype=torch.float64)
    assert torch.allclose(canvas.stitch(canvas.cut(maps)), maps, rtol=0, atol=1e-12)
    assert torch.allclose(canvas.stitch(torch.full((canvas.tiles, canvas.size, canvas.size), 3.0)), torch.tensor(3.0))


def test_a_single_tile_is_left_as_it_is():
    canvas, maps = Canvas(16, overlap=0.3), torch.rand(3, 16, 16)
    assert (canvas.height, canvas.width, canvas.is_plain, canvas.facts()) == (16, 16, True, {})
    assert canvas.cut(maps) is maps
    assert canvas.stitch(maps) is maps


def test_where_two_tiles_overlap_the_map_passes_from_one_to_the_other():
    canvas = Canvas(16, columns=2, overlap=0.25)
    (row,) = canvas.stitch(torch.stack([torch.zeros(16, 16), torch.ones(16, 16)])).unbind()[0][:1]
    assert row.tolist() == pytest.approx([0] * 12 + [0.2, 0.4, 0.6, 0.8] + [1] * 12)


@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((300, 100), Box(21, 0, 21, 64)),
        ((100, 300), Box(0, 21, 64, 21)),
        ((50, 50), Box(0, 0, 64, 64)),
        ((9999, 2), Box(31, 0, 1, 64)),
    ],
)
def test_an_image_keeps_its_aspect_in_the_middle_and_is_surrounded_by_its_edge(size, box):
    canvas = Canvas(64, keep_aspect=True)
    assert canvas.box(*size) == box
    noise = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3)).astype(np.uint8)
    placed = place(Image.fromarray(noise), canvas, "bilinear")
    assert placed.box == box
    inner = cropped(placed.pixels, box)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(noise).permute(2, 0, 1)[None].float(), size=(box.height, box.width), mode="bilinear"
    )[0]
    assert torch.equal(inner, expected.round().byte())
    if box.top:
        assert (placed.pixels[:, : box.top] == inner[:, :1]).all()
        assert (placed.pixels[:, box.top + box.height :] == inner[:, -1:]).all()
    if box.left:
        assert (placed.pixels[:, :, : box.left] == inner[:, :, :1]).all()
    assert int(canvas.inside(box).sum()) == box.height * box.width


def strip(tmp_path):
    """An image of 60×20 pixels, its mask with one defect, and its sample."""
    values = np.random.default_rng(1).integers(0, 255, (20, 60)).astype(np.uint8)
    Image.fromarray(values).save(tmp_path / "i.png")
    mask = np.zeros((20, 60), np.uint8)
    mask[:10, 30:] = 255
    Image.fromarray(mask).save(tmp_path / "m.png")
    return Sample(tmp_path / "i.png", "hole", tmp_path / "m.png")


def test_a_mask_and_the_covered_pixels_lie_where_the_image_lies(tmp_path):
    sample, canvas = strip(tmp_path), Canvas(30, keep_aspect=True)
    (mask,) = load_masks([sample], canvas)
    assert np.argwhere(mask.numpy()).tolist() == [[row, column] for row in range(10, 15) for column in range(15, 30)]
    (inside,) = load_insides([sample], canvas)
    assert torch.equal(inside, canvas.inside(Box(10, 0, 10, 30)))
    assert load_insides([sample], Canvas(30)) is None


def test_an_image_is_decoded_once_for_all_of_its_tiles(tmp_path, monkeypatch):
    canvas, samples = Canvas(16, 2, 3, 0.25), []
    for number in range(3):
        noise = np.random.default_rng(number).integers(0, 255, (40, 50, 3)).astype(np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{number}.png")
        samples.append(Sample(tmp_path / f"{number}.png", "good"))
    tiles = canvas.cut(load_images(samples, canvas))
    decoded, read = [], images.read_rgb
    monkeypatch.setattr(images, "read_rgb", lambda file, bits: [decoded.append(file.name), read(file, bits)][1])
    files = ImageFiles(samples, canvas, "bilinear", None)
    assert len(files) == len(tiles) == 18
    rows = torch.tensor([17, 0, 5, 13, 12])
    assert torch.equal(files[rows], tiles[rows])
    assert sorted(decoded) == ["0.png", "2.png"]


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["dataset.tiles=0x2"], "dataset.tiles=0x2 is no grid of tiles: give ROWSxCOLUMNS, each 1 to 16, such as 2x3."),
        (["dataset.tiles=abc"], "dataset.tiles=abc is no grid of tiles: give ROWSxCOLUMNS, each 1 to 16, such as 2x3."),
        (["dataset.tile_overlap=0.6"], "dataset.tile_overlap=0.6 is too large: give at most 0.5."),
        (
            ["dataset.tiles=1x16", "dataset.image_size=2048"],
            "dataset.tiles=1x16 of dataset.image_size=2048 make 28928 pixels of a side, and 16384 are the most: set "
            "fewer or smaller tiles.",
        ),
    ],
)
def test_tiles_that_make_no_sense_are_refused_in_one_sentence(compose, overrides, sentence):
    with pytest.raises(UserError) as caught:
        check(compose("dataset.category=screw", *overrides))
    assert str(caught.value) == sentence
