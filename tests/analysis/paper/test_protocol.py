"""The sweeps' configurations decide if a run follows the paper's protocol."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from altub_exp.tracking.lifecycle import flatten
from analysis.paper.protocol import deviations, expected_params
from analysis.paper.values import backbone_choice
from analysis.runs.run import Run


@pytest.mark.parametrize(
    ("overrides", "tags"),
    [
        ("backbone=deit dataset.category=screw altub=none", "mvtec screw fastflow deit none"),
        ("backbone=wrn50 dataset.category=capsule altub=cnn", "mvtec capsule fastflow wrn50 cnn"),
        ("model=cflow backbone=wrn50_tv dataset.category=transistor", "mvtec transistor cflow wrn50_tv alternating"),
        ("backbone=wrn50 dataset=btad dataset.category='02'", "btad 02 fastflow wrn50 alternating"),
    ],
)
def test_a_command_of_the_paper_does_not_deviate(compose, overrides, tags):
    params = {key: str(value) for key, value in flatten(asdict(compose(*overrides.split()))).items()}
    names = ("dataset", "category", "model", "backbone", "altub")
    told = dict(zip(names, tags.split(), strict=True))
    assert deviations(Run("id", "name", "altub", told, params, {}, {})) == {}
    elsewhere = params | {"dataset.root": "/data", "seed": "7", "device": "cuda", "cuda_graphs": "False"}
    assert deviations(Run("id", "name", "altub", told, elsewhere, {}, {})) == {}
    other = params | {"train.lr": "0.5", "dataset.image_size": "99"}
    assert deviations(Run("id", "name", "altub", told, other, {}, {})) == {
        "dataset.image_size": ("99", params["dataset.image_size"]),
        "train.lr": ("0.5", params["train.lr"]),
    }


def test_a_run_with_another_norm_deviates_unless_the_reading_has_it(compose):
    def of(norm, reading=None):
        params = {key: str(value) for key, value in flatten(asdict(compose("dataset.category=screw", norm))).items()}
        tags = {"dataset": "mvtec", "category": "screw", "model": "fastflow", "backbone": "r18", "altub": "alternating"}
        return deviations(Run("id", "name", "altub", tags, params, {}, {}), reading)

    assert of("+reading=paper_norm") == {"model.feature_norm": ("none", "trainable")}
    assert of("+reading=paper_norm", "paper_norm") == {}
    assert of("model.feature_norm=trainable", "paper_norm") == {"model.feature_norm": ("trainable", "none")}
    for reading, norm in ((None, "trainable"), ("paper_norm", "none")):
        assert of("model.feature_norm=counted", reading) == {"model.feature_norm": ("counted", norm)}


def test_sizes_are_those_of_the_category():
    assert expected_params("mvtec", "cflow", "wrn50_tv", "none", "transistor")["dataset.image_size"] == "128"
    assert expected_params("mvtec", "cflow", "wrn50_tv", "none", "screw")["dataset.image_size"] == "512"


def test_backbones_that_the_paper_chose():
    assert backbone_choice("carpet").backbones == ("deit",)
    assert backbone_choice("toothbrush").backbones == ("cait",)
    assert backbone_choice("toothbrush").differs == ("alternating",)
    assert backbone_choice("grid").differs == ()
