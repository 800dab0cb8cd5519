"""Solar cells: the layout of elpv-dataset, its split, and its package, most tests with small drawn images."""

import hashlib
import importlib.util
import json
import re
import sys

import numpy as np
import pytest
from PIL import Image

from altub_exp.data import elpv, list_categories, open_category
from altub_exp.errors import UserError
from tests.commandline import ROOT, run

LINE = "images/{}  {}  {}\n"
MONO = {0: 9, 33: 1, 67: 2, 100: 3}
POLY = {0: 4, 33: 0, 67: 0, 100: 1}
TINY = ["backbone.weights=random", "dataset.image_size=32", "model.steps=1", "train.batch_size=4", "threads=1"]


def draw_cells(root):
    """A folder with ``labels.csv`` and ``images``: cells of MONO and POLY, by probability in percent."""
    (root / "images").mkdir(parents=True)
    random, lines = np.random.default_rng(0), []
    for category, cells in (("mono", MONO), ("poly", POLY)):
        for percent, count in cells.items():
            for _ in range(count):
                name = f"cell{len(lines) + 1:04}.png"
                Image.fromarray(random.integers(100, 200, (40, 40)).astype(np.uint8)).save(root / "images" / name)
                lines.append(LINE.format(name, round(3 * percent / 100) / 3, category))
    (root / "labels.csv").write_text("".join(lines))
    return root


