"""Folders as factories have them: nested, linked, with other files; each file counts once and by its place."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from altub_exp.config.check import check
from altub_exp.data import btad, list_categories, mvtec, open_category
from altub_exp.data.files import image_files
from altub_exp.data.folder import Folders
from altub_exp.detector.predictions import find_images, left_out
from altub_exp.errors import UserError
from altub_exp.runs.identity import run_path

OWN = Folders("train", "test/normal", "test/defective", "masks")


def save(file, value=100, mask=None):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8), value, dtype=np.uint8)).save(file)
    if mask is not None:
        save(mask, 255)


@pytest.fixture
def part(tmp_path):
    """A category with two images of each kind."""
    folder = tmp_path / "part"
    for number in (1, 2):
        save(folder / f"train/{number}.png", number)
        save(folder / f"test/normal/{number}.png", 10 + number)
        save(folder / f"test/defective/hole/{number}.png", 20 + number, folder / f"masks/hole/{number}.png")
    return folder


def read(part, layout=OWN):
    return layout.read(part.parent, part.name)


def names(samples, part):
    return [str(sample.image.relative_to(part)) for sample in samples]


def test_folders_are_read_to_their_depth_in_natural_order(part):
    for number in (10, 9):
        save(part / f"train/day 2/{number}.png")
        save(part / f"test/normal/day 2/{number}.png")
        save(part / f"test/defective/hole/day 2/{number}.png", mask=part / f"masks/hole/day 2/{number}_mask.png")
    save(part / "train/.hidden/1.png")
    images = read(part)
    assert names(images.train, part) == ["train/1.png", "train/2.png", "train/day 2/9.png", "train/day 2/10.png"]
    assert names(images.test, part)[2:4] == ["test/normal/day 2/9.png", "test/normal/day 2/10.png"]
    assert {sample.kind for sample in images.test} == {"good", "hole"}
    assert images.has_masks
    assert images.left_out() == []
    assert [str(item.file) for item in find_images([part / "train"])] == [str(sample.image) for sample in images.train]


def test_a_nested_tree_is_read_like_a_nested_folder(tmp_path):
    part = tmp_path / "part"
    save(part / "train/good/line 1/1.png")
    save(part / "test/good/line 1/1.png")
    save(part / "test/hole/line 1/1.png", mask=part / "ground_truth/hole/line 1/1_mask.png")
    images = read(part, mvtec.LAYOUT)
    assert images.counts() == (1, 1, 1)
    assert images.has_masks
    assert images.left_out() == []


def test_a_kind_of_defect_called_good_is_a_defect(part, tmp_path):
    (part / "test/defective/hole").rename(part / "test/defective/good")
    (part / "masks/hole").rename(part / "masks/good")
    images = read(part)
    assert images.counts() == (2, 2, 2)
    assert images.has_masks
    save(tmp_path / "01/train/ok/1.png")
    save(tmp_path / "01/test/ok/1.png")
    save(tmp_path / "01/test/good/1.png", mask=tmp_path / "01/ground_truth/good/1.png")
    assert read(tmp_path / "01", btad.LAYOUT).counts() == (1, 1, 1)


@pytest.mark.parametrize("normal", ["test/ok", "test/parts/ok"])
def test_normal_images_within_the_folder_of_defective_ones_are_normal(part, normal):
    (part / "test/normal").rename(part / "test/ok")
    if normal != "test/ok":
        (part / "test/parts").mkdir()
        (part / "test/ok").rename(part / normal)
    (part / "masks/hole").rename(part / "masks/defective")
    (part / "test/defective/hole/1.png").rename(part / "test/defective/1.png")
    (part / "test/defective/hole/2.png").rename(part / "test/defective/2.png")
    images = read(part, Folders("train", normal, "test", "masks"))
    assert images.counts() == (2, 2, 2)
    assert all(sample.defective == ("ok" not in sample.image.parts) for sample in images.test)
    assert images.has_masks


def test_training_images_beside_the_other_folders_are_not_those_within(part):
    for number in (1, 2):
        (part / f"train/{number}.png").rename(part / f"{number}.png")
    assert read(part, Folders(".", "test/normal", "test/defective", "masks")).counts() == (2, 2, 2)


@pytest.mark.parametrize(
    "layout",
    [
        Folders("train", "train", "test/defective", "masks"),
        Folders("train", "test/normal", "test/../train", None),
        Folders("train", "test/normal", "test/normal/.", None),
    ],
    ids=["training and normal", "training and defective", "normal and defective"],
)
def test_one_folder_for_two_kinds_is_refused(part, layout):
    with pytest.raises(UserError, match=r"used twice: .*1\.png.*Give each image one place"):
        read(part, layout)


def test_two_masks_of_one_image_and_one_mask_of_two_images_are_refused(part):
    save(part / "masks/hole/1_mask.png")
    with pytest.raises(UserError, match=r"two masks of one image: .*1.*1"):
        read(part)
    (part / "masks/hole/1_mask.png").unlink()
    save(part / "test/defective/hole/1.bmp")
    with pytest.raises(UserError, match=r"used twice: .*masks/hole/1\.png"):
        read(part)


def test_files_that_are_not_used_are_named(part):
    for name in ("train/1.heic", "test/defective/hole/notes.txt", "masks/hole/3.png", "train/Thumbs.db", "readme.txt"):
        (part / name).write_bytes(b"content")
    (sentence,) = read(part).left_out()
    assert sentence.startswith("3 files are not used: ")
    assert [Path(name).name for name in sentence.partition(": ")[2].split(", ")] == ["1.heic", "notes.txt", "3.png"]


def test_images_outside_of_the_folders_of_a_tree_are_named(tmp_path):
    part = tmp_path / "part"
    for name in ("train/good/1.png", "test/good/1.png", "train/2.png", "train/bad/3.png", "test/4.png"):
        save(part / name)
    save(part / "test/hole/1.png", mask=part / "ground_truth/hole/1_mask.png")
    (sentence,) = read(part, mvtec.LAYOUT).left_out()
    assert sentence == "3 files are not used: " + ", ".join(
        str(part / name) for name in ("train/2.png", "train/bad/3.png", "test/4.png")
    )


def loop_to_itself(folder):
    (folder / "loop").symlink_to(folder)


def two_loops(folder):
    loop_to_itself(folder)
    (folder / "another").symlink_to("loop")


def loop_to_its_parent(folder):
    (folder / "inner").mkdir()
    (folder / "inner/loop").symlink_to("..")


def loop_to_all(folder):
    (folder / "loop").symlink_to(folder.parent)


def two_links(folder):
    (folder / "inner").mkdir()
    save(folder / "inner/3.png")
    (folder / "link").symlink_to("inner")


@pytest.mark.parametrize("link", [loop_to_itself, two_loops, loop_to_its_parent, loop_to_all, two_links])
def test_a_folder_is_read_once_however_many_links_lead_to_it(part, link):
    link(part / "train")
    expected = 3 if link is two_links else 2
    assert len(image_files(part / "train")) == expected
    assert len(read(part).train) == expected
    assert len(find_images([part / "train"])) == expected


def test_a_folder_with_the_suffix_of_an_image_is_a_folder(part):
    save(part / "train/3.png/3.png")
    assert len(read(part).train) == 3


def test_copies_are_named_and_contradictory_ones_first(part):
    assert read(part).copies() == []
    save(part / "test/normal/2.png", 2)
    train, normal, defective = part / "train/2.png", part / "test/normal/2.png", part / "test/defective/hole/1.png"
    assert read(part).copies() == [f"1 images have copies in another place: {train} = {normal}"]
    save(part / "train/1.png", 21)
    assert read(part).copies() == [
        "2 images have copies in another place, 1 of them as normal and as defective ones: "
        f"{part / 'train/1.png'} = {defective}, {train} = {normal}"
    ]
    save(part / "train/3.png", 2)  # within a kind copies are the user's choice
    assert read(part).copies()[0].startswith("2 images")


@pytest.mark.parametrize("place", ["train", "test/defective/hole", "."])
def test_a_folder_that_may_not_be_read_is_one_sentence(compose, part, place, monkeypatch):
    """By a double of the system's call: root may read everything."""
    iterdir = Path.iterdir

    def denied(folder):
        if folder == part / place:
            raise PermissionError(13, "Permission denied", str(folder))
        return iterdir(folder)

    monkeypatch.setattr(Path, "iterdir", denied)
    layout = ["dataset=folder", f"dataset.root={part.parent}", "dataset.category=part"]
    if place == ".":
        layout.append("dataset.train_dir=.")
    sentence = rf"^{part / place} cannot be read \(permission denied\): check its permissions and links\.$"
    with pytest.raises(UserError, match=sentence):
        open_category(compose(*layout).dataset)
    with pytest.raises(UserError, match=sentence):
        find_images([part / place])


