"""Small generated data sets that lie on disk exactly as BTAD and VisA do."""

import csv

import numpy as np
import pytest
from PIL import Image

WIDTH, HEIGHT = 48, 36


def draw_pair(image, number, mask=None, defect=255):
    """A striped image; with a mask a dark square in it, whose pixels are ``defect`` in the mask."""
    random = np.random.default_rng(number)
    pixels = (128 + 40 * np.sin(np.arange(WIDTH) / 2) + random.normal(0, 8, (3, HEIGHT, WIDTH))).clip(0, 255)
    if mask is not None:
        y, x = random.integers(4, 20, 2)
        pixels[:, y : y + 9, x : x + 9] = 20
        values = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
        values[y : y + 9, x : x + 9] = defect
        mask.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(mask)
    image.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.transpose(1, 2, 0).astype(np.uint8)).save(image)


def draw_btad(root):
    """BTAD with 6 + 3 + 4 images per category: BMP in 01 and 03, PNG in 02; masks PNG in 01 and 02, BMP in 03."""
    for category, image, mask in (("01", "bmp", "png"), ("02", "png", "png"), ("03", "bmp", "bmp")):
        for number in range(6):
            draw_pair(root / category / f"train/ok/{number:04}.{image}", number)
        for number in range(3):
            draw_pair(root / category / f"test/ok/{number:04}.{image}", 10 + number)
        for number in range(4):
            file = root / category / f"test/ko/{number:04}.{image}"
            draw_pair(file, 20 + number, root / category / f"ground_truth/ko/{number:04}.{mask}")
    Image.new("L", (WIDTH, HEIGHT)).save(root / "03/ground_truth/ko/0003.bmp")  # an empty mask, as some are in 03
    return root


@pytest.fixture
def btad_root(tmp_path):
    """See :func:`draw_btad`."""
    return draw_btad(tmp_path / "btad")


def draw_visa(root, *objects):
    """VisA with 6 + 3 + 4 images of each object. Masks hold ids from 1 to 4."""
    rows = []
    for name in objects:
        for number in range(9):
            image = f"{name}/Data/Images/Normal/{number:04}.JPG"
            draw_pair(root / image, number)
            rows.append([name, "test" if number % 3 == 0 else "train", "normal", image, ""])
        for number in range(4):
            image, mask = (f"{name}/Data/{kind}/Anomaly/{number:03}" for kind in ("Images", "Masks"))
            draw_pair(root / f"{image}.JPG", 20 + number, root / f"{mask}.png", defect=1 + number)
            rows.append([name, "test", "anomaly", f"{image}.JPG", f"{mask}.png"])
    (root / "split_csv").mkdir()
    with (root / "split_csv/1cls.csv").open("w", newline="") as table:
        csv.writer(table).writerows([["object", "split", "label", "image", "mask"], *rows])


@pytest.fixture
def visa_root(tmp_path):
    """See :func:`draw_visa`; a third object stands in the table alone."""
    root = tmp_path / "visa"
    draw_visa(root, "candle", "pcb1")
    with (root / "split_csv/1cls.csv").open("a", newline="") as table:
        csv.writer(table).writerow(["cashew", "train", "normal", "cashew/Data/Images/Normal/000.JPG", ""])
    return root
