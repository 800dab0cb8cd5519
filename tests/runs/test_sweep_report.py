"""The report of a sweep: table, pictures and description, from folders of runs in every state."""

import csv

import pytest
from PIL import Image

from altub_exp.runs.folder import RunFolder
from altub_exp.runs.states import RunState
from altub_exp.runs.sweep_folder import SweepFolder
from altub_exp.runs.sweep_report import SHOWN_RUNS, write_report

PLACE = ("sqlite:///mlflow.db", "altub")
SUMMARY = {
    f"{key}_{name}": value
    for key in ("pixel_auroc", "image_auroc")
    for name, value in (("mean", 0.97), ("std", 0.006), ("best", 0.98))
}


def make(runs_dir, category, base, state=RunState.finished, **fields):
    folder = RunFolder(runs_dir / "mvtec" / category / "fastflow-r18" / base / "seed25-0a")
    folder.write_status(state=state, **fields)
    for epoch in (1, 2, 3):
        folder.journal.append({"epoch": epoch, "loss": 0.1, "pixel_auroc": 0.9 + epoch / 100, "image_auroc": 0.95})
    folder.config.write_text(
        f"model: {{name: fastflow}}\nbackbone: {{key: r18}}\ndataset: {{name: mvtec, category: {category}}}\n"
        f"altub: {{name: {base}}}\ntrain: {{epochs: 3}}\nseed: 25\n"
    )
    return folder


@pytest.fixture
def sweep(tmp_path):
    """A sweep with a finished, a crashed, a damaged and a new run."""
    runs_dir = tmp_path / "runs"
    runs = {
        make(runs_dir, "screw", "none", summary=SUMMARY, window=[2, 3]): "screw · none",
        make(runs_dir, "screw", "cnn", RunState.crashed, reason="the loss\nbecame nan"): "screw · cnn",
        make(runs_dir, "pill", "none", summary=SUMMARY, window=[2, 3]): "pill · none",
        RunFolder(runs_dir / "mvtec" / "pill" / "fastflow-r18" / "cnn" / "seed25-0b"): "pill · cnn",
    }
    list(runs)[2].journal.file.write_text("no JSON\n")
    sweep = SweepFolder(runs_dir, "night")
    sweep.write(PLACE, "altub=none,cnn", ["dataset.category=screw,pill", "altub=none,cnn"], {}, runs)
    return sweep


def test_every_run_is_a_line_of_the_table(sweep):
    report = write_report(sweep)
    assert [file.name for file in report.files] == ["stability.md", "stability.csv", "auroc-mvtec-screw.png"]
    lines = report.files[0].read_text().splitlines()
    assert lines[0] == "| run | state | pixel AUROC (%) | best | image AUROC (%) | best |"
    assert lines[2] == "| screw · none | finished | 97.00 ± 0.60 | 98.00 | 97.00 ± 0.60 | 98.00 |"
    assert lines[3] == "| screw · cnn | crashed: the loss became nan |  |  |  |  |"
    assert "metrics.jsonl, line 1 is damaged" in lines[4]
    assert lines[5] == "| pill · cnn | not started |  |  |  |  |"
    rows = list(csv.DictReader(report.files[1].open()))
    assert [row["state"].partition(":")[0] for row in rows] == ["finished", "crashed", "finished", "not started"]
    assert rows[0].items() >= {"category": "screw", "altub": "none", "seed": "25", "first_epoch": "2"}.items()
    assert float(rows[0]["pixel_auroc_mean"]) == 0.97
    with Image.open(report.files[2]) as picture:
        assert picture.width > 1000


