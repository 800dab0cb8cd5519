"""The paper's tables, rebuilt from stores whose content is known, through the command line."""

from __future__ import annotations

import csv
import shutil
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from altub_exp.errors import UserError
from altub_exp.metrics.stability import AUROCS, END_METRICS
from analysis.paper.paper_cells import PaperCells
from analysis.runs.records import read, tracking_uri
from analysis.tables.capsule import table6
from analysis.tables.catalogue import TABLES as CATALOGUE
from analysis.tables.mvtec import table_a1
from analysis.tables.stability import stability
from analysis.tables.writers import latex
from tests.analysis.conftest import TABLES, table
from tests.analysis.filler import Filler, write
from tests.commandline import ROOT, run

PAPER = ROOT / "analysis" / "paper"
PDFLATEX = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error"]
NAMES = ["table1", "table2", "table3", "table4", "table5", "table6", "table7", "table_a1"]


def printed(name):
    with (PAPER / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def ours(folder, name):
    return {
        tuple(row[key] for key in ("category", "model", "backbone", "altub", "task")): row
        for row in table(folder, name)
    }


def base(row):
    return "alternating" if row["base"] == "altub" else row["base"]


def digits(text, like):
    """A number rounded to as many decimals as another has, or to those given."""
    return f"{float(text):.{like if isinstance(like, int) else len(like.partition('.')[2])}f}"


def tables(uri, *names):
    cells = PaperCells(read(tracking_uri(uri)))
    return [CATALOGUE[name](cells) for name in names]


def cell(made, **keys):
    (found,) = (one for one in made.cells if all(getattr(one.key, key) == value for key, value in keys.items()))
    return found


# The paper's own numbers come out as the paper's tables


def test_table_a1_equals_the_papers_in_every_digit(papers_tables):
    made = ours(papers_tables[0], "table_a1")
    rows = printed("table_a1")
    assert len(rows) == len(made) == 128
    for row in rows:
        found = made[row["category"], "fastflow", row["backbone"], base(row), "segmentation"]
        assert (digits(found["mean"], 1), digits(found["std"], 2)) == (row["mean"], row["std"]), row
        assert found["state"] == "finished"
        assert len(found["run_ids"].split(";")) == (15 if row["category"] == "overall" else 1)


# what no store can give: its cell in Table A1 says 0.35; and what is not the mean of the cells that are printed
SLIPS = {
    ("toothbrush", "segmentation", "fastflow", "alternating"): "0.35",
    ("overall", "segmentation", "fastflow", "alternating"): "0.15",
    ("overall", "segmentation", "fastflow", "none"): "0.32",
}


def test_table_2_equals_the_papers_but_for_its_slips(papers_tables):
    made = ours(papers_tables[0], "table2")
    backbones = {"fastflow": {"overall": ""}, "cflow": {}}
    for row in made.values():
        if row["model"] == "fastflow" and row["category"] != "overall":
            assert row["backbone"] == row["paper_backbone"]
            backbones["fastflow"][row["category"]] = row["backbone"]
    for row in printed("table2"):
        backbone = backbones[row["model"]].get(row["category"], "wrn50_tv")
        found = made[row["category"], row["model"], backbone, base(row), row["task"]]
        std = SLIPS.get((row["category"], row["task"], row["model"], base(row)), row["std"])
        assert (digits(found["mean"], 1), digits(found["std"], 2)) == (digits(row["mean"], 1), digits(std, 2)), row
    assert Counter(backbones["fastflow"].values()) == {"wrn50": 8, "cait": 6, "deit": 1, "": 1}
    text = (papers_tables[0] / "table2.md").read_text()
    assert "0.06 in its Table 2, 0.35 in its Table A1" in text
    assert "prints 0.33 as overall sd; the mean of the cells that it prints is 0.32" in text


@pytest.mark.slow
def test_table_2_equals_the_papers_where_toothbrush_is_as_in_table_2(tmp_path):
    wanted = {"deit": {"carpet"}, "cait": {"cable", "capsule", "hazelnut", "pill", "screw", "toothbrush"}}
    filler = Filler(
        toothbrush="table2",
        only=lambda spot: (
            spot.dataset == "mvtec"
            and spot.model == "fastflow"
            and spot.category in wanted.get(spot.backbone, set().union({"zipper"} if spot.backbone == "wrn50" else ()))
        ),
    )
    (made,) = tables(filler.fill(tmp_path), "table2")
    found = cell(made, category="toothbrush", altub="alternating", model="fastflow")
    assert (f"{found.mean:.1f}", f"{found.std:.2f}") == ("99.0", "0.06")


@pytest.mark.parametrize("name", ["table4", "table6"])
def test_tables_4_and_6_equal_the_papers(papers_tables, name):
    made = ours(papers_tables[0], name)
    rows = printed(name)
    assert len(rows) == len(made)
    for row in rows:
        key = (row.get("category", "capsule"), "fastflow", row.get("backbone", "wrn50"), base(row), "segmentation")
        found = made[key]
        if row["mean"] == "crashes":
            assert (found["state"], found["mean"], found["std"], found["best"]) == ("crashed", "", "", "")
        else:
            assert (digits(found["mean"], 1), digits(found["std"], 2)) == (row["mean"], digits(row["std"], 2)), row


def test_tables_5_and_7_equal_the_papers(papers_tables):
    made = ours(papers_tables[0], "table5")
    for row in printed("table5"):
        found = made["capsule", "fastflow", row["backbone"], base(row), ""]
        assert (digits(found["mean"], 2), digits(found["ci95"], 2)) == (row["ks_percent"], row["ci95"]), row
    made = ours(papers_tables[0], "table7")
    for row in printed("table7"):
        found = made["capsule", "fastflow", row["backbone"], base(row), ""]
        assert (digits(found["mean"], 2), found["unit"]) == (row["ms_per_image"], "ms")


def test_bests_of_tables_1_and_3_equal_what_the_paper_measured(papers_tables):
    """Its values without AltUB are quoted, and partly below the means that it measured itself."""
    made = {
        (row["category"], row["model"], row["altub"], row["task"]): row for row in table(papers_tables[0], "table1")
    }
    checked = 0
    for row in printed("table1"):
        for task in ("detection", "segmentation"):
            value = row[f"{task}_auroc"]
            if row["model"].endswith("_altub") and value:
                found = made[row["category"], row["model"].removesuffix("_altub"), "alternating", task]
                assert digits(found["best"], 1) == digits(value, 1), row
                assert digits(found["paper_best"], 1) == digits(value, 1)
                checked += 1
            elif row["model"] not in ("cflow", "fastflow") and value:
                found = made[row["category"], row["model"], "", task]
                assert (found["state"], found["best"], found["run_ids"]) == ("quoted", "", "")
                assert digits(found["paper_best"], 1) == digits(value, 1)
    assert checked == 48
    made = ours(papers_tables[0], "table3")
    for row in printed("table3"):
        if row["model"] == "fastflow_altub":
            found = made[row["category"], "fastflow", "wrn50", "alternating", "segmentation"]
            assert digits(found["best"], 1) == digits(row["segmentation_auroc"], 1)
    assert "DRAEM" in (papers_tables[0] / "table1.md").read_text()


def test_does_it_help_counts_as_the_paper_does(papers_tables):
    rows = {(row["group"], row["row"]): row for row in table(papers_tables[0], "benefit")}
    for kind in ("ours", "paper"):
        row = rows["FastFlow, all four", kind]
        assert (row["pairs"], row["mean_at_least"], row["std_smaller"]) == ("60", "54", "53")
    assert "54/60" in (papers_tables[0] / "benefit.md").read_text()


def test_every_table_says_where_it_comes_from(papers_tables, papers_store):
    folder, stdout = papers_tables
    for name in [*NAMES, "benefit"]:
        text = (folder / f"{name}.md").read_text()
        assert papers_store in text
        assert "experiments: altub" in text
        assert "0123456789ab (clean)" in text
        assert "torch 2.15.0" in text
        assert "Made by altub-exp" in text
        ids = {one for row in table(folder, name) for one in row["run_ids"].split(";") if one}
        assert ids <= set(text.split("Runs: ")[1].strip().split(", "))
        assert ids
        assert f"{name} " in stdout
    assert "15 of 16 cells (1 crashed)" in stdout
    assert "benefit    60 of 60 pairs of FastFlow" in stdout
    assert "stability  0 runs beside" in stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", [*NAMES, "benefit"])
def test_latex_compiles_by_itself_and_in_a_document(papers_tables, tmp_path, name):
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed (Debian: texlive-latex-recommended)")
    (tmp_path / "paper.tex").write_text(
        r"\documentclass{article}\usepackage{booktabs,graphicx,textcomp}\begin{document}Before."
        rf"\input{{{papers_tables[0] / name}}}After.\end{{document}}"
    )
    for source in (papers_tables[0] / f"{name}.tex", tmp_path / "paper.tex"):
        command = [
            "pdflatex",
            "-interaction=nonstopmode",
            "-halt-on-error",
            "-output-directory",
            str(tmp_path),
            str(source),
        ]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout[-2000:]
        assert "Undefined control sequence" not in done.stdout
        assert (tmp_path / f"{source.stem}.pdf").stat().st_size > 10_000


@pytest.mark.slow
def test_latex_escapes_what_a_name_may_hold(papers_store, tmp_path):
    (made,) = tables(papers_store, "table7")
    text = latex(replace(made, remarks=[r"50 % of a_b & c#d ~ {x} \ ^ $ é <i> ± − × …"]))
    assert r"50 \% of a\_b \& c\#d" in text
    if shutil.which("pdflatex"):
        (tmp_path / "one.tex").write_text(text)
        assert subprocess.run([*PDFLATEX, "one.tex"], cwd=tmp_path, capture_output=True, timeout=60).returncode == 0


# Stores that lack something


CAPSULE = {"only": lambda spot: spot.category == "capsule" and spot.model == "fastflow"}


@pytest.mark.slow
def test_runs_with_another_norm_are_not_the_papers(tmp_path):
    """Later runs with a counted norm, or without one, do not take the place of the default's."""
    filler = Filler(only=lambda spot: spot.category == "capsule" and spot.backbone == "r18")
    specs = filler.specs()
    for norm in ("counted", "none"):
        for spec in replace(filler, params=lambda spot, norm=norm: {"model.feature_norm": norm}).specs():
            spec.started += 10**9
            spec.series["pixel_auroc"] = {epoch: value - 0.5 for epoch, value in spec.series["pixel_auroc"].items()}
            specs.append(spec)
    uri = write(specs, tmp_path)
    shown = {}
    for reading in ("", "paper_norm"):
        arguments = ["--output", reading or "default", *(["--reading", reading] if reading else [])]
        stdout, _ = run(tmp_path, "table_a1", "--tracking-uri", uri, *arguments, module=TABLES)
        rows = ours(tmp_path / (reading or "default"), "table_a1")
        shown[reading] = float(rows["capsule", "fastflow", "r18", "none", "segmentation"]["mean"])
        used = {"": "trainable", "paper_norm": "none"}[reading]
        text = " ".join(stdout.split())
        assert "names layer normalization for WRN50 and CaiT only" in text
        assert f"model.feature_norm of the runs shown: R18 {used}." in text
        assert f"model.feature_norm=counted (paper: {used})" in text
        assert "Deviates from the paper's protocol" not in text
    assert shown[""] == pytest.approx(shown["paper_norm"] + 50)
    assert "+sweeps=table_a1 +reading=paper_norm` computes it" in stdout


@pytest.mark.slow
def test_missing_crashed_unfinished_and_incomplete_runs_show_as_such(tmp_path):
    chosen = {
        ("pill", "r18", "none"): "removed",
        ("pill", "r18", "alternating"): "crashed",
        ("pill", "wrn50", "none"): "running",
        ("pill", "wrn50", "alternating"): "failed",
        ("pill", "deit", "none"): "incomplete",
    }

    def fate(spot):
        return chosen.get((spot.category, spot.backbone, spot.altub), "finished")

    filler = Filler(
        only=lambda spot: spot.category in ("pill", "screw") and spot.model == "fastflow" and fate(spot) != "removed",
        state=lambda spot: fate(spot) if fate(spot) in ("crashed", "running", "failed") else "finished",
        gaps=lambda spot: 3 if fate(spot) == "incomplete" else 0,
    )
    uri = filler.fill(tmp_path)
    stdout, _ = run(tmp_path, "table_a1", "--tracking-uri", uri, module=TABLES)
    made = ours(tmp_path / "results" / "tables", "table_a1")
    for (category, backbone, altub), state in chosen.items():
        row = made[category, "fastflow", backbone, altub, "segmentation"]
        assert row["state"] == {"removed": "missing"}.get(state, state)
        assert (row["mean"], row["std"], row["best"], row["seeds"]) == ("", "", "", "0")
        assert row["paper_mean"]
        assert bool(row["run_ids"]) == (state != "removed")
    for sentence in (
        "No run in MLflow; `python -m altub_exp.train -m +sweeps=table_a1` computes it.",
        "crashed in epoch 150",
        "is running, epoch 150 of 300",
        "failed after epoch 150 of 300",
        "3 of its evaluations are not in MLflow",
        "Over 198 of 201 evaluations: (98.",
    ):
        assert sentence in stdout
    overall = made["overall", "fastflow", "r18", "none", "segmentation"]
    assert (overall["state"], overall["cells"]) == ("partial", "1/15")
    assert float(overall["mean"]) == pytest.approx(94.9)  # screw alone
    assert "(94.9, 0.84) (1 of 15)" in stdout
    assert "Over 1 of 15 categories: screw; the paper's over the same: (94.90, 0.84)." in stdout


def test_overall_of_nothing_is_missing(tmp_path):
    (made,) = tables(Filler(only=lambda spot: spot.category == "01").fill(tmp_path), "table_a1")
    assert cell(made, category="overall", backbone="r18", altub="none").state == "missing"
    assert made.summary == "nothing is there yet: all cells are missing"


def test_a_run_recorded_in_two_experiments_is_taken_once(tmp_path):
    filler = Filler(**CAPSULE)
    specs = filler.specs()
    copies = [replace(spec, experiment="again", run_id=f"{number:032x}") for number, spec in enumerate(filler.specs())]
    (made,) = tables(write([*specs, *copies], tmp_path), "table6")
    found = cell(made, backbone="r18", altub="none")
    assert (found.state, found.seeds, len(found.runs)) == ("finished", 1, 1)
    assert "Recorded 2 times, counted once" in found.notes[0].replace(" with different numbers,", "")
    assert "'again'" in found.notes[0] or "'altub'" in found.notes[0]


@pytest.mark.slow
def test_conflicting_duplicates_are_named(tmp_path):
    specs = Filler(**CAPSULE).specs()
    other = Filler(**CAPSULE).specs()[0]
    other.tags["run_key"] = "seed25-ffffffff"
    other.series["pixel_auroc"] = {epoch: value - 0.01 for epoch, value in other.series["pixel_auroc"].items()}
    other.started += 1
    uri = write([*specs, other], tmp_path)
    (made,) = tables(uri, "table6")
    found = cell(made, backbone="r18", altub="none")
    assert found.state == "conflict"
    assert found.mean == pytest.approx(97.3)
    (note,) = found.notes
    assert note.startswith("Conflicting duplicates of seed 25")
    for run_id in (specs[0].run_id, other.run_id):
        assert run_id[:8] in note
    assert "(97.30, 0.09)" in note
    assert "(98.30, 0.09)" in note


@pytest.mark.slow
def test_a_run_that_deviates_is_used_only_alone_and_then_named(tmp_path):
    alone = Filler(**CAPSULE, params=lambda spot: {"train.batch_size": "16"}).specs()
    faithful = Filler(only=lambda spot: CAPSULE["only"](spot) and spot.backbone == "r18").specs()
    uri = write([*alone, *faithful], tmp_path)
    (made,) = tables(uri, "table6")
    wrn50 = cell(made, backbone="wrn50", altub="none")
    assert wrn50.complete
    assert wrn50.deviating
    assert wrn50.notes == ("Deviates from the paper's protocol: train.batch_size=16 (paper: 32).",)
    r18 = cell(made, backbone="r18", altub="none")
    assert not r18.deviating
    assert [run.run_id for run in r18.runs] == [faithful[0].run_id]
    assert r18.notes == (f"Left out, run {alone[0].run_id[:8]}: train.batch_size=16 (paper: 32).",)
    assert "not after the paper's protocol" in made.summary


@pytest.mark.slow
def test_several_seeds_give_mean_and_interval(tmp_path):
    specs = Filler(**CAPSULE, seeds=lambda spot: (1, 2, 3)).specs()
    shift = {1: -0.001, 2: 0.0, 3: 0.001}
    for spec in specs:
        spec.series["pixel_auroc"] = {e: v + shift[spec.seed] for e, v in spec.series["pixel_auroc"].items()}
    specs[2].state = specs[2].tags["status"] = "finished"
    uri = write(specs, tmp_path)
    stdout, _ = run(tmp_path, "table6", "--tracking-uri", uri, module=TABLES)
    row = ours(tmp_path / "results" / "tables", "table6")["capsule", "fastflow", "r18", "none", "segmentation"]
    assert (row["seeds"], len(row["run_ids"].split(";"))) == ("3", 3)
    assert float(row["mean"]) == pytest.approx(98.3)
    # means 98.2, 98.3, 98.4: s = 0.1, t(0.975, 2) = 4.302653, half width = 4.302653 · 0.1 / √3
    assert float(row["ci95"]) == pytest.approx(0.248414, abs=1e-5)
    assert "3, ± 0.25" in stdout
    assert row["best_epoch"] == ""


def test_a_seed_that_crashed_is_left_out_by_name(tmp_path):
    specs = Filler(only=lambda spot: CAPSULE["only"](spot) and spot.altub == "none", seeds=lambda spot: (1, 2)).specs()
    specs[1].tags["status"] = "crashed"
    (made,) = tables(write(specs, tmp_path), "table6")
    found = cell(made, backbone="r18", altub="none")
    assert (found.state, found.seeds) == ("finished", 1)
    assert any(note.startswith("Seed 2 left out: run ") for note in found.notes)


def test_the_backbone_is_chosen_by_the_papers_rule_among_what_is_there(tmp_path):
    specs = Filler(only=lambda spot: spot.category == "carpet" and spot.model == "fastflow").specs()
    for spec in specs:
        if (spec.spot.backbone, spec.spot.altub) == ("r18", "alternating"):
            spec.series["pixel_auroc"][7] = 0.999
    (made,) = tables(write(specs, tmp_path), "table1")
    found = cell(made, category="carpet", model="fastflow", altub="alternating", task="segmentation")
    assert (found.key.backbone, found.best_epoch) == ("r18", 7)
    assert any("ours r18, the paper's deit; with AltUB ours on deit" in note for note in found.notes)
    without = cell(made, category="carpet", model="fastflow", altub="none", task="segmentation")
    assert without.key.backbone == "r18"
    assert cell(made, category="carpet", model="cflow", altub="none", task="detection").state == "missing"


@pytest.mark.slow
def test_another_window(papers_store, tmp_path):
    run(tmp_path, "table7", "--tracking-uri", papers_store, "--window", "10", "90", module=TABLES)
    assert "10–90 (chosen)" in (tmp_path / "results" / "tables" / "table7.md").read_text()
    records = read(papers_store)
    beyond = table_a1(PaperCells(records.windowed(290, 310)))
    assert {one.state for one in beyond.cells if one.parts is None} == {"incomplete"}
    (one,) = cell(table6(PaperCells(records)), backbone="cait", altub="cnn").runs
    values = [value for epoch, value in one.series["pixel_auroc"].items() if 150 <= epoch <= 160]
    within = cell(table6(PaperCells(records.windowed(150, 160))), backbone="cait", altub="cnn")
    assert within.mean == pytest.approx(100 * sum(values) / 11)


def test_experiments_are_chosen_and_no_store_is_a_sentence(papers_store, tmp_path):
    _, stderr = run(tmp_path, "table_a1", "--tracking-uri", papers_store, "--experiment", "x", module=TABLES, expect=1)
    assert "holds no experiment 'x'" in stderr
    _, stderr = run(tmp_path, "all", module=TABLES, expect=1)
    assert "There is no MLflow store" in stderr
    assert "Traceback" not in stderr
    assert not list(tmp_path.iterdir())
    (tmp_path / "mlflow.db").write_text("no database")
    with pytest.raises(UserError, match="cannot be read"):
        read(f"sqlite:///{tmp_path}/mlflow.db")


def test_runs_of_no_table_get_the_table_of_stability(tmp_path):
    specs = Filler(only=lambda spot: spot.category == "01").specs()
    for spec in specs:
        spec.tags["dataset"] = "folder"
    uri = write(specs, tmp_path)
    stdout, _ = run(tmp_path, "all", "--tracking-uri", uri, module=TABLES)
    assert "folder/01" in stdout
    assert "table_a1   nothing is there yet: all cells are missing" in stdout
    assert len(table(tmp_path / "results" / "tables", "stability")) == 4
    assert {Path(row["run_ids"]).name for row in table(tmp_path / "results" / "tables", "stability")} == {
        spec.run_id for spec in specs
    }


def test_stability_shows_the_metrics_after_the_last_epoch_and_runs_without_them(tmp_path):
    specs = Filler(only=lambda spot: spot.category in ("01", "02")).specs()[:3]
    end = dict(zip(END_METRICS, (0.9, 0.5, 0.51, 0.8, 0.75), strict=True))
    specs[0].last |= end
    for metric in AUROCS:  # a run on normal images only
        specs[2].series.pop(metric, None)
    specs[2].last = {}
    uri = write(specs, tmp_path)
    records = read(uri)
    shown, narrow = stability(records, end_metrics=True), stability(records)
    assert [*shown.columns[-6:-1]] == list(END_METRICS.values())
    texts = {run.run_id: [entry.text for entry in line] for run, line in zip(records.runs, shown.lines, strict=True)}
    assert texts[specs[0].run_id][-6:] == ["90.00", "50.00", "51.00", "80.00", "75.00", "finished"]
    assert texts[specs[1].run_id][-6:] == ["—"] * 5 + ["finished"]
    assert texts[specs[2].run_id][-10:] == ["—"] * 9 + ["finished"]
    assert not set(END_METRICS.values()) & set(narrow.columns)
    assert "AUPRO" not in narrow.caption
    assert shown.data == narrow.data
    rows = {(row["run_ids"], row["task"]): [row[name] for name in ("aupro", "ap", "f1_max")] for row in narrow.data}
    assert rows[specs[0].run_id, "segmentation"] == [90.0, 50.0, 51.0]
    assert rows[specs[0].run_id, "detection"] == [None, 80.0, 75.0]
    assert rows[specs[1].run_id, "segmentation"] == rows[specs[2].run_id, "detection"] == [None] * 3
    stdout, _ = run(tmp_path, "stability", "--end-metrics", "--tracking-uri", uri, module=TABLES)
    assert "pixel AUPRO" in stdout
    assert "pixel F1-max" in (tmp_path / "results/tables/stability.tex").read_text()
    _, stderr = run(tmp_path, "table1", "--end-metrics", "--tracking-uri", uri, module=TABLES, expect=2)
    assert "--end-metrics is for the table stability" in stderr
