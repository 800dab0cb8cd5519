"""The layouts: the images that they find, and the mistakes that they refuse, each in one sentence."""

import shutil

import numpy as np
import pytest
from PIL import Image

from altub_exp.data import ImageSet, btad, list_categories, load_masks, mvtec, open_category, visa
from altub_exp.data.canvas import Canvas
from altub_exp.data.folder import Folders
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


def assert_refused(layout, root, category, words):
    """Assert that a layout refuses a category in one sentence with these words."""
    with pytest.raises(UserError) as caught:
        layout.read(root, category)
    assert all(word in sentence(caught) for word in words), sentence(caught)


def remove(root, pattern):
    found = list(root.glob(pattern)) if pattern != "." else [root]
    assert found
    for path in found:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_mvtec_layout(root):
    found = mvtec.LAYOUT.read(root, "screw")
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
    remove(root, damage)
    assert_refused(mvtec.LAYOUT, root, "screw", words)


def test_no_defective_test_images_and_none_at_all(root):
    for place in ("test/scratch", "test/thread", "ground_truth"):
        shutil.rmtree(root / "screw" / place)
    found = mvtec.LAYOUT.read(root, "screw")
    assert (found.counts(), found.has_masks) == ((3, 1, 0), False)
    (sentence,) = found.without_auroc()
    assert sentence.startswith("There are no defective test images, so that a run has no AUROC")
    remove(root, "screw/test/good/*")
    found = mvtec.LAYOUT.read(root, "screw")
    assert (found.counts(), found.has_masks) == ((3, 0, 0), False)
    assert found.without_auroc()[0].startswith("There are no test images, so that")


@pytest.mark.parametrize(
    ("category", "words"),
    [
        ("scrw", ["no category 'scrw'", "did you mean screw?", "those there (screw)"]),
        ("bottle", ["no category 'bottle'", "mvtec.com"]),
    ],
)
def test_unknown_and_missing_categories(root, category, words):
    assert_refused(mvtec.LAYOUT, root, category, words)


def test_a_missing_root_tells_the_layout_and_the_source(tmp_path):
    with pytest.raises(UserError) as caught:
        mvtec.LAYOUT.read(tmp_path / "absent", "screw")
    for word in ("train/good", "mvtec.com", "dataset.root"):
        assert word in sentence(caught)


@pytest.mark.parametrize(
    ("counts", "totals"),
    [
        (mvtec.COUNTS, (15, 3629, 467, 1258)),  # Bergmann et al. 2019: 3629 images for training, 1725 for testing
        (btad.COUNTS, (3, 1799, 451, 290)),  # 2540 images
        (visa.COUNTS, (12, 8659, 962, 1200)),  # Zou et al. 2022: 9621 normal and 1200 anomalous images
    ],
)
def test_counts_add_up_to_the_published_totals(counts, totals):
    assert (len(counts), *map(sum, zip(*counts.values(), strict=True))) == totals


@pytest.mark.parametrize(
    ("category", "image", "mask"), [("01", "bmp", "png"), ("02", "png", "png"), ("03",) + 2 * ("bmp",)]
)
def test_btad_layout(btad_root, category, image, mask):
    found = btad.LAYOUT.read(btad_root, category)
    assert (found.dataset, found.category, found.has_masks) == ("btad", category, True)
    assert [(s.kind, s.image.name) for s in found.train] == [("good", f"{n:04}.{image}") for n in range(6)]
    assert [(s.kind, s.image.name, s.mask and s.mask.name) for s in found.test] == [
        *[("ko", f"{n:04}.{image}", f"{n:04}.{mask}") for n in range(4)],
        *[("good", f"{n:04}.{image}", None) for n in range(3)],
    ]
    covered = load_masks(found.test, Canvas(36)).float().mean((1, 2))
    assert (covered[:3] > 0.03).all()
    assert (covered[3] > 0) == (category != "03")  # empty in 03
    assert not covered[4:].any()


