"""A sheet of anomaly maps, and the pictures that are cut out of it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from altub_exp.data import Sample
from altub_exp.runs.pictures import map_sheet, read_panels

KINDS = ["good", "hole", "stain"]
SAMPLES = [Sample(Path(f"{number:03}.png"), kind) for kind in KINDS for number in range(2)]


def sheet(folder, masks):
    """Make one image and map per sample, each of one colour; a larger number is brighter."""
    count = len(SAMPLES)
    images = torch.arange(count, dtype=torch.uint8).mul(40).view(-1, 1, 1, 1).repeat(1, 3, 32, 32)
    maps = torch.arange(count, dtype=torch.float32).view(-1, 1, 1).repeat(1, 32, 32)
    map_sheet(SAMPLES, images, np.ones((count, 32, 32), bool) if masks else None, maps, folder / "maps.png")
    return folder / "maps.png", images, maps


def test_the_pictures_of_a_sheet_are_found_again(tmp_path):
    path, images, maps = sheet(tmp_path, masks=True)
    panels = read_panels(path)
    assert [(panel.kind, panel.name) for panel in panels] == [(kind, "000.png") for kind in KINDS]
    viridis = Image.open(path).convert("RGB")
    for number, panel in enumerate(panels):
        assert list(panel.pictures) == ["image", "mask", "map"]
        for picture in panel.pictures.values():
            assert min(picture.size) > 150
            assert np.ptp(np.asarray(picture), axis=(0, 1)).max() == 0, "the frame or a neighbour is in it"
        assert panel.pictures["image"].getpixel((9, 9)) == tuple(images[2 * number, :, 0, 0].tolist())
        assert panel.pictures["mask"].getpixel((9, 9)) == (255, 255, 255)
    brightness = [sum(panel.pictures["map"].getpixel((9, 9))[:2]) for panel in panels]
    assert brightness == sorted(set(brightness))
    assert viridis.width > 3 * panels[0].pictures["map"].width
    assert maps.shape[0] == len(SAMPLES)


def test_a_sheet_without_masks_has_none(tmp_path):
    path, _, _ = sheet(tmp_path, masks=False)
    assert [list(panel.pictures) for panel in read_panels(path)] == 3 * [["image", "map"]]


def test_another_picture_is_refused(tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "maps.png")
    with pytest.raises(ValueError, match="this program did not draw it"):
        read_panels(tmp_path / "maps.png")