def test_metrics_after_the_last_epoch_are_columns_if_a_run_has_them(tmp_path):
    runs_dir, end = tmp_path / "runs", {"pixel_aupro": 0.9, "image_ap": 0.875}
    runs = {
        make(runs_dir, "screw", "none", summary=SUMMARY | end, window=[2, 3]): "new",
        make(runs_dir, "screw", "cnn", summary=SUMMARY, window=[2, 3]): "of an earlier version",
        make(runs_dir, "pill", "none", summary={}, window=[2, 3]): "of normal images",
        make(runs_dir, "pill", "cnn", RunState.crashed, reason="no"): "crashed",
    }
    sweep = SweepFolder(runs_dir, "night")
    sweep.write(PLACE, "night", [], {}, runs)
    report = write_report(sweep)
    head, _, *lines = report.files[0].read_text().splitlines()
    assert head.endswith("| image AUROC (%) | best | pixel AUPRO (%) | image AP (%) |")
    assert lines[0].endswith("| 97.00 ± 0.60 | 98.00 | 90.00 | 87.50 |")
    assert lines[1].endswith("| 97.00 ± 0.60 | 98.00 | — | — |")
    assert lines[2] == "| of normal images | finished | — | — | — | — | — | — |"
    assert lines[3] == "| crashed | crashed: no |  |  |  |  |  |  |"
    rows = list(csv.DictReader(report.files[1].open()))
    assert [row["pixel_aupro"] for row in rows] == ["0.9", "", "", ""]
    assert {row["pixel_ap"] for row in rows} == {""}


def test_the_description_has_command_line_states_and_table(sweep):
    text = write_report(sweep).description
    assert text.startswith("4 runs: 2 finished, 1 crashed, 1 not started\n\n| run |")
    assert text.endswith("\n\n`python -m altub_exp.train -m dataset.category=screw,pill altub=none,cnn`")
    assert "| screw · none | finished | 97.00 ± 0.60 |" in text


def test_the_description_of_a_large_sweep_fits_into_a_tag(tmp_path):
    runs = {RunFolder(tmp_path / f"{number:0200}"): f"a category · a backbone · {number}" for number in range(240)}
    sweep = SweepFolder(tmp_path, "large")
    sweep.write(PLACE, "seed=…", [f"seed={','.join(map(str, range(240)))}"], {}, runs)
    report = write_report(sweep)
    assert len(report.description) < 8000  # MLflow's limit
    assert f"{240 - SHOWN_RUNS} more runs are in `stability.csv`." in report.description
    assert len(report.files[1].read_text().splitlines()) == 241


def test_more_runs_than_colours_are_drawn(tmp_path):
    runs_dir = tmp_path / "runs"
    runs = {make(runs_dir, "screw", f"base{number}"): f"screw · base{number}" for number in range(13)}
    sweep = SweepFolder(runs_dir, "many")
    sweep.write(PLACE, "many", [], {}, runs)
    *_, picture = write_report(sweep).files
    with Image.open(picture) as opened:
        assert len(opened.convert("RGB").getcolors(1 << 24)) > 13


def test_a_second_command_of_the_same_name_keeps_the_runs_of_the_first(sweep):
    new = make(sweep.runs_dir, "zipper", "none")
    sweep.write(PLACE, "dataset.category=zipper", [], {}, {new: "zipper · none"})
    assert list(sweep.runs().values()) == ["screw · none", "screw · cnn", "pill · none", "zipper · none"]
    assert sweep.run_name(new) == "zipper · none"
    assert sweep.run_name(RunFolder(sweep.runs_dir / "another")) is None


def test_a_report_is_due_again_after_another_end_of_a_run(sweep):
    assert not sweep.is_reported(PLACE)
    assert sweep.is_reported(("http://server", "altub")), "it is another place's"
    sweep.mark_reported(("http://server", "altub"), sweep.states())
    assert not sweep.is_reported(PLACE)
    sweep.mark_reported(PLACE, sweep.states())
    assert sweep.is_reported(PLACE)
    list(sweep.runs())[-1].write_status(state=RunState.finished)
    assert not sweep.is_reported(PLACE)
    assert SweepFolder(sweep.runs_dir, "never written").is_reported(PLACE)


@pytest.mark.parametrize("name", ["a/b", "..", "x" * 300, "", "naïve · name"])
def test_any_name_has_a_folder_of_its_own(tmp_path, name):
    sweep = SweepFolder(tmp_path, name)
    sweep.write(PLACE, name, [], {}, {})
    assert sweep.path.parent == tmp_path / ".sweeps"
    assert sweep.record()["title"] == name