@pytest.fixture
def root(tmp_path):
    """See :func:`draw_cells`."""
    return draw_cells(tmp_path / "cells")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package elpv_dataset with these cells in the place of a real one; importing it fails."""
    draw_cells(tmp_path / "packages/elpv_dataset/data")
    (tmp_path / "packages/elpv_dataset/__init__.py").write_text("raise AssertionError('imported')")
    monkeypatch.delitem(sys.modules, "elpv_dataset", raising=False)
    monkeypatch.syspath_prepend(tmp_path / "packages")
    return tmp_path / "packages/elpv_dataset/data"


def names(samples):
    return [sample.image.name for sample in samples]


def by_kind(images):
    kinds = [sample.kind for sample in images.test]
    return {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}


def test_two_thirds_of_the_normal_cells_train_by_the_hash_of_their_names(root):
    images = elpv.Cells((100,)).read(root, "mono")
    normal = [f"cell{number:04}.png" for number in range(1, 10)]
    ranked = sorted(normal, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    assert names(images.train) == sorted(ranked[:6])
    assert names(images.test) == [*sorted(ranked[6:]), "cell0013.png", "cell0014.png", "cell0015.png"]
    assert by_kind(images) == {"good": 3, "p100": 3}
    assert (images.dataset, images.category, images.has_masks) == ("elpv", "mono", False)
    assert len(elpv.Cells((100,)).read(root, "poly").train) == 2  # of 4


def test_other_probabilities_add_defective_images_and_leave_the_split(root):
    plain = elpv.Cells((100,)).read(root, "mono")
    for probabilities, kinds in {
        (67,): {"good": 3, "p67": 2},
        (67, 100): {"good": 3, "p67": 2, "p100": 3},
        (33, 67, 100): {"good": 3, "p33": 1, "p67": 2, "p100": 3},
    }.items():
        images = elpv.Cells(probabilities).read(root, "mono")
        assert by_kind(images) == kinds
        assert (images.train, images.test[:3]) == (plain.train, plain.test[:3])
        assert images.fingerprint() != plain.fingerprint()


def test_the_order_of_the_table_and_blank_lines_at_its_end_change_nothing(root):
    before = elpv.Cells(elpv.PROBABILITIES).read(root, "mono")
    table = root / "labels.csv"
    table.write_text("".join(reversed(table.read_text().splitlines(keepends=True))) + "\n")
    assert elpv.Cells(elpv.PROBABILITIES).read(root, "mono") == before


def test_the_package_is_read_without_importing_it_and_like_a_copy(package, root, compose):
    config = compose("dataset=elpv", "dataset.category=mono").dataset
    images = open_category(config)
    assert images.root == package
    assert list_categories(compose("dataset=elpv", "dataset.categories=null", "dataset.category=all").dataset) == [
        "mono",
        "poly",
    ]
    copy = open_category(compose("dataset=elpv", "dataset.category=mono", f"dataset.root={root}").dataset)
    assert copy.root == root
    assert copy.fingerprint() == images.fingerprint()


def test_the_licence_is_printed_once_in_a_process(package, compose, capsys):
    elpv.print_licence.cache_clear()
    for category in ("mono", "poly"):
        open_category(compose("dataset=elpv", f"dataset.category={category}").dataset)
    printed = capsys.readouterr().err
    assert printed.count("CC BY-NC-SA 4.0") == 1
    assert "10.1016/j.solener.2019.02.067" in printed


def test_a_missing_package_is_one_sentence_with_the_remedy(monkeypatch, compose):
    monkeypatch.setitem(sys.modules, "elpv_dataset", None)  # what Python takes for missing
    with pytest.raises(UserError) as caught:
        open_category(compose("dataset=elpv", "dataset.category=mono").dataset)
    for words in ("not installed", "pip install 'altub-exp[elpv]'", "CC BY-NC-SA 4.0", "dataset.root"):
        assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def change_line(root, number, text):
    table = root / "labels.csv"
    lines = table.read_text().splitlines()
    lines[number - 1] = text
    table.write_text("\n".join(lines))


@pytest.mark.parametrize(
    "line",
    [
        "images/cell0002.png 0.0",
        "images/cell0002.png 0.0 mono train",
        "images/cell0002.png none mono",
        "images/cell0002.png 0.5 mono",
        "images/cell0002.png inf mono",
        "images/cell0002.png nan mono",
        "images/cell0002.png -1.0 mono",
        "images/cell0002.png 1.0 amorphous",
    ],
)
def test_a_wrong_line_is_named_with_what_it_should_be(root, line):
    change_line(root, 2, line)
    with pytest.raises(UserError) as caught:
        elpv.Cells((100,)).read(root, "poly")
    assert f"Line 2 of {root / 'labels.csv'} is {line!r}: write images/NAME" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("damage", "category", "words"),
    [
        ("images/cell0001.png", "mono", ["1 files that", "labels.csv names are missing", "cell0001.png", "elpv]"]),
        ("labels.csv", "mono", ["no table", "labels.csv", "elpv-dataset", "dataset.root"]),
        (None, "mon", ["no category 'mon'", "did you mean mono?", "(mono, poly)"]),
    ],
)
def test_missing_parts_are_one_sentence(root, damage, category, words):
    if damage is not None:
        (root / damage).unlink()
    with pytest.raises(UserError) as caught:
        elpv.Cells((100,)).read(root, category)
    assert all(word in str(caught.value) for word in words), caught.value
    assert "\n" not in str(caught.value)


def test_a_missing_root_names_the_source(tmp_path):
    with pytest.raises(UserError, match=r"folder .* of elpv-dataset .*get it from https://github.com/zae-bayern"):
        elpv.Cells((100,)).read(tmp_path / "nowhere", "mono")


def test_a_table_that_is_no_text_is_one_sentence(root):
    (root / "labels.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"labels.csv cannot be read as a table"):
        elpv.Cells((100,)).read(root, "mono")


@pytest.mark.parametrize("probabilities", [[], [50], [0, 100], [100, 67], [100, 100]])
def test_wrong_probabilities_name_the_key_and_the_values(root, compose, probabilities):
    overrides = ["dataset=elpv", f"dataset.root={root}", "dataset.category=mono"]
    config = compose(*overrides, f"dataset.probabilities={probabilities}").dataset
    with pytest.raises(UserError) as caught:
        open_category(config)
    assert f"dataset.probabilities={probabilities}" in str(caught.value)
    assert "33, 67, 100" in str(caught.value)


def test_the_command_verifies_the_package_and_a_copy(root, tmp_path):
    """The folder in which a command is started comes first on Python's path."""
    draw_cells(tmp_path / "elpv_dataset/data")
    (tmp_path / "elpv_dataset/__init__.py").touch()
    for arguments, folder in (([], tmp_path / "elpv_dataset/data"), ([root], root)):
        damaged = folder / "images/cell0011.png"
        damaged.write_bytes(damaged.read_bytes()[:100])
        command = [*map(str, arguments), "--layout", "elpv", "--category", "mono"]
        out, err = run(tmp_path, *command, module="altub_exp.data", expect=1)
        (row,) = (line for line in out.splitlines() if line.strip().startswith("mono"))
        assert row.split()[:10] == ["mono", "6", "3", "6", "p33", "1,", "p67", "2,", "p100", "3"]
        assert f"mono: {damaged} cannot be read" in out
        assert out.count("cannot be read") == 1
        assert "6 training images, elpv-dataset has 392" in out
        assert err.count("CC BY-NC-SA 4.0") == 1


