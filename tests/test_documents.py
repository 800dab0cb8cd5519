"""Tests of the documents: every link is followed, the site is built, and the commands of README.md run."""

import importlib.util
import itertools
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from PIL import Image

from altub_exp.config.plugins import discover
from tests.commandline import ROOT, TINY, folders, run

PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]\[]*\]\(([^)\s]+)\)")

NOT_RUN = {
    "source": "belongs to the shell of a user",
    "make": "sets up an environment of its own; its targets are checked",
}
"""Commands of README.md that no test runs: their first word and the reason."""


def prose(page):
    """Return the text of a page without its code."""
    return re.sub(r"`[^`\n]+`", "`code`", FENCE.sub("", page.read_text()))


def anchor(heading):
    """Make the anchor of a heading without special characters, like GitHub and the site."""
    words = re.sub(r"[`*\[\]]|\(.*?\)", "", heading).strip().lower()
    return re.sub(r"\s", "-", re.sub(r"[^\w\- ]", "", words))


def anchors(page):
    return {anchor(heading) for heading in re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)}


def commands(page):
    """Return the words of each command line of a page's shell blocks, without comments."""
    blocks = [text for kind, text in FENCE.findall(page.read_text()) if kind == "sh"]
    lines = [line for text in blocks for line in text.replace("\\\n", " ").splitlines()]
    return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


def trainings(page):
    """Return the arguments of every ``python -m altub_exp.train`` of a page."""
    return [words[3:] for words in commands(page) if words[:3] == ["python", "-m", "altub_exp.train"]]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_to_a_file_and_a_heading(page):
    for target in LINK.findall(prose(page)):
        if "://" in target:
            continue
        path, _, fragment = target.partition("#")
        file = (page.parent / path) if path else page
        assert file.is_file(), target
        assert not fragment or fragment in anchors(file), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_row_of_a_table_is_one_line_with_a_cell_for_each_column(page):
    lines = FENCE.sub("", page.read_text()).splitlines()
    for in_table, block in itertools.groupby(lines, lambda line: line.lstrip().startswith("|")):
        rows = list(block)
        if in_table:
            assert all(row.startswith("|") and row.rstrip().endswith("|") for row in rows), rows
            assert len(rows) > 2, rows
            assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1, rows


def test_index_lists_every_page():
    text = (ROOT / "docs" / "index.md").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "index.md" or f"]({page.name})" in text, page.name


def test_readme_is_short_and_opens_with_a_picture_and_its_pictures_have_less_than_300_kilobytes():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 165
    opening, effects = re.findall(r"!\[.+\]\((.+)\)", text)
    assert text.index(opening) < 300
    assert all((ROOT / picture).stat().st_size < 300_000 for picture in (opening, effects))


def test_site_builds_without_a_warning_and_asks_no_other_server(tmp_path):
    pytest.importorskip("mkdocs")
    pytest.importorskip("material")
    pytest.importorskip("mkdocstrings")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert built.returncode == 0, built.stderr
    for page in (tmp_path / "site").glob("*.html"):
        tags = re.findall(r"<(?:script|link|img)\b[^>]*>", page.read_text())
        assert not [tag for tag in tags if re.search(r'(?:src|href)="(?:https?:)?//', tag)], page.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_training_command_composes(page, compose):
    """Of a sweep only the first job composes here; the paper's sweeps have other tests."""
    discover()
    for arguments in trainings(page):
        overrides = OverridesParser.create().parse_overrides([word for word in arguments if not word.startswith("-")])
        chosen = [
            first_value(override) for override in overrides if not override.key_or_group.startswith(("hydra", "sw"))
        ]
        if {"model=nice", "altub=sinh_arcsinh"} & set(chosen):
            continue  # of the plug-in that this page installs
        if not any(override.startswith("dataset.category=") for override in chosen):
            chosen.append("dataset.category=screw")
        try:
            compose(*chosen)
        except HydraException as error:
            raise AssertionError(arguments) from error


def first_value(override):
    """Return ``KEY=VALUE`` with the first of a sweep's values, or the start of an interval."""
    if not override.is_sweep_override():
        return override.input_line
    if override.is_interval_sweep():
        return f"{override.key_or_group}={override.value().start}"
    return f"{override.key_or_group}={next(override.sweep_string_iterator())}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_exists(page):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for words in commands(page):
        if words[0] == "make":
            assert {word for word in words[1:] if "=" not in word} <= targets, words
        if words[:2] == ["python", "-m"]:
            assert importlib.util.find_spec(words[2]) is not None, words


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A user's folder with small images at the paths of README.md, and a finished run of the demo."""
    folder = tmp_path_factory.mktemp("home")
    generator = np.random.default_rng(0)
    categories = (
        "carpet grid leather tile wood bottle cable capsule hazelnut metal_nut pill screw toothbrush transistor"
    )
    for root in [f"data/mvtec/{name}" for name in f"{categories} zipper".split()]:
        for place in ("train/good", "test/good", "test/scratch"):
            draw(folder / root / place, generator, "000.png")
        draw(folder / root / "ground_truth/scratch", generator, "000_mask.png", mask=True)
    for place in ("train", "test/normal", "test/defective"):
        draw(folder / "images/bolts" / place, generator, "000.png")
    draw(folder / "new", generator, "000.png")
    for number, probability in enumerate((0.0, 0.0, 0.0, 1.0)):
        draw(folder / "cells/images", generator, f"cell{number}.png")
        with (folder / "cells/labels.csv").open("a") as table:
            table.write(f"images/cell{number}.png {probability} mono\n")
    run(folder, *TINY, "train.epochs=2", "tracking.experiment=altub")
    return folder


def draw(folder, generator, name, mask=False):
    folder.mkdir(parents=True, exist_ok=True)
    pixels = generator.integers(0, 256, (32, 32) if mask else (32, 32, 3), dtype=np.uint8)
    Image.fromarray(255 * (pixels > 127).astype(np.uint8) if mask else pixels).save(folder / name)


README = [words for words in commands(ROOT / "README.md") if words[0] not in NOT_RUN]


@pytest.mark.parametrize("words", README, ids=" ".join)
def test_command_of_the_readme_runs(words, home):
    assert words[:2] == ["python", "-m"], "say in NOT_RUN why it is not run"
    module, arguments = words[2], words[3:]
    expect = 0
    if module == "altub_exp.train" and "-m" in arguments:
        arguments = [a for a in arguments if not a.startswith("hydra")]  # no cluster and no GPU is asked
        arguments += ["sweep.dry_run=true"]
        if "experiment=demo-real" in arguments:
            arguments += ["dataset.root=cells"]  # the package of the real ones is an extra
    elif module == "altub_exp.train":
        arguments += ["--cfg", "job"]
    elif module in ("altub_exp.predict", "altub_exp.export"):
        arguments = [str(folders(home)[0]) if a == "RUN" else a for a in arguments]
    elif module == "altub_exp.data":
        expect = 1  # the small images are fewer than those that were published
    stdout, stderr = run(home, *arguments, module=module, expect=expect)
    if "sweep.dry_run=true" in arguments:
        assert re.search(r"\d+ runs: \d+ new", stderr), stderr
    assert "Traceback" not in stdout + stderr
