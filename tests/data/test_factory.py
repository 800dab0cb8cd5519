"""Unusual images through the real command lines: check, train and predict agree on each."""

import csv
import os
import shutil

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.commandline import run
from tests.data.pictures import MASKS, READ, REFUSED, M, S, grey
from tests.data.test_training import TINY

FOLDER = ["dataset=folder", "dataset.root=.", "dataset.category=part", "backbone=r18"]


def twelve_bits(file, number, defect=None):
    """An image of 12 bits in 16, with a defect where the mask is."""
    file.parent.mkdir(parents=True, exist_ok=True)
    values = (grey(4095) + 97 * number) % 4096
    Image.fromarray(np.where(M, 4095, values).astype(np.uint16) if defect else values.astype(np.uint16)).save(file)


@pytest.fixture
def part(tmp_path):
    """A category of 12-bit images and masks of ones, with names of any encoding in nested folders."""
    folder = tmp_path / "part"
    for number in range(5):
        twelve_bits(folder / f"train/day {number % 2}" / os.fsdecode(b"M\xfcnze %d.png" % number), number)
    for number in range(3):
        twelve_bits(folder / f"test/normal/[{number}].tif", 10 + number)
        twelve_bits(folder / f"test/defective/good/{number}.png", 20 + number, defect=True)
        (folder / "masks/good").mkdir(parents=True, exist_ok=True)
        Image.fromarray(M.astype(np.uint8)).save(folder / f"masks/good/{number}.png")
    return folder


def check(cwd, *options, status):
    out, err = run(cwd, ".", "--layout", "folder", *options, module="altub_exp.data", expect=status)
    assert "Traceback" not in out + err
    return out


def train(cwd, *overrides, status):
    _, err = run(cwd, *FOLDER, *TINY, *overrides, expect=status)
    assert "Traceback" not in err
    return err


def test_one_set_of_them_is_checked_trained_and_scored(part, tmp_path):
    shutil.copy(part / "train/day 0" / os.fsdecode(b"M\xfcnze 0.png"), part / "test/normal/copy.png")
    (part / "train/loop").symlink_to(part)
    (part / "train/part.heic").write_bytes(b"unknown")
    out = check(tmp_path, "--bit-depth", "12", status=0)
    assert "no problems found" in out
    err = train(tmp_path, "dataset.bit_depth=12", status=0)
    for said in (out, err):
        assert (
            "1 images have copies in another place: part/train/day 0/M\\udcfcnze 0.png = part/test/normal/copy.png"
            in said
        )
        assert "1 files are not used: part/train/part.heic" in said
    assert "16-bit images are read with dataset.bit_depth=12: the value 4095 is white" in err
    assert "5 training and 7 test images" in err
    (folder,) = (tmp_path / "runs/folder/part/fastflow-r18/alternating").iterdir()
    assert yaml.safe_load((folder / "config.yaml").read_text())["dataset"]["bit_depth"] == 12
    (part / "train/loop").unlink()
    (part / "train/endless.png").symlink_to("/dev/zero")
    _, err = run(tmp_path, str(folder), "part/train", module="altub_exp.predict", expect=1)
    assert "Traceback" not in err
    with (tmp_path / "predictions/scores.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = {os.path.basename(row["file"]): row for row in csv.DictReader(file)}
    assert rows.pop("endless.png")["error"] == "cannot be read as an image (not a regular file)"
    assert sorted(rows) == [os.fsdecode(b"M\xfcnze %d.png" % number) for number in range(5)]
    assert all(row["score"] and os.path.getsize(tmp_path / row["overlay"]) for row in rows.values())


BAD_IMAGES = [
    "12 bits in png, undeclared",
    "8 bits in 32, undeclared",
    "NaN",
    "floating point to 255",
    "two pages of a tiff",
    "text",
    "half a jpg",
    "400 megapixels",
    "a link to nothing",
    "a link to an endless file",
    "a pipe",
]
BAD_MASKS = ["ids among white", "two pages", "a link to an endless file"]


@pytest.mark.parametrize(
    ("cases", "name"),
    [
        (REFUSED, BAD_IMAGES[0]),
        (MASKS, BAD_MASKS[0]),
        *(pytest.param(REFUSED, name, marks=pytest.mark.slow) for name in BAD_IMAGES[1:]),
        *(pytest.param(MASKS, name, marks=pytest.mark.slow) for name in BAD_MASKS[1:]),
    ],
)
def test_a_bad_file_is_one_sentence_of_check_and_train_before_any_training(tmp_path, cases, name):
    part = tmp_path / "part"
    for place in ("train", "test/normal", "test/defective", "masks"):
        (part / place).mkdir(parents=True)
        for number in range(4):
            content = MASKS["ones"].content if place == "masks" else READ["pgm"].content
            shape = np.random.default_rng([len(place), number]).integers(0, 255, (S, S))
            file = part / place / f"{number}.png"
            file.write_bytes(content) if place == "masks" else Image.fromarray(shape.astype(np.uint8)).save(file)
    if cases is MASKS:
        (part / "masks/0.png").unlink()
        bad = cases[name].write(part / "masks")
        bad = bad.rename(bad.with_stem("0"))
        with Image.open(bad) if bad.is_file() else Image.new("L", (S, S)) as opened:
            Image.new("L", opened.size).save(part / "test/defective/0.png")
    else:
        bad = cases[name].write(part / "train")
    words = cases[name].words
    findings = [line for line in check(tmp_path, status=1).splitlines() if line.startswith("✗")]
    assert len(findings) == 1
    *warnings, sentence = train(tmp_path, status=1).splitlines()
    assert all("weights are random" in warning for warning in warnings)
    assert sentence.startswith("error: 1 image files cannot be read (")
    for said in (*findings, sentence):
        assert words in said
        assert str(bad.relative_to(tmp_path)) in said
    assert not (tmp_path / "runs").exists()
