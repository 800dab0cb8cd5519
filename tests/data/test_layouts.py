"""What the layouts find, and what they refuse, each in one sentence."""

import shutil

import numpy as np
import pytest
from PIL import Image

from altub_exp.data import ImageSet, folder, list_categories, mvtec, open_category
from altub_exp.errors import UserError


def draw(file, size=(8, 8), value=120):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).save(file)


@pytest.fixture
def root(tmp_path):
    """A small category in MVTec AD's layout."""
    for number in (1, 2, 10):
        draw(tmp_path / f"screw/train/good/{number}.png")
    draw(tmp_path / "screw/test/good/000.JPG")
    for kind in ("scratch", "thread"):
        for number in range(2):
            draw(tmp_path / f"screw/test/{kind}/{number:03}.png")
            draw(tmp_path / f"screw/ground_truth/{kind}/{number:03}_mask.png", value=255)
    draw(tmp_path / "screw/train/good/.hidden.png")
    (tmp_path / "screw/license.txt").write_text("free")
    return tmp_path


def sentence(caught):
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_mvtec_layout(root):
    found = mvtec.read(root, "screw")
    assert [sample.image.name for sample in found.train] == ["1.png", "2.png", "10.png"]
    assert [(s.kind, s.image.name, s.mask and s.mask.name) for s in found.test] == [
        ("good", "000.JPG", None),
        ("scratch", "000.png", "000_mask.png"),
        ("scratch", "001.png", "001_mask.png"),
        ("thread", "000.png", "000_mask.png"),
        ("thread", "001.png", "001_mask.png"),
    ]
    assert found.has_masks
    assert [sample.defective for sample in found.test] == [False, True, True, True, True]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("screw/train", ["no folder train/good"]),
        ("screw/test", ["no folder test"]),
        ("screw/train/good/*", ["no normal images to train on"]),
        ("screw/test/good/*", ["no normal test images", "AUROC"]),
        ("screw/ground_truth/thread/001_mask.png", ["without a mask", "thread/001.png", "thread/001_mask.png"]),
        ("screw/test/thread/001.png", ["masks without their image", "thread/001_mask.png"]),
        ("screw/test/thread", ["holds masks", "test/thread"]),
        ("screw/ground_truth", ["without a mask", "and 1 more", "dataset=folder"]),
    ],
)
def test_mvtec_layout_with_something_missing(root, damage, words):
    for path in root.glob(damage):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(UserError) as caught:
        mvtec.read(root, "screw")
    assert all(word in sentence(caught) for word in words), sentence(caught)


def test_no_defective_test_images(root):
    for place in ("test/scratch", "test/thread", "ground_truth"):
        shutil.rmtree(root / "screw" / place)
    with pytest.raises(UserError, match="no defective test images"):
        mvtec.read(root, "screw")


@pytest.mark.parametrize(
    ("category", "words"),
    [
        ("scrw", ["no category 'scrw'", "did you mean screw?", "those there (screw)"]),
        ("bottle", ["no category 'bottle'", "mvtec.com"]),
    ],
)
def test_unknown_and_missing_categories(root, category, words):
    with pytest.raises(UserError) as caught:
        mvtec.read(root, category)
    assert all(word in sentence(caught) for word in words), sentence(caught)


def test_a_missing_root_tells_the_layout_and_the_source(tmp_path):
    with pytest.raises(UserError) as caught:
        mvtec.read(tmp_path / "absent", "screw")
    for word in ("train/good", "mvtec.com", "dataset.root"):
        assert word in sentence(caught)


def test_counts_of_mvtec_ad_add_up_to_the_published_totals():
    """Bergmann et al. 2019: 3629 images for training, 1725 for testing."""
    train, good, defective = (sum(counts[k] for counts in mvtec.COUNTS.values()) for k in range(3))
    assert (train, good + defective, len(mvtec.COUNTS)) == (3629, 1725, 15)


