"""The exported graph of detectors with random weights, against the detectors themselves."""

import numpy as np
import pytest
import torch

from altub_exp.config.compose import options
from altub_exp.data.canvas import Canvas
from altub_exp.detector.assembly import build_backbone, build_density
from altub_exp.detector.export import TOLERANCE, deviation, write_onnx, write_torch
from altub_exp.detector.families import family
from altub_exp.detector.graph import graph_facts
from altub_exp.detector.inference import Detector
from altub_exp.errors import UserError
from altub_exp.machine.device import seed_everything
from altub_exp.method.base import Standardized

SIZES = {"deit": 384, "cait": 448, "dinov2_s": 518, "dinov2_b": 518, "alexnet": 256, "b5": 128}
"""Sizes of backbones that take no other or no smaller; the others are tried at 64 px."""

COMBINATIONS = [
    pytest.param("r18", "model=csflow", "altub=cnn", marks=pytest.mark.slow),
    pytest.param("r18", "model=msflow", "altub=alternating", marks=pytest.mark.slow),
    pytest.param("mobilenetv2", "model=fastflow", "altub=split_prior", marks=pytest.mark.slow),
    ("r18", "model=fastflow", "altub=channelwise"),
]
"""Backbone, model and base distribution: those that the runs of other tests do not have."""


def untrained(compose, backbone, *overrides):
    """Return a detector with random weights and ψ away from zero, and images of its size."""
    size = SIZES.get(backbone, 64)
    settings = ["dataset=synthetic", f"backbone={backbone}", "backbone.weights=random", f"dataset.image_size={size}"]
    config = compose(*settings, "model.steps=1", "dataset.category=fabric", *overrides)
    seed_everything(3)
    images = torch.randint(256, (3, 3, size, size), dtype=torch.uint8)
    extractor = build_backbone(config)
    maps = extractor(images[:1])
    density = build_density(config, [tuple(scale.shape[1:]) for scale in maps]).eval().requires_grad_(False)
    for parameter in density.bases.parameters():
        parameter.normal_(std=0.1)
    scoring = family(config.model.name).scoring(config.model)
    with torch.no_grad():
        extremes = scoring.extremes(scoring.positions(density(extractor(images))))
    return Detector(
        extractor, density, scoring, extremes, (0, 1), Canvas(size), "bilinear", torch.device("cpu")
    ), images


@pytest.mark.parametrize(("backbone", "model", "base"), COMBINATIONS)
def test_onnx_gives_the_numbers_of_the_detector(compose, tmp_path, backbone, model, base):
    detector, images = untrained(compose, backbone, model, base)
    found = write_onnx(tmp_path / "one.onnx", detector, graph_facts(detector), images)
    assert max(found) <= TOLERANCE
    assert (tmp_path / "one.onnx").stat().st_size > 1e6


OTHERS = [("wrn50_tv", "cflow"), ("lite0", "cflow"), ("deit", "cflow"), ("lite0", "csflow"), ("b5", "csflow")]
OTHERS += [("lite0", "msflow"), ("deit", "msflow")]


@pytest.mark.slow
@pytest.mark.parametrize(("backbone", "model"), [*((name, "fastflow") for name in options("backbone")), *OTHERS])
def test_every_backbone_can_be_exported_to_onnx(compose, tmp_path, backbone, model):
    detector, images = untrained(compose, backbone, f"model={model}")
    assert max(write_onnx(tmp_path / "one.onnx", detector, graph_facts(detector), images[:2])) <= TOLERANCE


def test_bf16_is_refused_for_onnx_and_exported_for_pytorch(compose, tmp_path):
    detector, images = untrained(compose, "r18", "precision=bf16")
    with pytest.raises(UserError, match="ONNX Runtime does not compute on a CPU: choose --format torch"):
        write_onnx(tmp_path / "one.onnx", detector, graph_facts(detector), images)
    assert list(tmp_path.iterdir()) == []
    assert max(write_torch(tmp_path / "one.pt2", detector, graph_facts(detector), images)) <= TOLERANCE


class Bessel(torch.nn.Module):
    """A base distribution with a function that ONNX does not have."""

    def forward(self, z, x):
        return Standardized(torch.special.bessel_j0(z), z.new_zeros(()))


class Deciding(torch.nn.Module):
    """A base distribution whose operations depend on values."""

    def forward(self, z, x):
        return Standardized(z if z.sum() > 0 else -z, z.new_zeros(()))


@pytest.mark.parametrize(
    ("write", "base", "target"), [(write_onnx, Bessel, "ONNX"), (write_torch, Deciding, "torch.export")]
)
def test_an_operation_that_a_format_lacks_is_one_sentence(compose, tmp_path, write, base, target):
    detector, images = untrained(compose, "r18")
    detector.density.bases[0] = base()
    detector.score_pixels(images)
    with pytest.raises(UserError) as refused:
        write(tmp_path / "one", detector, graph_facts(detector), images)
    sentence = str(refused.value)
    assert sentence.startswith(f"This detector cannot be written for {target} (")
    assert sentence.endswith("): choose another --format.")
    assert "\n" not in sentence
    assert list(tmp_path.iterdir()) == []


def test_numbers_that_are_none_are_refused(compose):
    detector, images = untrained(compose, "r18")
    maps, scores = (values.numpy() for values in detector.score_pixels(images))
    assert deviation(exactly(detector), detector, images) == (0, 0)
    for wrong in (maps * np.nan, maps + 0.01 * np.ptp(maps)):
        with pytest.raises(UserError, match="would give other numbers than the run"):
            deviation(lambda batch, wrong=wrong: (wrong[: len(batch)], scores[: len(batch)]), detector, images)


def exactly(detector):
    """Return a function that scores as the detector does."""
    return lambda batch: tuple(values.numpy() for values in detector.score_pixels(batch))


class Narrow(torch.nn.Module):
    """A base distribution so narrow that the maps leave the range of float32."""

    def forward(self, z, x):
        return Standardized(torch.zeros_like(z), torch.full_like(z, -100))


def test_maps_out_of_the_range_of_float32_are_refused(compose, tmp_path):
    detector, images = untrained(compose, "r18")
    detector.density.bases[0] = Narrow()
    assert detector.score_pixels(images)[0].dtype == torch.float64
    with pytest.raises(UserError, match="would give other numbers than the run"):
        write_torch(tmp_path / "one.pt2", detector, graph_facts(detector), images)