def test_btad_masks_of_normal_images_are_left_alone(btad_root):
    draw(btad_root / "02/ground_truth/ok/0000.png")
    assert {s.mask for s in btad.LAYOUT.read(btad_root, "02").test if not s.defective} == {None}


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("01/train", ["no folder train/ok", "test/ok", "dataset=folder"]),
        ("01/test", ["no folder test"]),
        ("01/train/ok/*", ["no normal images to train on"]),
        ("01/test/ok/*", ["no normal test images"]),
        ("01/ground_truth/ko/0002.png", ["without a mask", "test/ko/0002.bmp", "ground_truth/ko/0002.png"]),
        ("01/test/ko/0002.bmp", ["masks without their image", "ground_truth/ko/0002.png"]),
        ("01/test/ko", ["holds masks", "test/ko"]),
        ("01/ground_truth", ["without a mask", "and 1 more", "dataset=folder"]),
        ("01", ["no category '01'", "btad.zip", "that is there (02, 03)"]),
        (".", ["no dataset folder", "01/train/ok", "btad.zip", "dataset.root"]),
    ],
)
def test_btad_layout_with_something_missing(btad_root, damage, words):
    remove(btad_root, damage)
    assert_refused(btad.LAYOUT, btad_root, "01", words)


def test_btad_category_without_its_zero(btad_root):
    with pytest.raises(UserError, match=r"no category '1' .*did you mean 01\?"):
        btad.LAYOUT.read(btad_root, "1")


def test_visa_layout(visa_root):
    found = visa.LAYOUT.read(visa_root, "candle")
    assert (found.dataset, found.category, found.has_masks) == ("visa", "candle", True)
    assert [(s.kind, s.image.name) for s in found.train] == [("good", f"{n:04}.JPG") for n in (1, 2, 4, 5, 7, 8)]
    assert [(s.kind, s.image.name, s.mask and s.mask.name) for s in found.test] == [
        *[("good", f"{n:04}.JPG", None) for n in (0, 3, 6)],
        *[("anomaly", f"{n:03}.JPG", f"{n:03}.png") for n in range(4)],
    ]
    assert all(s.image.parent.parent.parent.parent.name == "candle" for s in found.train + found.test)
    covered = load_masks(found.test, Canvas(36)).float().mean((1, 2))
    assert not covered[:3].any()
    assert (covered[3:] > 0.03).all()


def test_visa_categories_are_the_objects_of_the_table_that_are_on_disk(visa_root, tmp_path):
    assert visa.LAYOUT.categories(visa_root) == ["candle", "pcb1"]
    assert visa.LAYOUT.categories(tmp_path / "absent") == []


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (".", ["no dataset folder", "split_csv/1cls.csv", "spot-diff", "dataset.root"]),
        ("split_csv/1cls.csv", ["no table", "split_csv/1cls.csv", "spot-diff", "dataset.root"]),
        ("candle", ["no category 'candle'", "spot-diff", "that is there (pcb1)"]),
        ("candle/Data/Images/Normal/0003.JPG", ["1 files", "1cls.csv names", "Normal/0003.JPG. Unpack VisA"]),
        ("candle/Data/Masks/Anomaly/*", ["4 files", "Anomaly/000.png", "and 1 more"]),
    ],
)
def test_visa_layout_with_something_missing(visa_root, damage, words):
    remove(visa_root, damage)
    assert_refused(visa.LAYOUT, visa_root, "candle", words)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("split,label", "part,label", ["no column split", "object,split,label,image,mask"]),
        ("candle,train,", "candle,val,", ["Line ", "has split 'val'", "train or test"]),
        ("candle,test,anomaly", "candle,test,bad", ["has label 'bad'", "normal or anomaly"]),
        ("candle,test,anomaly", "candle,train,anomaly", ["trains on anomalies", "000.JPG", "and 1 more", "spot-diff"]),
        (",candle/Data/Masks/Anomaly/001.png", ",", ["names no mask for", "Anomaly/001.JPG", "spot-diff"]),
        ("candle,test,normal", "candle,train,normal", ["no normal test images"]),
        ("object,", "\udcff,", ["cannot be read as a table", "spot-diff"]),
        ("object,split", "", ["no column object, split"]),
    ],
)
def test_visa_table_that_says_something_else(visa_root, old, new, words):
    table = visa_root / "split_csv/1cls.csv"
    text = table.read_text()
    assert old in text
    table.write_text(text.replace(old, new), errors="surrogateescape")
    assert_refused(visa.LAYOUT, visa_root, "candle", words)