def test_fingerprint_follows_the_files_and_not_their_place(root, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "data"
    shutil.copytree(root, elsewhere)
    print_ = mvtec.read(root, "screw").fingerprint()
    assert mvtec.read(elsewhere, "screw").fingerprint() == print_
    draw(elsewhere / "screw/ground_truth/thread/001_mask.png", size=(80, 8))
    changed = mvtec.read(elsewhere, "screw").fingerprint()
    (elsewhere / "screw/train/good/2.png").rename(elsewhere / "screw/train/good/3.png")
    assert len({print_, changed, mvtec.read(elsewhere, "screw").fingerprint()}) == 3


DIRS = {"train_dir": "train", "normal_dir": "test/normal", "defect_dir": "test/defective", "mask_dir": "masks"}


@pytest.fixture
def own(tmp_path):
    """A user's own images without masks."""
    for number in range(3):
        draw(tmp_path / f"bolts/train/{number}.png")
        draw(tmp_path / f"bolts/test/normal/{number}.jpg")
        draw(tmp_path / f"bolts/test/defective/{number}.png")
    return tmp_path


def test_folder_without_masks(own):
    found = folder.read(own, "bolts", **DIRS)
    assert (len(found.train), len(found.test), found.has_masks) == (3, 6, False)
    assert {sample.kind for sample in found.test} == {"good", "defective"}


def test_folder_with_kinds_and_masks_of_either_name(own):
    draw(own / "bolts/test/defective/bent/a.jpg")
    for name in ("0.png", "1_mask.png", "2.png", "bent/a_mask.png"):
        draw(own / "bolts/masks" / name)
    found = folder.read(own, "bolts", **DIRS)
    assert found.has_masks
    assert [(s.kind, s.image.name, s.mask.name) for s in found.test if s.defective] == [
        ("defective", "0.png", "0.png"),
        ("defective", "1.png", "1_mask.png"),
        ("defective", "2.png", "2.png"),
        ("bent", "a.jpg", "a_mask.png"),
    ]
    assert not folder.read(own, "bolts", **(DIRS | {"mask_dir": None})).has_masks


def test_folder_with_some_masks_missing(own):
    draw(own / "bolts/masks/0.png")
    with pytest.raises(UserError) as caught:
        folder.read(own, "bolts", **DIRS)
    for word in ("without a mask", "1.png", "2.png", "dataset.mask_dir=null"):
        assert word in sentence(caught)


@pytest.mark.parametrize(
    ("changes", "category", "words"),
    [
        ({}, "bolt", ["did you mean bolts?", "dataset.root"]),
        ({"train_dir": "good"}, "bolts", ["no folder good", "dataset.train_dir"]),
        ({"defect_dir": "bad"}, "bolts", ["no folder bad", "dataset.defect_dir"]),
        ({"normal_dir": "nowhere"}, "bolts", ["no folder nowhere", "dataset.normal_dir"]),
    ],
)
def test_folder_with_something_missing(own, changes, category, words):
    with pytest.raises(UserError) as caught:
        folder.read(own, category, **(DIRS | changes))
    assert all(word in sentence(caught) for word in words), sentence(caught)


def test_open_category_takes_what_the_configuration_names(compose, own, root, tmp_path):
    found = open_category(compose("dataset=folder", f"dataset.root={own}", "dataset.category=bolts").dataset)
    assert isinstance(found, ImageSet)
    assert (found.dataset, found.category, len(found.train)) == ("folder", "bolts", 3)
    assert len(open_category(compose(f"dataset.root={root}", "dataset.category=screw").dataset).test) == 5


def test_all_needs_a_sweep_and_stands_for_the_categories(compose, own):
    config = compose("dataset=folder", f"dataset.root={own}", "dataset.category=all").dataset
    assert "bolts" in list_categories(config)
    with pytest.raises(UserError, match="not one category: name one, or several with -m"):
        open_category(config)
    assert list_categories(compose("dataset.category=all").dataset) == list(mvtec.COUNTS)


def test_the_real_screws_are_complete(shared):
    found = mvtec.read(shared / "data/mvtec", "screw")
    defective = sum(sample.defective for sample in found.test)
    assert (len(found.train), len(found.test) - defective, defective) == mvtec.COUNTS["screw"]
    assert np.asarray(Image.open(found.train[0].image)).ndim == 2
