"""Small generated data sets that lie on disk exactly as the published ones do."""

import csv
import json

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


def draw_mvtec2(root, *categories):
    """MVTec AD 2 with 6 + 3 + 4 images per category, grey in vial, and the sets that are not read."""
    for name in categories:
        for number in range(6):
            draw_pair(root / name / f"train/good/{number:03}_regular.png", number)
        draw_pair(root / name / "validation/good/000_regular.png", 9)
        for number, light in enumerate(("regular", "overexposed", "shift_1")):
            draw_pair(root / name / f"test_public/good/000_{light}.png", 10 + number)
        for number, light in enumerate(("regular", "overexposed", "shift_1", "underexposed")):
            mask = root / name / f"test_public/ground_truth/bad/000_{light}_mask.png"
            draw_pair(root / name / f"test_public/bad/000_{light}.png", 20 + number, mask)
        draw_pair(root / name / "test_private/000_regular.png", 30)
        draw_pair(root / name / "test_private_mixed/000_mixed.png", 31)
        if name == "vial":
            for file in (root / name).rglob("*.png"):
                Image.open(file).convert("L").save(file)
    (root / "license.txt").write_text("CC BY-NC-SA 4.0")
    (root / "readme.txt").write_text("MVTec AD 2")
    return root


def draw_loco(root, *categories):
    """MVTec LOCO AD with 6 + 3 + 4 images per category; the second mask of a logical anomaly holds the id 3."""
    for name in categories:
        for number in range(6):
            draw_pair(root / name / f"train/good/{number:03}.png", number)
        draw_pair(root / name / "validation/good/000.png", 9)
        for number in range(3):
            draw_pair(root / name / f"test/good/{number:03}.png", 10 + number)
        for start, kind in ((20, "logical_anomalies"), (22, "structural_anomalies")):
            for number in range(2):
                mask = root / name / f"ground_truth/{kind}/{number:03}/000.png"
                draw_pair(root / name / f"test/{kind}/{number:03}.png", start + number, mask, defect=255 - number)
            if kind == "logical_anomalies":
                values = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
                values[30:34, 40:46] = 3
                Image.fromarray(values).save(root / name / f"ground_truth/{kind}/000/001.png")
        table = [
            {
                "defect_name": f"defect {value}",
                "pixel_value": value,
                "saturation_threshold": 1,
                "relative_saturation": True,
            }
            for value in (255, 254, 3)
        ]
        (root / name / "defects_config.json").write_text(json.dumps(table))
    return root


def draw_realiad(root, *categories):
    """Real-IAD with 10 + 7 + 8 images per category: five cameras, of which one or two see no defect of an object."""
    for name in categories:
        listed = {"train": [], "test": []}
        for sample, (split, kind) in enumerate(
            [("train", "OK"), ("train", "OK"), ("test", "OK"), ("test", "HS"), ("test", "ZW")], start=1
        ):
            for camera in range(1, 6):
                place = f"{'OK' if kind == 'OK' else f'NG/{kind}'}/S{sample:04}"
                file = f"{place}/{name}_{sample:04}_{'OK' if kind == 'OK' else f'NG_{kind}'}_C{camera}_20231021130716"
                seen = kind != "OK" and camera > 1
                mask = root / f"realiad_1024/{name}/{file}.png" if seen else None
                draw_pair(root / f"realiad_1024/{name}/{file}.jpg", 10 * sample + camera, mask)
                listed[split].append(
                    {
                        "category": name,
                        "anomaly_class": kind if seen else "OK",
                        "image_path": f"{file}.jpg",
                        "mask_path": f"{file}.png" if seen else None,
                    }
                )
        meta = {"prefix": f"{name}/", "normal_class": "OK", "pre_transform": False}
        table = root / f"realiad_jsons/{name}.json"
        table.parent.mkdir(parents=True, exist_ok=True)
        table.write_text(json.dumps({"meta": meta, **listed}))
    return root


@pytest.fixture
def mvtec2_root(tmp_path):
    """See :func:`draw_mvtec2`."""
    return draw_mvtec2(tmp_path / "mvtec2", "can", "vial")


@pytest.fixture
def loco_root(tmp_path):
    """See :func:`draw_loco`."""
    return draw_loco(tmp_path / "loco", "pushpins", "screw_bag")


@pytest.fixture
def realiad_root(tmp_path):
    """See :func:`draw_realiad`."""
    return draw_realiad(tmp_path / "realiad", "toy", "usb")
