"""``python -m altub_exp.data`` through the command line."""

import subprocess
import sys

import pytest

from altub_exp.data.mvtec import COUNTS
from altub_exp.data.synthetic import Drawing, draw


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
    done = subprocess.run(
        [sys.executable, "-m", "altub_exp.data", *map(str, arguments)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def test_a_sound_folder(root):
    out = verify(root, status=0)
    row = next(line for line in out.splitlines() if "washer" in line)
    assert row.split()[:4] == ["washer", "3", "2", "6"]
    assert "contamination 2, dent 2, scratch 2" in row
    assert "nothing wrong was found" in out


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
    assert "not present of MVTec AD: carpet" in out


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
    assert next(line for line in out.splitlines() if "washer" in line).split()[:4] == ["washer", "3", "2", "6"]


@pytest.mark.parametrize(
    ("arguments", "words"), [(["nowhere"], "There is no folder nowhere"), (["--category", "nut"], "no category 'nut'")]
)
def test_bad_arguments(root, arguments, words):
    if arguments[0] != "nowhere":
        arguments = [root, *arguments]
    out = verify(*arguments, status=1)
    assert "error: " in out
    assert words in out


def test_the_real_screws(shared):
    assert "complete" in verify(shared / "data/mvtec", "--category", "screw", status=0)
