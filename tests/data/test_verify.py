"""``python -m altub_exp.data`` through the command line."""

from pathlib import Path

import pytest

from altub_exp.data.mvtec import COUNTS
from altub_exp.data.synthetic import Drawing, draw
from tests.commandline import run


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    root = tmp_path_factory.mktemp("drawn")
    draw(root, "washer", Drawing(size=64, train_images=3, good_images=2, defect_images=2, seed=0))
    return root


@pytest.fixture
def root(drawn, tmp_path):
    import shutil

    return shutil.copytree(drawn, tmp_path / "data")


def verify(*arguments, status):
    out, err = run(Path.cwd(), *map(str, arguments), module="altub_exp.data", expect=status, seconds=120)
    assert "Traceback" not in err
    return out + err


def test_a_sound_folder(root):
    out = verify(root, status=0)
    assert row(out, "washer").split()[:4] == ["washer", "3", "2", "6"]
    assert "contamination 2, dent 2, scratch 2" in row(out, "washer")
    assert "no problems found" in out


def test_damaged_files_missing_masks_and_wrong_counts_are_listed(root):
    (root / "washer").rename(root / "screw")
    image = root / "screw/train/good/001.png"
    image.write_bytes(image.read_bytes()[:200])
    (root / "screw/ground_truth/dent/000_mask.png").unlink()
    out = verify(root, status=1)
    assert f"screw: {image} cannot be read" in out
    assert "defective images without a mask" in out
    (root / "screw/test/dent/000.png").unlink()
    out = verify(root, status=1)
    assert f"3 training images, MVTec AD has {COUNTS['screw'][0]}" in out
    assert "missing from MVTec AD: carpet" in out


def row(out, category):
    return next(line for line in out.splitlines() if line.strip().startswith(category))


def test_btad_against_the_published_counts(btad_root):
    out = verify(btad_root, "--layout", "btad", status=1)
    for category in ("01", "02", "03"):
        assert row(out, category).split() == [category, "6", "3", "4", "ko", "4", "4", "3", "findings"]
    assert "missing from BTAD: none, all 3 are present" in out
    assert "03: 6 training images, BTAD has 1000" in out
    assert "01: 3 normal test images, BTAD has 21" in out
    assert "02: 4 defective test images, BTAD has 200" in out
    assert "cannot be read" not in out


def test_visa_against_the_published_counts(visa_root):
    out = verify(visa_root, "--layout", "visa", status=1)
    assert row(out, "pcb1").split() == ["pcb1", "6", "3", "4", "anomaly", "4", "4", "3", "findings"]
    assert "missing from VisA: capsules, cashew, chewinggum," in out
    assert "candle: 6 training images, VisA has 900" in out
    assert "cannot be read" not in out


@pytest.mark.parametrize(
    ("layout", "line", "words"),
    [
        (
            "mvtec2",
            "vial 6 3 4 bad 4 4 3 findings",
            ["can: 4 defective test images, MVTec AD 2 has 90", "fabric, fruit_jelly"],
        ),
        (
            "loco",
            "pushpins 6 3 4 logical_anomalies 2, structural_anomalies 2 4 3 findings",
            ["pushpins: 4 defective test images, MVTec LOCO AD has 172", "missing from MVTec LOCO AD: breakfast_box,"],
        ),
        ("realiad", "toy 10 7 8 HS 4, ZW 4 8 3 findings", ["usb: 10 training images, Real-IAD has 1230"]),
    ],
)
def test_later_layouts_against_the_published_counts(request, layout, line, words):
    out = verify(request.getfixturevalue(f"{layout}_root"), "--layout", layout, status=1)
    assert row(out, line.split()[0]).split() == line.split()
    assert all(word in out for word in words)
    assert "cannot be read" not in out


def test_folders_of_realiad_can_be_named(realiad_root):
    (realiad_root / "realiad_jsons").rename(realiad_root / "realiad_jsons_sv")
    (realiad_root / "realiad_1024").rename(realiad_root / "realiad_256")
    named = ("--layout", "realiad", "--split-dir", "realiad_jsons_sv", "--image-dir")
    assert "no problems found" in verify(realiad_root, *named, "realiad_256", status=0)
    assert "has no folder realiad_512 of Real-IAD" in verify(realiad_root, *named, "realiad_512", status=1)


@pytest.mark.parametrize(
    ("layout", "mask"), [("btad", "01/ground_truth/ko/0001.png"), ("visa", "candle/Data/Masks/Anomaly/001.png")]
)
def test_damaged_and_missing_masks_of_other_layouts(request, layout, mask):
    root = request.getfixturevalue(f"{layout}_root")
    file = root / mask
    file.write_bytes(file.read_bytes()[:50])
    arguments = (root, "--layout", layout, "--category", mask.split("/")[0])
    assert f"{file} cannot be read" in verify(*arguments, status=1)
    file.unlink()
    out = verify(*arguments, status=1)
    assert "without a mask" in out if layout == "btad" else "1 files that" in out
    assert file.stem in out


@pytest.mark.parametrize(
    ("given", "layout"),
    [
        *[("mvtec", "btad"), ("mvtec", "visa"), ("visa", "btad"), ("mvtec", "mvtec2"), ("mvtec2", "loco")],
        *[("mvtec", "realiad"), ("loco", "mvtec2"), ("realiad", "visa")],
    ],
)
def test_another_layout_than_the_one_named(request, given, layout):
    out = verify(request.getfixturevalue(f"{layout}_root"), "--layout", given, status=1)
    assert f"is not laid out as {given} but as {layout}: add --layout {layout}." in out


def test_own_folders(root):
    (root / "washer/test/good").rename(root / "washer/normal")
    arguments = (
        root,
        "--layout",
        "folder",
        "--train-dir",
        "train/good",
        "--normal-dir",
        "normal",
        "--defect-dir",
        "test",
    )
    out = verify(*arguments, "--mask-dir", "ground_truth", status=0)
    assert row(out, "washer").split()[:4] == ["washer", "3", "2", "6"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "There is no folder nowhere"),
        (["--category", "nut"], "no category 'nut'"),
        (["--layout", "visa"], "is not laid out as visa but as mvtec: add --layout mvtec"),
        (["--layout", "folder", "--category", "nut"], "is not laid out as folder but as mvtec"),
    ],
)
def test_bad_arguments(root, arguments, words):
    if arguments[0] != "nowhere":
        arguments = [root, *arguments]
    out = verify(*arguments, status=1)
    assert "error: " in out
    assert words in out


def test_the_real_screws(shared):
    assert "complete" in verify(shared / "data/mvtec", "--category", "screw", status=0)


def test_normal_images_only_are_noted_and_no_problem(root):
    (root / "washer/train/good").rename(root / "washer/normal")
    arguments = (root, "--layout", "folder", "--train-dir", "normal", "--normal-dir", "test/good")
    out = verify(*arguments, "--defect-dir", "null", status=0)
    assert row(out, "washer").split()[:4] == ["washer", "3", "2", "0"]
    assert "note: washer: There are no defective test images, so that a run has no AUROC" in " ".join(out.split())
    assert "no problems found" in out
    out = " ".join(verify(*arguments, status=1).split())
    assert "no AUROC" not in out
    assert "has no folder test/defective: make it, or name yours with dataset.defect_dir=…, or set" in out