def test_another_layout_needs_a_folder(tmp_path):
    _, err = run(tmp_path, "--layout", "visa", module="altub_exp.data", expect=1)
    assert "error: Name the folder to verify: python -m altub_exp.data DIR." in err


def test_a_sweep_computes_image_aurocs_and_prints_the_licence_once(root, tmp_path):
    options = ["-m", "dataset=elpv", f"dataset.root={root}", "dataset.probabilities=[33,67,100]", "train.epochs=2"]
    _, said = run(tmp_path, *options, "dataset.category=mono", "altub=none,alternating", *TINY)
    assert said.count("CC BY-NC-SA 4.0") == 1
    assert said.count("6 training and 9 test images") == 2
    journals = sorted((tmp_path / "runs/elpv/mono").glob("*/*/*/metrics.jsonl"))
    assert len(journals) == 2
    for journal in journals:
        rows = [json.loads(line) for line in journal.read_text().splitlines()]
        assert [row["epoch"] for row in rows] == [1, 2]
        assert all(0 <= row["image_auroc"] <= 1 and "pixel_auroc" not in row for row in rows)
        assert (journal.parent / "maps.png").stat().st_size > 0


def test_the_demo_installs_the_version_of_the_extra_and_needs_no_lock():
    (pin,) = re.findall(r'^elpv = \["(elpv-dataset==\S+)"\]', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert f"--no-deps {pin}\n" in (ROOT / "Makefile").read_text()
    assert "elpv" not in (ROOT / "requirements.lock").read_text()


DIGESTS = {
    "mono": "a9fcee3d936d63721146dda150f048b8be3cdfacf3443216359f78ff59148f89",
    "poly": "81e6b8ed2e9298c7c3fe20f2f7c762bae3d05c7751400e37922ac9870c55b2ad",
}
"""SHA-256 over the lines ``SPLIT KIND NAME`` of a category, with all probabilities."""


@pytest.mark.skipif(importlib.util.find_spec("elpv_dataset") is None, reason="the package elpv-dataset is missing")
@pytest.mark.parametrize("category", ["mono", "poly"])
def test_the_split_of_the_real_package(category):
    images = elpv.Cells(elpv.PROBABILITIES).read(elpv.package_data(), category)
    train, good, defective = elpv.COUNTS[category]
    kinds = {"mono": {"p33": 117, "p67": 56, "p100": 313}, "poly": {"p33": 178, "p67": 50, "p100": 402}}[category]
    assert len(images.train) == train
    assert by_kind(images) == {"good": good, **kinds}
    assert sum(kinds.values()) == defective
    parts = (("train", images.train), ("test", images.test))
    lines = [f"{split} {sample.kind} {sample.image.name}\n" for split, samples in parts for sample in samples]
    assert hashlib.sha256("".join(lines).encode()).hexdigest() == DIGESTS[category]
