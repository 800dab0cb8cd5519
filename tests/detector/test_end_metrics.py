"""The metrics at the end of a run against reference implementations, on the maps of drawn and of real images."""

import json

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, precision_recall_curve

from altub_exp import experiment
from altub_exp.data.synthetic import Drawing, draw
from altub_exp.detector import flow_system
from altub_exp.metrics.stability import END_METRICS
from altub_exp.runs.checkpoint import load_trained
from altub_exp.runs.states import RunState
from tests.commandline import TINY, folders, journal
from tests.metrics.maps import aupro_by_sorting, aupro_by_thresholds
from tests.stores import place_store

DRAWN = [word for word in TINY if word.startswith("dataset.")]
SHORT = [word for word in TINY if not word.startswith("dataset.")]
DIRS = ("train_dir=train/good", "normal_dir=test/good", "mask_dir=null")


def own_images(folder):
    """Draw images without masks, and return the overrides that choose them."""
    draw(folder / "own", "washer", Drawing(size=64, train_images=8, good_images=2, defect_images=2, seed=0))
    return ["dataset=folder", "dataset.root=own", "dataset.category=washer", *(f"dataset.{key}" for key in DIRS)]


CFLOW = ["model.fibre_batch=16", "dataset.image_size=64", "train.cycle=1", "train.warmup_epochs=0", "train.epochs=3"]


@pytest.fixture
def evaluated(compose, monkeypatch, tmp_path):
    """A function that computes a run in this process: (folder, summary, scores and test images of its end)."""

    def computed(*overrides, state=RunState.finished):
        ends = []

        def recording(scores, test):
            ends.append((scores, test))
            return unchanged(scores, test)

        unchanged = experiment.end_metrics
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(experiment, "end_metrics", recording)
        place_store(tmp_path)
        experiment.run_experiment(compose(*SHORT, "altub=none", "device=cpu", *overrides))
        (folder,) = folders(tmp_path)
        status = json.loads((folder / "status.json").read_text())
        assert status["state"] == state
        return folder, status["summary"], *(ends[0] if ends else ())

    return computed


def f1_max(labels, scores):
    precisions, recalls, _ = precision_recall_curve(labels, scores)
    return np.max(2 * precisions * recalls / np.maximum(precisions + recalls, 1e-300))


def assert_equal_to_the_references(summary, scores, test):
    maps, masks, images = scores.maps.numpy(), test.masks, scores.images.numpy()
    assert masks.any(axis=(1, 2)).tolist() == test.defective.tolist()
    references = {
        "pixel_aupro": aupro_by_sorting(maps, masks),
        "pixel_ap": average_precision_score(masks.ravel(), maps.ravel()),
        "pixel_f1_max": f1_max(masks.ravel(), maps.ravel()),
        "image_ap": average_precision_score(test.defective, images),
        "image_f1_max": f1_max(test.defective, images),
    }
    assert list(references) == list(END_METRICS)
    for name, reference in references.items():
        assert summary[name] == pytest.approx(reference, abs=1e-6), name
    few = np.r_[0, np.flatnonzero(test.defective)[:3]]
    assert aupro_by_sorting(maps[few], masks[few]) == pytest.approx(
        aupro_by_thresholds(maps[few], masks[few]), abs=1e-6
    )


def test_a_run_on_drawn_images_equals_the_references(evaluated):
    folder, summary, scores, test = evaluated(*DRAWN, "train.epochs=2")
    assert_equal_to_the_references(summary, scores, test)
    stored = load_trained(folder / "checkpoint.pt").images
    assert stored.split == "test"
    assert np.array_equal(stored.scores, scores.images)
    assert np.array_equal(stored.defective, test.defective)
    assert {"pixel_auroc_mean", "image_auroc_best"} <= summary.keys()


def test_a_run_on_real_images_equals_the_references(evaluated, shared):
    weights = shared / "weights/tf_efficientnet_lite0.in1k.safetensors"
    _, summary, scores, test = evaluated(
        *("dataset=mvtec", f"dataset.root={shared / 'data/other'}", "dataset.category=hazelnut_toy"),
        *("dataset.image_size=64", "backbone=lite0", f"backbone.weights={weights}", "train.epochs=2"),
    )
    assert_equal_to_the_references(summary, scores, test)


def test_without_masks_there_are_the_metrics_of_images(evaluated, tmp_path):
    _, summary, *_ = evaluated(*own_images(tmp_path), "dataset.defect_dir=test/dent", "train.epochs=1")
    assert [name for name in END_METRICS if name in summary] == ["image_ap", "image_f1_max"]


@pytest.mark.parametrize("model", ["fastflow", "cflow"])
@pytest.mark.parametrize("tested", [True, False])
def test_normal_images_only(evaluated, tmp_path, model, tested):
    keys = ["dataset.defect_dir=null", *([] if tested else ["dataset.normal_dir=null"]), f"model={model}"]
    keys += CFLOW if model == "cflow" else ["train.epochs=3"]
    folder, summary, scores, test = evaluated(*own_images(tmp_path), *keys)
    assert summary == {}
    for row in journal(folder):
        assert "loss" in row
        assert not [key for key in row if "auroc" in key]
    last = journal(folder)[-1]
    assert ("ks" in last, "ks_test_good" in last) == (True, tested)
    trained = load_trained(folder / "checkpoint.pt")
    assert (trained.images.split, len(trained.images.scores)) == (("test", 2) if tested else ("train", 8))
    assert trained.limits == (scores.maps.min(), scores.maps.max())
    assert len(test.defective) == len(trained.images.scores)
    assert not test.defective.any()
    (notes,) = [line for line in (folder / "train.log").read_text().splitlines() if "no AUROC" in line]
    assert f"There are no {'defective ' if tested else ''}test images, so that a run has no AUROC" in notes
    assert sorted(path.name for path in folder.glob("*.png")) == ["maps.png"]


def test_a_score_that_is_not_a_number_after_the_last_evaluated_epoch_is_a_crash(evaluated, monkeypatch):
    unchanged, calls = flow_system.anomaly_scores, []

    def failing(*arguments):
        calls.append(arguments)
        (scores,) = unchanged(*arguments)
        return [scores if len(calls) == 1 else scores._replace(images=torch.full_like(scores.images, torch.nan))]

    monkeypatch.setattr(flow_system, "anomaly_scores", failing)
    folder, summary = evaluated(*DRAWN, "train.epochs=3", "eval.every=2", state=RunState.crashed)
    assert len(calls) == 2
    assert not summary.keys() & END_METRICS.keys()
    assert json.loads((folder / "status.json").read_text())["reason"] == "an anomaly score became NaN in epoch 3"
