"""Statistics of the latents: in one pass or in many, against scipy."""

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from altub_exp.detector.latents import latent_blocks, normality, parameter_statistics, passes, unit_normality
from altub_exp.errors import Divergence
from altub_exp.features.backbone import Backbone
from altub_exp.features.maps import FeatureMaps
from altub_exp.flows.cflow import CFlow
from altub_exp.flows.fastflow import FastFlow
from altub_exp.flows.flow import AutocastFlow
from altub_exp.method.base import BASES
from altub_exp.method.density import Density


@pytest.fixture(scope="module")
def trained():
    """A density with ψ away from zero, and features of nine images."""
    np.random.seed(1)
    torch.manual_seed(1)
    images = torch.randint(0, 256, (9, 3, 32, 32), dtype=torch.uint8)
    backbone = Backbone("resnet18.tv_in1k", [1, 2], weights="random")
    features = FeatureMaps(backbone, images, batch_size=4, device=torch.device("cpu"), memory_gb=1.0)
    flow = FastFlow(features.shapes, steps=1, conv3x3_only=True, hidden_ratio=0.1, affine_clamping=2.0)
    density = Density(flow, [BASES["learned"](shape) for shape in features.shapes])
    with torch.no_grad():
        for parameter in density.bases.parameters():
            parameter.normal_(std=0.2)
    return density, features


def test_every_channel_is_held_once_within_the_memory():
    shapes, count = [(6, 4, 4), (5, 2, 2)], 10
    for values in (1, 500, 1000, 5000):
        plan = passes(shapes, count, 4 * values / 2**30)
        held = [(scale, channel) for blocks in plan for scale, first, last in blocks for channel in range(first, last)]
        assert held == [(0, c) for c in range(6)] + [(1, c) for c in range(5)]
        for blocks in plan:
            size = sum((last - first) * count * shapes[scale][1] * shapes[scale][2] for scale, first, last in blocks)
            assert size <= values or sum(last - first for _, first, last in blocks) == 1
    assert len(passes(shapes, count, 1.0)) == 1


def test_many_passes_give_what_one_gives(trained):
    density, features = trained
    rows = torch.tensor([7, 0, 3, 8, 2])
    whole = {}
    for scale, first, q in latent_blocks(density, features, rows, memory_gb=1.0):
        assert first == 0
        whole[scale] = q
    with torch.no_grad():
        units = density(features.batch(rows))
    for scale, q in whole.items():
        np.testing.assert_allclose(q, units[scale].q.numpy(), rtol=1e-4, atol=1e-5)
    blocks = list(latent_blocks(density, features, rows, memory_gb=1e-5))
    assert len(blocks) > 10
    for scale, first, q in blocks:
        assert np.array_equal(q, whole[scale][:, first : first + q.shape[1]])


def test_normality_equals_scipys_per_channel(trained):
    density, features = trained
    found = normality(density, features, memory_gb=1e-4)
    with torch.no_grad():
        latents = [units.q.numpy() for units in density(features.batch(torch.arange(9)))]
    ks = [kstest(q[:, c].ravel(), "norm").statistic for q in latents for c in range(q.shape[1])]
    assert found["ks"] == pytest.approx(np.mean(ks), abs=1e-5)
    assert found["ks_std"] == pytest.approx(np.std(ks, ddof=1), abs=1e-5)
    assert found["ks_channels"] == 64 + 128
    every = np.concatenate([q.ravel() for q in latents]).astype(float)
    assert found["mean_square"] == pytest.approx(np.mean(every**2), rel=1e-5)


def test_unit_normality_over_blocks_equals_that_over_all(trained):
    density, features = trained
    whole = unit_normality(density, features, memory_gb=1.0).to_json()
    pieces = unit_normality(density, features, memory_gb=1e-4).to_json()
    assert whole["units"] == pieces["units"] == 64 * 64 + 128 * 16
    assert whole["shapiro_wilk"] == pieces["shapiro_wilk"]
    assert whole["example"]["channel"] == pieces["example"]["channel"]


def test_parameters_are_summarised_over_the_units_of_all_scales(trained):
    density, _ = trained
    with torch.no_grad():
        for norm in density.flow.norms:
            norm.weight.normal_(std=2.0)
    units = {
        "norm_gain": [norm.weight.abs() for norm in density.flow.norms],
        "psi_mu": [base.mu for base in density.bases],
        "psi_log_sigma": [base.log_sigma for base in density.bases],
    }
    found = parameter_statistics(density)
    assert found.keys() == units.keys() | {f"{name}_std" for name in units}
    for name, scales in units.items():
        every = np.concatenate([scale.detach().numpy().ravel() for scale in scales]).astype(float)
        assert found[name] == pytest.approx(every.mean(), rel=1e-9)
        assert found[f"{name}_std"] == pytest.approx(every.std(), rel=1e-9)
    autocast = Density(AutocastFlow(density.flow, torch.bfloat16), list(density.bases))
    assert parameter_statistics(autocast) == found


def test_a_density_without_norm_and_psi_reports_no_parameter():
    shapes = [(4, 2, 2)]
    options = {"steps": 1, "condition_channels": 4, "hidden_ratio": 1.0, "affine_clamping": 1.9, "permute_soft": False}
    assert parameter_statistics(Density(CFlow(shapes, **options), [BASES["fixed"](shape) for shape in shapes])) == {}


def test_latents_that_are_not_finite_are_a_divergence(trained):
    density, features = trained
    broken = Density(density.flow, [BASES["learned"](shape) for shape in features.shapes])
    with torch.no_grad():
        broken.bases[1].log_sigma.fill_(-200.0)
    with pytest.raises(Divergence, match="scale 2"):
        normality(broken, features, memory_gb=1.0)
