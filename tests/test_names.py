"""Names of any characters through a whole sweep, its tables, figures and report: shown rightly or replaced."""

import csv
import io
import json
import re
import shlex
import shutil
import sqlite3
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.table import Table
from rich.text import Text

from altub_exp.machine.terminal import PlainConsole, log, logging_to
from altub_exp.text import csv_cell, file_name, printable, say
from tests.analysis.report.test_report import Page
from tests.commandline import ROOT, folders, run

CATEGORIES = [
    """it's "so" $x^$ 100% \\b""",
    "=1+1 & <b> #[x] ~a_b_^{}",
    "-rf",
    "\u202eright\u200f",
    "_ 😀 傷 ü " + "w" * 140,
    " spaces.. ",
]
EXPERIMENT = """it's "one" $x^$ <b>&amp; 😀 =1"""
SWEEP = """that's "one" = 100% of \u200f 😀"""
KIND, NAME = "\\b$x^$ \x1b[1m", "a$^$\\\x1b.png"
TINY = [
    *("dataset=folder", "dataset.root=parts", "dataset.category=all", "dataset.image_size=32", "model.steps=1"),
    *("backbone=r18", "backbone.weights=random", "altub=none", "train.epochs=1", "train.batch_size=2", "threads=1"),
]
CODES = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\ud800-\udfff]")
"""Control codes, which a terminal obeys, and marks that turn the direction of a text."""


def quoted(value):
    return "'" + value.replace("'", "\\'") + "'"


def clean(*texts):
    for text in texts:
        assert not CODES.search(text), repr(text[:2000])
        assert "Traceback" not in text


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """The folder of a sweep over all of the categories, and what the command printed."""
    cwd, random = tmp_path_factory.mktemp("names"), np.random.default_rng(0)
    for category in CATEGORIES:
        names = [f"train/{number}.png" for number in range(4)] + ["test/normal/0.png", "test/normal/1.png"]
        for name in [*names, f"test/defective/{KIND}/{NAME}"]:
            file = cwd / "parts" / category / name
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(file)
    names = [f"tracking.experiment={quoted(EXPERIMENT)}", f"tracking.sweep={quoted(SWEEP)}"]
    return cwd, run(cwd, "-m", *TINY, *names)


@pytest.fixture
def copy(swept, tmp_path):
    shutil.copytree(swept[0], tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("results"))
    return tmp_path


def test_every_run_is_computed_recorded_and_listed(swept):
    cwd, printed = swept
    clean(*printed)
    assert "6 runs: 6 finished." in printed[1]
    out, err = run(cwd, module="altub_exp.sync")
    clean(out, err)
    assert out.count("nothing missing") == len(CATEGORIES) == out.count("\n")
    out, err = run(cwd, "--sweep", SWEEP, module="altub_exp.status")
    clean(out, err)
    for category in CATEGORIES:
        assert f"folder/{printable(category)}" in out
    rows = json.loads(run(cwd, "--json", module="altub_exp.status")[0])
    assert {row["category"] for row in rows} == set(CATEGORIES)
    with sqlite3.connect(cwd / "mlflow.db") as store:
        sweeps = store.execute("SELECT value FROM tags WHERE key = 'sweep_parent'").fetchall()
        experiments = store.execute("SELECT name FROM experiments WHERE name != 'Default'").fetchall()
    assert (sweeps, experiments) == ([(SWEEP,)], [(EXPERIMENT,)])
    (report,) = cwd.glob("runs/.sweeps/*/stability.md")
    clean(report.read_text())
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in report.read_text().splitlines()}) == 1
    assert len(list(report.parent.glob("auroc-*.png"))) == len(CATEGORIES)