def test_visa_object_without_anomalies(visa_root):
    table = visa_root / "split_csv/1cls.csv"
    table.write_text(table.read_text().replace("candle,test,anomaly", "pcb1,test,anomaly"))
    assert visa.LAYOUT.read(visa_root, "candle").counts() == (6, 3, 0)


def test_the_order_of_visas_table_does_not_matter(visa_root):
    before = visa.LAYOUT.read(visa_root, "candle")
    table = visa_root / "split_csv/1cls.csv"
    first, *lines = table.read_text().splitlines()
    table.write_text("\n".join([first, *reversed(lines)]))
    assert visa.LAYOUT.read(visa_root, "candle") == before


def test_visa_table_as_a_spreadsheet_saves_it(visa_root):
    table = visa_root / "split_csv/1cls.csv"
    table.write_text("\ufeff" + table.read_text() + "\n")
    assert len(visa.LAYOUT.read(visa_root, "candle").train) == 6


def test_fingerprint_follows_the_split(visa_root):
    before = visa.LAYOUT.read(visa_root, "candle").fingerprint()
    table = visa_root / "split_csv/1cls.csv"
    text = table.read_text()
    table.write_text(text.replace("train,normal,pcb1", "test,normal,pcb1", 1))
    assert visa.LAYOUT.read(visa_root, "candle").fingerprint() == before
    table.write_text(text.replace("train,normal,candle", "test,normal,candle", 1))
    assert visa.LAYOUT.read(visa_root, "candle").fingerprint() != before


