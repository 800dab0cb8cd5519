"""MVTec AD 2, MVTec LOCO AD and Real-IAD: the images that are found, and the mistakes, each in one sentence."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from altub_exp.data import LAYOUTS, load_masks, loco, mvtec, mvtec2, open_category, realiad
from altub_exp.data.canvas import Canvas
from altub_exp.data.images import findings
from altub_exp.errors import UserError
from tests.data.conftest import HEIGHT, WIDTH
from tests.data.test_layouts import assert_refused, remove, sentence


def read(root, layout, category):
    return LAYOUTS[layout].read(root, category)


def names(samples):
    return [(s.kind, s.image.name, s.mask and s.mask.name) for s in samples]


@pytest.mark.parametrize("layout", ["mvtec2", "loco", "realiad"])
def test_the_configuration_lists_the_published_categories(compose, layout):
    config = compose(f"dataset={layout}", "dataset.category=any").dataset
    assert config.categories == list(LAYOUTS[layout].published.counts)
    assert (config.name, config.layout, config.root) == (layout, layout, f"data/{layout}")


@pytest.mark.parametrize(
    ("counts", "totals"),
    [
        (mvtec2.COUNTS, (8, 2528, 379, 705)),
        (loco.COUNTS, (5, 1778, 575, 561 + 432)),  # Bergmann et al. 2022: 1568 test images
        (realiad.COUNTS, (30, 36465, 63256, 51329)),  # Wang et al. 2024: 99721 normal and 51329 anomalous images
    ],
)
def test_counts_add_up_to_the_published_totals(counts, totals):
    assert (len(counts), *map(sum, zip(*counts.values(), strict=True))) == totals


def test_counts_of_realiad_are_those_of_five_cameras():
    assert all(sum(counts) % 5 == counts[0] % 5 == 0 for counts in realiad.COUNTS.values())


def test_mvtec2_layout(mvtec2_root):
    images = read(mvtec2_root, "mvtec2", "vial")
    assert (images.dataset, images.category, images.has_masks) == ("mvtec2", "vial", True)
    assert [sample.image.name for sample in images.train] == [f"{n:03}_regular.png" for n in range(6)]
    assert names(images.test) == [
        ("bad", "000_overexposed.png", "000_overexposed_mask.png"),
        ("bad", "000_regular.png", "000_regular_mask.png"),
        ("bad", "000_shift_1.png", "000_shift_1_mask.png"),
        ("bad", "000_underexposed.png", "000_underexposed_mask.png"),
        ("good", "000_overexposed.png", None),
        ("good", "000_regular.png", None),
        ("good", "000_shift_1.png", None),
    ]
    assert not any("private" in str(file) or "validation" in str(file) for file in images.files())
    assert images.left_out() == []
    covered = load_masks(images.test, Canvas(36)).float().mean((1, 2))
    assert (covered[:4] > 0.03).all()
    assert not covered[4:].any()


def test_a_file_too_many_is_named_once_although_the_masks_lie_among_the_test_images(mvtec2_root):
    (mvtec2_root / "can/test_public/ground_truth/bad/notes.txt").write_text("mine")
    (note,) = read(mvtec2_root, "mvtec2", "can").left_out()
    assert note.startswith("1 files are not used: ")
    assert note.endswith("test_public/ground_truth/bad/notes.txt")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (
            "can/train",
            ["no folder train/good", "test_public/good", "test_public/ground_truth/DEFECT", "dataset=folder"],
        ),
        ("can/test_public", ["no folder test_public"]),
        ("can/train/good/*", ["no normal images to train on"]),
        ("can/test_public/good/*", ["no normal test images"]),
        (
            "can/test_public/ground_truth/bad/000_regular_mask.png",
            ["without a mask", "bad/000_regular.png", "_mask.png"],
        ),
        ("can/test_public/ground_truth", ["without a mask", "ground_truth/bad/000_overexposed_mask.png"]),
        ("can/test_public/bad/000_regular.png", ["masks without their image", "bad/000_regular_mask.png"]),
        ("can/test_public/bad", ["holds masks", "test_public/bad"]),
        ("can", ["no category 'can'", "mvtec-ad-2", "that is there (vial)"]),
        (".", ["no dataset folder", "CATEGORY/test_public/good", "get mvtec2", "dataset.root"]),
    ],
)
def test_mvtec2_layout_with_something_missing(mvtec2_root, damage, words):
    remove(mvtec2_root, damage)
    assert_refused(LAYOUTS["mvtec2"], mvtec2_root, "can", words)


def test_loco_layout(loco_root):
    images = read(loco_root, "loco", "pushpins")
    assert (images.dataset, images.category, images.counts(), images.has_masks) == ("loco", "pushpins", (6, 3, 4), True)
    assert names(images.test) == [
        ("good", "000.png", None),
        ("good", "001.png", None),
        ("good", "002.png", None),
        ("logical_anomalies", "000.png", "000"),
        ("logical_anomalies", "001.png", "001"),
        ("structural_anomalies", "000.png", "000"),
        ("structural_anomalies", "001.png", "001"),
    ]
    assert [len(sample.parts) for sample in images.test] == [0, 0, 0, 2, 1, 1, 1]
    assert images.left_out() == []


def test_several_masks_of_an_image_are_united_whatever_their_ids(loco_root):
    images = read(loco_root, "loco", "pushpins")
    united = images.test[3]
    first, second = (np.asarray(Image.open(file)) for file in united.parts)
    assert set(np.unique(first)) == {0, 255}
    assert set(np.unique(second)) == {0, 3}
    assert not (first.astype(bool) & second.astype(bool)).any()
    (mask,) = load_masks([united], Canvas(64))
    rows, columns = np.arange(64) * HEIGHT // 64, np.arange(64) * WIDTH // 64
    for part in (first, second):
        shrunk = part[rows][:, columns] > 0
        assert mask.numpy()[shrunk].mean() > 0.7
    assert mask.float().mean().item() == pytest.approx(((first > 0) | (second > 0)).mean(), abs=0.02)
    for part in united.parts:
        assert part in images.digests
    before = images.fingerprint()
    Image.open(united.parts[1]).rotate(180).save(united.parts[1])
    assert read(loco_root, "loco", "pushpins").fingerprint() != before


def test_a_damaged_mask_among_several_is_named(loco_root):
    images = read(loco_root, "loco", "pushpins")
    folder = images.test[3].mask
    (folder / "001.png").write_bytes((folder / "001.png").read_bytes()[:40])
    (finding,), notes = findings(images)
    assert finding == f"{folder} cannot be read (001.png: damaged or truncated)"
    assert notes == []
    with pytest.raises(UserError, match=r"\(001\.png: damaged or truncated\): .*logical_anomalies/000\. Replace"):
        load_masks(images.test, Canvas(32))
    Image.new("L", (9, 9)).save(folder / "001.png")
    with pytest.raises(
        UserError, match=r"logical_anomalies/000/001\.png has 9×9 pixels, its image .*000\.png has 48×36"
    ):
        load_masks(images.test, Canvas(32))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("pushpins/train", ["no folder train/good", "ground_truth/DEFECT"]),
        ("pushpins/test", ["no folder test"]),
        ("pushpins/test/good/*", ["no normal test images"]),
        ("pushpins/ground_truth/logical_anomalies/001", ["without a mask", "anomalies/001.png", "001/000.png, white"]),
        ("pushpins/ground_truth/logical_anomalies/001/*", ["without a mask", "test/logical_anomalies/001.png"]),
        ("pushpins/ground_truth", ["without a mask", "and 1 more"]),
        ("pushpins/test/logical_anomalies/000.png", ["masks without their image", "000/000.png", "000/001.png"]),
        ("pushpins/test/logical_anomalies", ["holds masks", "test/logical_anomalies"]),
        ("pushpins", ["no category 'pushpins'", "mvtec-loco", "that is there (screw_bag)"]),
        (".", ["no dataset folder", "CATEGORY/train/good", "get loco", "dataset.root"]),
    ],
)
def test_loco_layout_with_something_missing(loco_root, damage, words):
    remove(loco_root, damage)
    assert_refused(LAYOUTS["loco"], loco_root, "pushpins", words)


def test_loco_read_as_mvtec_names_the_layout(loco_root):
    with pytest.raises(UserError, match=r"masks without their image: .*read by dataset=loco\.$") as caught:
        mvtec.LAYOUT.read(loco_root, "pushpins")
    sentence(caught)


def test_realiad_layout(realiad_root):
    images = read(realiad_root, "realiad", "toy")
    assert (images.dataset, images.category, images.counts(), images.has_masks) == ("realiad", "toy", (10, 7, 8), True)
    assert images.root == realiad_root / "realiad_1024/toy"
    assert {sample.image.name[:13] for sample in images.train} == {
        f"toy_{n:04}_OK_C{camera}"[:13] for n in (1, 2) for camera in range(1, 6)
    }
    kinds = [sample.kind for sample in images.test]
    assert {kind: kinds.count(kind) for kind in kinds} == {"good": 7, "HS": 4, "ZW": 4}
    unseen = [sample for sample in images.test if "NG" in sample.image.name and not sample.defective]
    assert len(unseen) == 2
    assert all(sample.mask.stem == sample.image.stem for sample in images.test if sample.defective)
    covered = load_masks(images.test, Canvas(36)).float().mean((1, 2))
    assert not covered[:7].any()
    assert (covered[7:] > 0.03).all()


def test_realiad_in_the_folder_of_its_archive_and_in_another_size(realiad_root, compose):
    before = read(realiad_root, "realiad", "toy")
    inner = realiad_root / "realiad_jsons/realiad_jsons"
    inner.mkdir()
    for file in realiad_root.glob("realiad_jsons/*.json"):
        file.rename(inner / file.name)
    assert read(realiad_root, "realiad", "toy") == before
    (realiad_root / "realiad_1024").rename(realiad_root / "realiad_256")
    shutil.move(inner, realiad_root / "realiad_jsons/realiad_jsons_sv")
    overrides = ["dataset=realiad", f"dataset.root={realiad_root}", "dataset.category=toy"]
    config = compose(*overrides, "dataset.image_dir=realiad_256", "dataset.split_dir=realiad_jsons_sv").dataset
    images = open_category(config)
    assert images.counts() == before.counts()
    assert images.root == realiad_root / "realiad_256/toy"
    assert realiad.SplitJson("realiad_256", "realiad_jsons_sv").published.counts == {}
    for key in ("image_dir=realiad_1024", "split_dir=realiad_jsons_fuiad_0.0"):
        with pytest.raises(UserError) as caught:
            open_category(compose(*overrides, "dataset.image_dir=realiad_256", f"dataset.{key}").dataset)
        words = [
            "no folder realiad_",
            "unpack it there",
            f"dataset.{key.split('=')[0]}=…",
            "holds realiad_256, realiad_",
        ]
        assert all(word in sentence(caught) for word in words), sentence(caught)


@pytest.mark.parametrize(
    ("damage", "category", "words"),
    [
        (
            ".",
            "toy",
            ["no dataset folder", "realiad_jsons/CATEGORY.json", "Real-IAD", "CC BY-NC-SA 4.0", "dataset.root"],
        ),
        ("realiad_jsons", "toy", ["no folder realiad_jsons", "dataset.split_dir=…", "holds realiad_1024"]),
        ("realiad_1024", "toy", ["no folder realiad_1024", "dataset.image_dir=…", "holds realiad_jsons"]),
        ("realiad_1024/toy", "toy", ["no category 'toy'", "Real-IAD", "that is there (usb)"]),
        ("realiad_1024/toy", "tooy", ["no category 'tooy'", "did you mean toy?", "those there (usb)"]),
        ("realiad_jsons/toy.json", "toy", ["no file", "realiad_jsons/toy.json", "comes with Real-IAD"]),
        ("realiad_1024/toy/OK/S0001/*_C3_*", "toy", ["1 files that", "toy.json names are missing", "_OK_C3_"]),
        ("realiad_1024/toy/NG/HS/S0004/*.png", "toy", ["4 files that", "and 1 more", "Unpack Real-IAD"]),
    ],
)
def test_realiad_layout_with_something_missing(realiad_root, damage, category, words):
    remove(realiad_root, damage)
    assert_refused(LAYOUTS["realiad"], realiad_root, category, words)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda listed: listed.pop("train"), ["has no list 'train'", "realiad4ad.github.io"]),
        (lambda listed: listed.update(test={}), ["has no list 'test'"]),
        (lambda listed: listed["test"].insert(0, "OK"), ["Entry 1 of 'test' in", "is 'OK'", "anomaly_class"]),
        (lambda listed: listed["test"][2].pop("image_path"), ["Entry 3 of 'test'", "image_path"]),
        (lambda listed: listed["train"][1].update(mask_path=7), ["Entry 2 of 'train'", "mask_path"]),
        (lambda listed: listed["train"][9].pop("mask_path"), ["Entry 10 of 'train'", "mask_path"]),
        (lambda listed: listed["train"][0].update(anomaly_class="HS"), ["trains on anomalies", "_0001_OK_C1_"]),
        (
            lambda listed: listed["test"][9].update(mask_path=None),
            ["names no mask for", "_NG_HS_C5_", "that comes with"],
        ),
        (lambda listed: listed.update(train=[]), ["no normal images to train on"]),
        (lambda listed: listed["test"].append(listed["train"][0]), ["files that are used twice", "_0001_OK_C1_"]),
    ],
)
def test_a_split_file_of_realiad_that_says_something_else(realiad_root, edit, words):
    file = realiad_root / "realiad_jsons/toy.json"
    listed = json.loads(file.read_text())
    edit(listed)
    file.write_text(json.dumps(listed))
    assert_refused(LAYOUTS["realiad"], realiad_root, "toy", words)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]"])
def test_a_split_file_that_is_none_is_one_sentence(realiad_root, content):
    (realiad_root / "realiad_jsons/toy.json").write_bytes(content)
    with pytest.raises(UserError, match=r"realiad_jsons/toy\.json (cannot be read as JSON|has no list)") as caught:
        read(realiad_root, "realiad", "toy")
    sentence(caught)


def test_the_order_of_realiads_lists_does_not_matter(realiad_root):
    before = read(realiad_root, "realiad", "toy")
    file = realiad_root / "realiad_jsons/toy.json"
    listed = json.loads(file.read_text())
    file.write_text(json.dumps({split: listed[split][::-1] for split in ("test", "train")}))
    assert read(realiad_root, "realiad", "toy") == before