def test_tables_show_every_name_in_every_format(swept):
    cwd, _ = swept
    out, err = run(cwd, "stability", "--experiment", EXPERIMENT, module="analysis.tables")
    clean(out, err)
    for category in CATEGORIES:
        assert f"folder/{printable(category)}" in out
    texts = {kind: (cwd / f"results/tables/stability.{kind}").read_text() for kind in ("csv", "md", "tex")}
    clean(*texts.values())
    rows = list(csv.DictReader(texts["csv"].splitlines()))
    assert {row["category"] for row in rows} == {csv_cell(printable(category)) for category in CATEGORIES}
    for row in rows:
        assert not any(cell.startswith(("=", "+", "@")) for cell in row.values())
    lines = [line for line in texts["md"].splitlines() if line.startswith("| folder/")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {11}
    assert """it's "so" \\$x^\\$ 100% \\\\b""" in texts["md"]
    lines = [line for line in texts["tex"].splitlines() if line.startswith("folder/")]
    assert {len(re.findall(r"(?<!\\)&", line)) for line in lines} == {9}
    assert r"\$x\textasciicircum{}\$ 100\%" in texts["tex"]
    assert max(texts["tex"]) <= "\u017f"


@pytest.mark.slow
def test_figures_and_the_report_show_every_name(swept):
    cwd, _ = swept
    clean(*run(cwd, "all", module="analysis.figures"))
    captions = json.loads((cwd / "results/figures/captions.json").read_text())
    for category in CATEGORIES:
        name = f"folder-{file_name(printable(category))}-fastflow"
        for figure in (f"maps-{name}", f"stability-{name}-r18"):
            assert printable(category) in captions[figure]["title"]
            assert (cwd / "results/figures" / f"{figure}.png").stat().st_size > 5000
    clean(*run(cwd, module="analysis.report"))
    html = (cwd / "results/report.html").read_text()
    clean(html)
    page = Page(html)
    for category in CATEGORIES:
        assert " ".join(f"folder/{printable(category)}".split()) in page.text("own")
        assert " ".join(printable(category).split()) in page.text("curves")


@pytest.mark.slow
def test_a_run_that_cannot_be_shown_does_not_keep_the_others(copy):
    with sqlite3.connect(copy / "mlflow.db") as store:
        query = "SELECT run_uuid FROM params WHERE key = 'dataset.category' AND value = '-rf'"
        ((lost,),) = store.execute(query).fetchall()
        store.execute("UPDATE tags SET value = ? WHERE value = ' spaces.. '", ("\x1b[31mred\x9b0m",))
        store.execute("UPDATE params SET value = 'x' WHERE key = 'eval.every' AND run_uuid = ?", (lost,))
    for module, arguments in (("tables", ["stability"]), ("figures", ["stability"]), ("report", [])):
        out, err = run(copy, *arguments, module=f"analysis.{module}", expect=1)
        clean(out, err)
        assert err.count("\n") == 1
        assert f"error: MLflow run {lost}" in err
    rows = list(csv.DictReader((copy / "results/tables/stability.csv").read_text().splitlines()))
    names = ["\\x1b[31mred\\x9b0m", *CATEGORIES[:2], *CATEGORIES[3:-1]]
    assert {row["category"] for row in rows} == {csv_cell(printable(name)) for name in names}
    assert len(list(copy.glob("results/figures/stability-*.png"))) == len(CATEGORIES) - 1
    assert lost in Page((copy / "results/report.html").read_text()).text("missing")


def test_control_codes_end_before_the_terminal_and_the_log(tmp_path, capsys):
    with logging_to(tmp_path / "train.log"):
        log.error("%s", "\x1b[31mred\x9b")
    console = PlainConsole(file=io.StringIO(), force_terminal=True, width=100)
    table = Table("\x1b]0;title", "\x1b[2J")
    table.add_row("\x1b[31mred", "")
    console.print(table, "\x1b[1A", Text("\x9b0m", style="bold"))
    say("\x1b[1A", error=True)
    printed = re.sub(r"\x1b\[[\d;]*m", "", console.file.getvalue())  # rich's own colours
    err = capsys.readouterr().err
    clean(printed, err, (tmp_path / "train.log").read_text())
    for code in ("\\x1b]0;title", "\\x1b[2J", "\\x1b[31mred", "\\x9b0m", "\\x1b[1A"):
        assert code in printed
    assert err == "\\x1b[31mred\\x9b\n\\x1b[1A\n"


def test_make_hands_names_on_as_they_are():
    variables = ["EXPERIMENT=it's a$x", "URI=sqlite:///it's $HOME.db"]
    printed = subprocess.run(
        ["make", "-n", "-C", ROOT, "tables", *variables], capture_output=True, text=True, check=True
    )
    (line,) = (line for line in printed.stdout.splitlines() if "analysis.tables" in line)
    assert shlex.split(line)[4:] == [
        "--tracking-uri",
        "sqlite:///it's $HOME.db",
        "--experiment",
        "it's",
        "--experiment",
        "a$x",
    ]


def test_a_moved_working_folder_takes_its_store_along(copy):
    before, after = copy / "before", copy / "after"
    before.mkdir()
    run(before, *TINY, "dataset.root=../parts", "dataset.category=-rf", "tracking.experiment=moved")
    before.rename(after)
    (folder,) = folders(after)
    (folder / "normality.json").write_text("{}")
    out, _ = run(after, module="altub_exp.sync")
    assert "nothing missing" in out
    assert not before.exists()
    (sent,) = after.glob("mlartifacts/moved/*/artifacts/normality.json")
    with sqlite3.connect(after / "mlflow.db") as store:
        ((artifacts,),) = store.execute("SELECT artifact_uri FROM runs").fetchall()
    assert Path(artifacts.removeprefix("file://")) == sent.parent
    (after / "mlflow.db").unlink()
    out, _ = run(after, module="altub_exp.sync", expect=1)
    assert f"Its store {before}/mlflow.db does not exist any more: name the store by" in out
    assert not before.exists()