def test_fingerprint_follows_the_files_and_not_their_place(root, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "data"
    shutil.copytree(root, elsewhere)
    print_ = mvtec.LAYOUT.read(root, "screw").fingerprint()
    assert mvtec.LAYOUT.read(elsewhere, "screw").fingerprint() == print_
    draw(elsewhere / "screw/ground_truth/thread/001_mask.png", size=(80, 8))
    changed = mvtec.LAYOUT.read(elsewhere, "screw").fingerprint()
    (elsewhere / "screw/train/good/2.png").rename(elsewhere / "screw/train/good/3.png")
    assert len({print_, changed, mvtec.LAYOUT.read(elsewhere, "screw").fingerprint()}) == 3


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
    found = Folders(**DIRS).read(own, "bolts")
    assert (len(found.train), len(found.test), found.has_masks) == (3, 6, False)
    assert {sample.kind for sample in found.test} == {"good", "defective"}


def test_folder_with_kinds_and_masks_of_either_name(own):
    draw(own / "bolts/test/defective/bent/a.jpg")
    for name in ("0.png", "1_mask.png", "2.png", "bent/a_mask.png"):
        draw(own / "bolts/masks" / name)
    found = Folders(**DIRS).read(own, "bolts")
    assert found.has_masks
    assert [(s.kind, s.image.name, s.mask.name) for s in found.test if s.defective] == [
        ("defective", "0.png", "0.png"),
        ("defective", "1.png", "1_mask.png"),
        ("defective", "2.png", "2.png"),
        ("bent", "a.jpg", "a_mask.png"),
    ]
    assert not Folders(**(DIRS | {"mask_dir": None})).read(own, "bolts").has_masks


def test_folder_of_normal_images(own):
    shutil.rmtree(own / "bolts/test/defective")
    (own / "bolts/test/defective").mkdir()
    empty = Folders(**DIRS).read(own, "bolts")
    assert empty.counts() == (3, 3, 0)
    without = Folders(**(DIRS | {"defect_dir": None}))
    assert without.fits(own)
    assert without.read(own, "bolts").fingerprint() == empty.fingerprint()
    bare = Folders("train", None, None, "masks").read(own, "bolts")
    assert (bare.counts(), bare.has_masks) == ((3, 0, 0), False)
    draw(own / "bolts/test/defective/0.png")
    with pytest.raises(UserError, match="no normal test images"):
        Folders(**(DIRS | {"normal_dir": None})).read(own, "bolts")


def test_folder_with_some_masks_missing(own):
    draw(own / "bolts/masks/0.png")
    with pytest.raises(UserError) as caught:
        Folders(**DIRS).read(own, "bolts")
    for word in ("without a mask", "1.png", "2.png", "dataset.mask_dir=null"):
        assert word in sentence(caught)


@pytest.mark.parametrize(
    ("changes", "category", "words"),
    [
        ({}, "bolt", ["did you mean bolts?", "dataset.root"]),
        ({"train_dir": "good"}, "bolts", ["no folder good", "dataset.train_dir"]),
        ({"defect_dir": "bad"}, "bolts", ["no folder bad", "dataset.defect_dir=…", "dataset.defect_dir=null"]),
        ({"normal_dir": "nowhere"}, "bolts", ["no folder nowhere", "dataset.normal_dir=…", "dataset.normal_dir=null"]),
    ],
)
def test_folder_with_something_missing(own, changes, category, words):
    with pytest.raises(UserError) as caught:
        Folders(**(DIRS | changes)).read(own, category)
    assert all(word in sentence(caught) for word in words), sentence(caught)


def test_open_category_takes_what_the_configuration_names(compose, own, root, tmp_path):
    found = open_category(compose("dataset=folder", f"dataset.root={own}", "dataset.category=bolts").dataset)
    assert isinstance(found, ImageSet)
    assert (found.dataset, found.category, len(found.train)) == ("folder", "bolts", 3)
    assert len(open_category(compose(f"dataset.root={root}", "dataset.category=screw").dataset).test) == 5


def test_btad_and_visa_by_the_configuration(compose, btad_root, visa_root):
    for name, root, category, counts in (
        ("btad", btad_root, "01", btad.COUNTS),
        ("visa", visa_root, "candle", visa.COUNTS),
    ):
        config = compose(f"dataset={name}", f"dataset.root={root}", f"dataset.category={category}").dataset
        assert (config.category, list_categories(config)) == (category, list(counts))
        found = open_category(config)
        assert (found.dataset, found.category, len(found.train), len(found.test)) == (name, category, 6, 7)
        assert compose(f"dataset={name}", f"dataset.category={category}").dataset.root == f"data/{name}"


def test_categories_that_the_configuration_leaves_open_are_those_on_disk(compose, visa_root):
    config = compose("dataset=visa", f"dataset.root={visa_root}", "dataset.categories=null", "dataset.category=all")
    assert list_categories(config.dataset) == ["candle", "pcb1"]


def test_all_needs_a_sweep_and_stands_for_the_categories(compose, own):
    config = compose("dataset=folder", f"dataset.root={own}", "dataset.category=all").dataset
    assert "bolts" in list_categories(config)
    with pytest.raises(UserError, match="not one category: name one, or several with -m"):
        open_category(config)
    assert list_categories(compose("dataset.category=all").dataset) == list(mvtec.COUNTS)


def test_the_real_screws_are_complete(shared):
    found = mvtec.LAYOUT.read(shared / "data/mvtec", "screw")
    defective = sum(sample.defective for sample in found.test)
    assert (len(found.train), len(found.test) - defective, defective) == mvtec.COUNTS["screw"]
    assert np.asarray(Image.open(found.train[0].image)).ndim == 2
