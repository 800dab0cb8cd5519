"""DifferNet, and CS-Flow on several sizes of an image, through the real command line, on built-in images."""

import csv
import math
from pathlib import Path

import pytest
import torch

from altub_exp.detector.inference import Detector
from altub_exp.runs.checkpoint import load_trained
from tests.commandline import TINY, folders, journal, kill_behind_a_checkpoint, recorded, run, status

TEST = "data/synthetic/fabric/test"
SIZES = ["backbone.stages=[4]", "backbone.input_divisors=[1,2,4]"]
DIFFERNET = [
    "model=differnet",
    *TINY,
    *SIZES,
    "dataset.image_size=64",
    "model.hidden_features=16",
    "model.rotations=3",
    "model.train_rotations=2",
    "train.lr=1e-2",
    "train.cycle=2",
]
CSFLOW = ["model=csflow", *TINY, *SIZES, "dataset.image_size=64", "model.hidden_channels=8", "train.lr=1e-2"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Both base distributions in one command."""
    cwd = tmp_path_factory.mktemp("undisturbed")
    run(cwd, "-m", *DIFFERNET, "altub=none,alternating")
    return cwd


def test_it_is_evaluated_by_images_and_neither_pixels_nor_maps_are_recorded(undisturbed):
    for folder in folders(undisturbed):
        rows = journal(folder)
        assert [row["epoch"] for row in rows if "image_auroc" in row] == [2, 4, 6]
        assert all(math.isfinite(row["loss"]) for row in rows)
        assert rows[-1]["loss"] < rows[0]["loss"]
        assert [row["ks_channels"] for row in rows if "ks" in row] == [3 * 512, 3 * 512]
        summary = status(folder)["summary"]
        assert {"image_auroc_mean", "image_ap", "image_f1_max"} <= set(summary)
        assert not any(name.startswith("pixel") for name in {*rows[-1], *summary})
        assert not (folder / "maps.png").exists()
        assert folder.parts[-3] == "differnet-r18"
        assert load_trained(folder / "checkpoint.pt").shapes == [(512, 1, 1)] * 3
    histories, _ = recorded(undisturbed)
    assert [step for step, _ in sorted(histories["alternating"]["image_auroc"])] == [2, 4, 6]
    assert "pixel_auroc" not in histories["alternating"]


def test_a_prediction_is_the_runs_last_evaluation_and_has_no_maps(undisturbed):
    (folder,) = (folder for folder in folders(undisturbed) if folder.parent.name == "alternating")
    _, err = run(undisturbed, str(folder), TEST, "--device", "cpu", module="altub_exp.predict")
    assert "note: the run's model scores images as a whole: there are no maps and overlays" in err
    assert sorted(path.name for path in (undisturbed / "predictions").iterdir()) == ["scores.csv"]
    with (undisturbed / "predictions/scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    trained = load_trained(folder / "checkpoint.pt").images
    assert [float(row["score"]) for row in rows] == pytest.approx(sorted_as(rows, trained), rel=1e-5)


def sorted_as(rows, trained):
    """Return the run's scores in the order of the table: by class, and within it as the run has them."""
    defective = ["/good/" not in row["file"] for row in rows]
    by_class = {kind: iter(trained.scores[trained.defective == kind].tolist()) for kind in (False, True)}
    return [next(by_class[kind]) for kind in defective]


def test_a_detector_scores_the_mean_over_the_rotations(undisturbed, monkeypatch):
    monkeypatch.chdir(undisturbed)
    (folder,) = (folder for folder in folders(undisturbed) if folder.parent.name == "none")
    detector = Detector.load(folder, "cpu")
    image = next(Path(TEST).glob("good/*.png"))
    (pixels, _) = detector.placed(image)
    _, (score,) = detector.score_pixels(pixels[None])
    with torch.no_grad():
        one_by_one = [
            detector.density(detector.backbone(turned(pixels, degrees)[None]))[0].q.square().mean()
            for degrees in (0.0, 120.0, 240.0)
        ]
    assert score.item() == pytest.approx(torch.stack(one_by_one).mean().item(), rel=1e-5)
    assert len(set(map(float, one_by_one))) == 3


def turned(pixels, degrees):
    """Rotate an image as the published code does, by torchvision."""
    from torchvision.transforms.functional import pil_to_tensor, rotate, to_pil_image

    return pil_to_tensor(rotate(to_pil_image(pixels), degrees))


def test_an_exported_graph_is_refused_before_any_work(undisturbed):
    folder = folders(undisturbed)[0]
    _, err = run(undisturbed, str(folder), "--format", "torch", module="altub_exp.export", expect=1)
    assert "The run has model.rotations=3, and an exported graph rotates no image: score images with" in err
    assert not (undisturbed / "detector.pt2").exists()


@pytest.mark.slow
def test_new_random_rotations_are_those_of_the_undisturbed_run_after_a_kill(tmp_path):
    options = [*DIFFERNET, "altub=alternating", "dataset.rotation=180"]
    expected, interrupted = tmp_path / "expected", tmp_path / "interrupted"
    expected.mkdir()
    interrupted.mkdir()
    run(expected, *options)
    folder = kill_behind_a_checkpoint(interrupted, *options)
    assert 1 <= len((folder / "metrics.jsonl").read_text().splitlines()) < 6, "too quick to be killed"
    _, err = run(interrupted, *options)
    assert "computed anew in every epoch" in err
    assert journal(folder) == journal(folders(expected)[0])


@pytest.mark.slow
def test_csflow_reads_one_stage_at_three_sizes(tmp_path):
    run(tmp_path, *CSFLOW, "altub=alternating")
    (folder,) = folders(tmp_path)
    assert load_trained(folder / "checkpoint.pt").shapes == [(512, 2, 2), (512, 1, 1), (512, 1, 1)]
    rows = journal(folder)
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert all(0 <= row["pixel_auroc"] <= 1 for row in rows)
    _, err = run(tmp_path, *CSFLOW, "altub=alternating")
    assert "finished already" in err
    run(tmp_path, str(folder), TEST, "--device", "cpu", module="altub_exp.predict")
    images = load_trained(folder / "checkpoint.pt").images
    with (tmp_path / "predictions/scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["score"]) for row in rows] == pytest.approx(sorted_as(rows, images), rel=1e-5)
    assert all(row["map"] for row in rows)


LOSSES = {
    "none": [0.011684, -0.013534, -0.044087, -0.089493, -0.176368, -0.358078],
    "alternating": [0.004391, -0.048059, -0.105405, -0.176673, -0.287767, -0.433889],
}


@pytest.mark.parametrize("base", LOSSES)
def test_losses_of_the_tiny_runs_do_not_drift(undisturbed, base):
    """The losses were first computed with torch 2.15 on a CPU; optimisations must keep them."""
    (folder,) = (f for f in folders(undisturbed) if f.parent.name == base)
    assert [row["loss"] for row in journal(folder)] == pytest.approx(LOSSES[base], abs=1e-3)


@pytest.mark.slow
def test_tiles_and_a_kept_aspect_score_as_the_largest_of_the_tiles(tmp_path):
    run(tmp_path, *DIFFERNET, "altub=none", "dataset.tiles=1x2", "dataset.keep_aspect=true", "train.epochs=2")
    (folder,) = folders(tmp_path)
    run(tmp_path, str(folder), TEST, "--device", "cpu", module="altub_exp.predict")
    images = load_trained(folder / "checkpoint.pt").images
    with (tmp_path / "predictions/scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["score"]) for row in rows] == pytest.approx(sorted_as(rows, images), rel=1e-5)
    assert not any(row["map"] for row in rows)
