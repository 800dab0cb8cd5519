"""MSFlow through the real command line, on built-in images."""

import csv
import math

import pytest
import torch

from altub_exp.runs.checkpoint import load_trained
from tests.commandline import TINY, equal_models, folders, journal, kill_behind_a_checkpoint, recorded, run, status

TEST = "data/synthetic/fabric/test"
MSFLOW = [
    "model=msflow",
    *TINY,
    "backbone.stages=[1,2]",
    "dataset.image_size=64",
    "model.condition_channels=8",
    "train.lr=1e-3",
    "train.cycle=2",
    "train.warmup_epochs=2",
    "train.milestones=[4]",
]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Both base distributions in one command."""
    cwd = tmp_path_factory.mktemp("undisturbed")
    run(cwd, "-m", *MSFLOW, "altub=none,alternating")
    return cwd


def test_it_learns_and_is_evaluated_after_each_meta_epoch(undisturbed):
    for folder in folders(undisturbed):
        rows = journal(folder)
        assert [row["epoch"] for row in rows if "image_auroc" in row] == [2, 4, 6]
        assert all(math.isfinite(row["loss"]) for row in rows)
        assert rows[-1]["loss"] < rows[0]["loss"]
        assert all(0 <= row["pixel_auroc"] <= 1 for row in rows if "pixel_auroc" in row)
        assert [row["ks_channels"] for row in rows if "ks" in row] == [64 + 128] * 2
        assert {"pixel_auroc_mean", "image_auroc_mean", "pixel_aupro"} <= set(status(folder)["summary"])
        assert folder.parts[-3] == "msflow-r18"
        assert load_trained(folder / "checkpoint.pt").shapes == [(64, 8, 8), (128, 4, 4)]
    histories, _ = recorded(undisturbed)
    assert [step for step, _ in sorted(histories["alternating"]["pixel_auroc"])] == [2, 4, 6]
    assert max(value for _, value in histories["alternating"]["psi_mu_std"]) > 0


def test_a_prediction_is_the_runs_last_evaluation(undisturbed):
    (folder,) = (folder for folder in folders(undisturbed) if folder.parent.name == "alternating")
    run(undisturbed, str(folder), TEST, "--device", "cpu", module="altub_exp.predict")
    with (undisturbed / "predictions/scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    images = load_trained(folder / "checkpoint.pt").images
    for defective in (False, True):
        found = [float(row["score"]) for row in rows if ("/good/" not in row["file"]) == defective]
        expected = images.scores[images.defective == defective].tolist()
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert all(row["map"] for row in rows)


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_undisturbed_result(undisturbed, tmp_path):
    options = [*MSFLOW, "altub=alternating"]
    folder = kill_behind_a_checkpoint(tmp_path, *options)
    assert 1 <= len((folder / "metrics.jsonl").read_text().splitlines()) < 6, "too quick to be killed"
    run(tmp_path, *options)
    (expected,) = (folder for folder in folders(undisturbed) if folder.parent.name == "alternating")
    assert journal(folder) == journal(expected)
    assert equal_models(folder, expected)
    assert torch.load(folder / "checkpoint.pt", weights_only=True)["epoch"] == 6


@pytest.mark.slow
def test_tiles_and_a_kept_aspect_score_as_the_largest_of_the_tiles(tmp_path):
    run(tmp_path, *MSFLOW, "altub=none", "dataset.tiles=1x2", "dataset.keep_aspect=true", "train.epochs=2")
    (folder,) = folders(tmp_path)
    run(tmp_path, str(folder), TEST, "--device", "cpu", module="altub_exp.predict")
    images = load_trained(folder / "checkpoint.pt").images
    with (tmp_path / "predictions/scores.csv").open(newline="") as file:
        found = sorted(float(row["score"]) for row in csv.DictReader(file))
    assert found == pytest.approx(sorted(images.scores.tolist()), rel=1e-4, abs=1e-6)
    assert len(set(found)) > 1
