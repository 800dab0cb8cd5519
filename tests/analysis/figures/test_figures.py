"""Figures through the command line: from real runs, from a store that is filled with runs of the paper's figures."""

import contextlib
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from altub_exp.runs.pictures import read_panels
from analysis.figures.__main__ import main
from analysis.figures.drawing import Sketch
from analysis.figures.map_sheets import map_sheets
from analysis.runs.artifacts import Artifacts
from analysis.runs.conditions import conditions
from analysis.runs.records import read
from tests.analysis.figure_runs import PILL, capsule_units, depth, files, latents
from tests.analysis.filler import Filler, write
from tests.commandline import TINY, run

NAMES = {
    "stability": "stability-synthetic-fabric-fastflow-r18",
    "maps": "maps-synthetic-fabric-fastflow",
}


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Two real runs in miniature, and what `all` made of them: (folder, standard output, captions)."""
    folder = tmp_path_factory.mktemp("demo")
    write([], folder)
    run(folder, "-m", *TINY, "altub=none,alternating", "eval.ks_every=0")
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()) as out:
        main(["all"])
    return folder, out.getvalue(), json.loads((folder / "results/figures/captions.json").read_text())


def in_process(capsys, *arguments):
    """(exit status, standard output, what it exits with)."""
    try:
        main([str(one) for one in arguments])
        status = 0
    except SystemExit as left:
        status = left.code
    out, error = capsys.readouterr()
    return status, out, error


def assert_is_a_picture(png, width):
    with Image.open(png) as opened:
        assert opened.width == pytest.approx(width * 300, abs=2)
        pixels = np.asarray(opened.convert("RGBA"))
    assert (pixels[..., 3] == 255).all(), "transparent: unreadable on a dark page"
    assert (pixels[[0, -1]] == 255).all(), "clipped at the upper or lower edge"
    ink = (pixels[..., :3] < 200).any(axis=2)
    assert 0.01 < ink.mean() < 0.9
    assert ink.any(axis=1).nonzero()[0][-1] > 0.9 * len(ink), "empty space at the bottom"


def test_the_demo_gives_its_own_figures_and_a_sentence_for_each_of_the_papers(demo):
    folder, out, captions = demo
    drawn = {name for name, entry in captions.items() if entry["files"]}
    assert drawn == set(NAMES.values())
    for name in drawn:
        for kind in ("png", "pdf"):
            assert (folder / f"results/figures/{name}.{kind}").stat().st_size > 5000
    assert (folder / f"results/figures/{NAMES['stability']}.pdf").read_bytes().startswith(b"%PDF")
    for name in ("fig1", "fig3", "fig4"):
        assert len(re.findall(rf"is not drawn: .*missing.*`python -m altub_exp.train -m \+sweeps={name}`", out)) == 1
        assert captions[name]["missing"][0] in out
    assert "The heat map is not drawn" in out
    assert_is_a_picture(folder / f"results/figures/{NAMES['stability']}.png", 3.5)


def test_captions_name_runs_commit_seed_window_and_units(demo):
    folder, _, captions = demo
    records = read(f"sqlite:///{folder}/mlflow.db")
    caption = captions[NAMES["stability"]]["caption"]
    for told in records.runs:
        assert told.run_id in caption
        assert told.tags["git_commit"][:10] in caption
    assert "seed 25" in caption
    first, last = records.runs[0].window
    assert f"epochs {first}–{last}" in caption
    assert "AUROC (%)" in caption
    assert "counted from 1" in caption
    assert set(captions[NAMES["stability"]]["runs"]) == set(records.by_id)


def test_a_contact_sheet_shows_each_runs_own_maps(demo):
    folder, _, captions = demo
    uri = f"sqlite:///{folder}/mlflow.db"
    records = read(uri)
    (sketch,) = map_sheets(conditions(records.runs), Artifacts(uri))
    drawing = sketch.draw()
    assert [run.run_id for run in drawing.runs] == captions[NAMES["maps"]]["runs"]
    kinds = ["good", "hole", "stain", "thread"]
    axes = np.array(drawing.figure.axes).reshape(4, len(kinds))  # image, mask, original, AltUB
    assert [one.get_title() for one in axes[0]] == kinds
    assert [row[0].get_ylabel().split("\n")[-1] for row in axes] == ["image", "mask", "original", "AltUB"]
    own = [read_panels(Path(run.tags["run_folder"]) / "maps.png") for run in drawing.runs]
    for row, panels, key in zip(axes, (own[0], own[0], *own), ("image", "mask", "map", "map"), strict=True):
        for one, panel in zip(row, panels, strict=True):
            assert np.array_equal(one.images[0].get_array(), np.asarray(panel.pictures[key]))


def test_a_run_without_its_maps_is_named_and_no_figure_outlives_its_runs(demo, tmp_path, capsys):
    folder, _, _ = demo
    output = tmp_path / "figures"
    arguments = ("maps", "--tracking-uri", f"sqlite:///{folder}/mlflow.db", "--output", output)
    assert in_process(capsys, *arguments)[0] == 0
    png = output / f"{NAMES['maps']}.png"
    assert png.is_file()

    sheets = sorted(folder.glob("mlartifacts/**/maps.png"))
    kept = [sheet.read_bytes() for sheet in sheets]
    try:
        sheets[0].unlink()
        status, out, _ = in_process(capsys, *arguments)
        assert status == 0
        assert re.search(r"(original|AltUB), seed 25 \(finished\): it has no maps.png in MLflow", out)
        sheets[1].unlink()
        status, out, _ = in_process(capsys, *arguments)
        assert "python -m altub_exp.sync" in out
        assert "No figure was drawn" in status
        assert not png.exists()
    finally:
        for sheet, content in zip(sheets, kept, strict=True):
            sheet.write_bytes(content)


def test_what_a_person_gets_wrong_is_one_sentence(demo, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder, _, _ = demo
    uri = f"sqlite:///{folder}/mlflow.db"
    for arguments, told in (
        (["fig4"], "No figure was drawn"),
        (["stability", "--output", folder / "mlflow.db" / "there"], "another folder by --output"),
    ):
        status, _, _ = in_process(capsys, *arguments, "--tracking-uri", uri)
        assert status.startswith("error: ")
        assert told in status
        assert "\n" not in status
    _, error = run(folder, "stability", "--experiment", "nowhere", module="analysis.figures", expect=1)
    assert "holds no experiment 'nowhere'" in error
    assert len(error.strip().splitlines()) == 1


@pytest.fixture(scope="module")
def paper(tmp_path_factory):
    """A store with the runs of Figures 1, 3 and 4, and with their files: (folder, tracking URI, specs by figure)."""
    folder = tmp_path_factory.mktemp("paper")
    steps = depth()
    capsule = capsule_units()
    pill = Filler(only=lambda spot: spot in PILL).specs()
    uri = write([*steps.values(), capsule, *pill], folder)
    for step, spec in steps.items():
        files(folder, spec, normality=latents(seed=step))
    files(folder, capsule, normality=latents(images=30))
    return folder, uri, {"fig1": [capsule], "fig3": list(steps.values()), "fig4": pill}


@pytest.mark.slow
@pytest.mark.slow
def test_the_papers_figures_are_drawn_from_their_runs(paper, tmp_path, capsys):
    _, uri, specs = paper
    widths = {"fig1": 7.2, "fig3": 7.2, "fig4": 3.5}
    for name, width in widths.items():
        status, _, _ = in_process(capsys, name, "--tracking-uri", uri, "--output", tmp_path)
        assert status == 0
        entry = json.loads((tmp_path / "captions.json").read_text())[name]
        assert set(entry["runs"]) == {spec.run_id for spec in specs[name]}
        assert entry["missing"] == []
        assert_is_a_picture(tmp_path / f"{name}.png", width)
    captions = json.loads((tmp_path / "captions.json").read_text())
    assert "paper's 1 < 16 < 8 < 4 < 2, ours 1 < 16 < 8 < 4 < 2: it agrees" in captions["fig3"]["caption"]
    assert "paper's 16 < 8 < 4 < 2, ours 16 < 8 < 4 < 2: it agrees" in captions["fig3"]["caption"]


@pytest.mark.slow
def test_what_is_missing_deviates_or_has_not_ended_is_written_in_the_figure(tmp_path, capsys):
    steps = depth((2, 4, 8))
    steps[8].params["train.batch_size"] = "16"
    del steps[2].series["pixel_auroc"][150]
    (pill,) = Filler(only=lambda spot: spot == PILL[1], state=lambda spot: "running", ends=120).specs()
    uri = write([*steps.values(), pill], tmp_path)
    files(tmp_path, steps[2], normality=latents())
    files(tmp_path, steps[8], normality=latents())

    status, out, _ = in_process(capsys, "fig3", "--tracking-uri", uri, "--output", tmp_path)
    assert status == 0
    for told in (
        "Missing: model.steps=1, model.steps=16; compute with `python -m altub_exp.train -m +sweeps=fig3`.",
        "model.steps=8 deviates: train.batch_size=16 (not 32).",
        "(a) lacks 4 steps: it has no normality.json in MLflow.",
    ):
        assert told in out
        assert told in json.loads((tmp_path / "captions.json").read_text())["fig3"]["caption"]

    status, out, _ = in_process(capsys, "fig4", "--tracking-uri", uri, "--output", tmp_path)
    assert status == 0
    assert "Missing: altub=none; compute with `python -m altub_exp.train -m +sweeps=fig4`." in out
    assert "AltUB, seed 25: running after epoch 120, 180 of 201 evaluations in the window missing." in out

    status, out, _ = in_process(capsys, "fig1", "--tracking-uri", uri, "--output", tmp_path)
    assert "No figure was drawn" in status
    assert "compute with `python -m altub_exp.train -m +sweeps=fig1`" in out


@pytest.mark.slow
@pytest.mark.slow
def test_a_chosen_window_replaces_the_runs_own(paper, tmp_path, capsys):
    _, uri, _ = paper
    in_process(capsys, "fig4", "--tracking-uri", uri, "--output", tmp_path, "--window", 200, 210)
    assert "epochs 200–210" in json.loads((tmp_path / "captions.json").read_text())["fig4"]["caption"]


def test_a_figure_that_fails_is_named_and_a_disk_that_is_full_ends_all():
    def fail(error):
        raise error

    undrawn = Sketch("fig1", "Fig. 1", lambda: fail(ValueError("a\nb"))).use(lambda drawing: drawing)
    assert (undrawn.sentence, undrawn.failed) == ("Fig. 1 is not drawn (ValueError: a b).", True)
    with pytest.raises(OSError):
        Sketch("fig1", "Fig. 1", lambda: fail(OSError(28, "no space"))).use(lambda drawing: drawing)