def test_a_root_that_may_not_be_read_is_one_sentence(compose, part, monkeypatch):
    def denied(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(Path, "iterdir", denied)
    with pytest.raises(UserError, match="permission denied"):
        list_categories(compose("dataset=folder", f"dataset.root={part.parent}", "dataset.category=part").dataset)


def test_a_category_with_a_name_that_no_file_can_have_is_one_sentence(compose, part):
    with pytest.raises(UserError, match="file name too long"):
        open_category(compose("dataset=folder", f"dataset.root={part.parent}", f"dataset.category={'a' * 300}").dataset)


def test_other_contents_of_the_same_size_and_time_are_other_images(part):
    before = read(part).fingerprint()
    file = part / "train/1.bmp"
    (part / "train/1.png").unlink()
    prints = set()
    for value in (1, 2):
        save(file, value)
        os.utime(file, (10**9, 10**9))
        prints.add((file.stat().st_size, read(part).fingerprint()))
    assert len({size for size, _ in prints}) == 1
    assert len(prints | {(0, before)}) == 3
    (part / "masks/hole/1.png").write_bytes((part / "masks/hole/1.png").read_bytes() + b"\0")
    assert read(part).fingerprint() not in {fingerprint for _, fingerprint in prints}


def test_bits_are_part_of_a_run_s_identity_and_checked(compose):
    paths = set()
    for bits in ("null", "12", "16"):
        paths.add(run_path(compose("dataset=folder", "dataset.category=part", f"dataset.bit_depth={bits}"), "0" * 32))
    assert len(paths) == 3
    for bits in (7, 17):
        with pytest.raises(UserError, match=rf"^dataset\.bit_depth={bits}"):
            check(compose("dataset=folder", "dataset.category=part", f"dataset.bit_depth={bits}"))


def test_no_images_to_train_on_names_the_files_that_are_there(part):
    for number in (1, 2):
        (part / f"train/{number}.png").rename(part / f"train/{number}.heic")
    with pytest.raises(UserError, match=r"no normal images .*\.jfif.*2 files are not used: .*1\.heic"):
        read(part)
    with pytest.raises(UserError, match=r"train holds no images: files with .*\.png.* are read"):
        find_images([part / "train"])


def test_predict_names_the_files_that_it_leaves_out_and_takes_named_files_as_they_are(part):
    assert left_out([part / "train", part / "train/1.png"]) == []
    (part / "train/inner").mkdir()
    (part / "train/inner/1.heic").write_bytes(b"content")
    assert left_out([part]) == [f"1 files have no suffix of an image and are left out: {part / 'train/inner/1.heic'}"]
    (part / "endless.png").symlink_to("/dev/zero")
    assert [str(item.name) for item in find_images([part / "endless.png"])] == ["endless"]


def test_names_of_any_encoding_are_listed_and_distinguished(part):
    before = read(part).fingerprint()
    for name in (b"M\xfcnze.png", b"M\xfdnze.png"):
        save(part / "train" / os.fsdecode(name))
    images = read(part)
    assert len(images.train) == 4
    assert images.fingerprint() != before
