"""The feature norm whose affine is counted: its log-determinant, the likelihood that follows, and training on it."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from altub_exp.detector.assembly import build_density, build_learner
from altub_exp.experiment import run_experiment
from altub_exp.flows.csflow import CSFlow
from altub_exp.flows.fastflow import FastFlow, FeatureNorm
from altub_exp.flows.flow import AutocastFlow
from altub_exp.machine.cuda_graphs import cuda_graphs_for
from altub_exp.method.base import BASES
from altub_exp.method.density import Density, negative_log_likelihood
from altub_exp.method.learning_rate import TrainingStep
from altub_exp.runs.states import RunState
from tests.commandline import TINY, folders, status
from tests.stores import place_store

SHAPES = [(4, 3, 3), (5, 2, 2)]
FLOWS = {
    "fastflow": (FastFlow, {"conv3x3_only": False, "hidden_ratio": 1.0, "affine_clamping": 2.0}),
    "csflow": (CSFlow, {"hidden_channels": 6, "kernel_size": 3, "last_kernel_size": 3, "affine_clamping": 3.0}),
}
every_flow = pytest.mark.parametrize("name", FLOWS)


def flow_of(name, feature_norm, steps=2):
    """A flow in float64 with all parameters away from their start; equal for all norms, up to the norm's own."""
    np.random.seed(1)
    torch.manual_seed(1)
    make, options = FLOWS[name]
    flow = make(SHAPES, steps=steps, feature_norm=feature_norm, **options).double()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter_name, parameter in flow.named_parameters():
            if parameter.requires_grad and not parameter_name.startswith("norms"):
                parameter.add_(0.2 * torch.randn(parameter.shape, dtype=parameter.dtype, generator=generator))
        for scale, norm in enumerate(flow.norms):
            for parameter in norm.parameters():
                generator.manual_seed(3 + scale)
                parameter.add_(0.7 * torch.randn(parameter.shape, dtype=parameter.dtype, generator=generator))
    return flow


def random_maps(batch=2, dtype=torch.float64):
    generator = torch.Generator().manual_seed(5)
    return [3 * torch.randn(batch, *shape, dtype=dtype, generator=generator) + 1 for shape in SHAPES]


def log_gains(flow):
    return [norm.weight.detach().abs().log().sum() for norm in flow.norms]


@every_flow
def test_log_determinant_is_that_of_autograds_jacobian_from_the_affine_on(name):
    counted, plain = flow_of(name, "counted"), flow_of(name, "none")
    maps = random_maps(batch=1)
    normal = [nn.functional.layer_norm(m, m.shape[1:]) for m in maps]
    lengths = [m.numel() for m in maps]

    def from_the_affine_on(flat):
        parts = [part.view_as(m) for part, m in zip(flat.split(lengths), maps, strict=True)]
        entering = [u * norm.weight + norm.bias for u, norm in zip(parts, counted.norms, strict=True)]
        return torch.cat([latent.z.flatten() for latent in plain(entering)])

    flat = torch.cat([u.flatten() for u in normal])
    latents = counted(maps)
    torch.testing.assert_close(torch.cat([latent.z.flatten() for latent in latents]), from_the_affine_on(flat))
    exactly = torch.linalg.slogdet(torch.autograd.functional.jacobian(from_the_affine_on, flat))[1].item()
    assert sum(latent.log_det.sum() for latent in latents).item() == pytest.approx(exactly, abs=1e-9)
    assert any((norm.weight < 0).any() for norm in counted.norms)  # the sign of a γ does not matter
    trainable = flow_of(name, "trainable")(maps)
    for ours, theirs, part in zip(latents, trainable, log_gains(counted), strict=True):
        assert torch.equal(ours.z, theirs.z)
        torch.testing.assert_close(ours.log_det - theirs.log_det, part.expand(1))
        assert abs(part) > 1


class Rescaled(nn.Module):
    """A layer x / c of a flow before the rest of it, its log-determinant counted."""

    def __init__(self, flow, c):
        super().__init__()
        self.flow, self.c = flow, c

    def forward(self, x):
        z, log_det = self.flow(x / self.c)
        return z, log_det - self.c.abs().log().sum()


@pytest.mark.parametrize("feature_norm", ["counted", "trainable"])
def test_likelihood_does_not_depend_on_where_a_scale_stands_if_the_norm_is_counted(feature_norm):
    """A factor c moves from the flow's first layer into the norm's affine: the features' density is the same."""
    maps, generator = random_maps(), torch.Generator().manual_seed(6)
    density = Density(flow_of("fastflow", feature_norm), [BASES["fixed"](shape) for shape in SHAPES])
    before = negative_log_likelihood(density(maps)).item()
    moved = 0.0
    for scale, norm in enumerate(density.flow.norms):
        c = 0.5 * torch.randn(norm.weight.shape, generator=generator).double() - 1.5
        moved += c.abs().log().sum().item()
        with torch.no_grad():
            norm.weight *= c
            norm.bias *= c
        density.flow.flows[scale] = Rescaled(density.flow.flows[scale], c)
    after = negative_log_likelihood(density(maps)).item()
    assert abs(moved) > 1
    assert after == pytest.approx(before + (moved if feature_norm == "trainable" else 0.0), rel=1e-10)


def test_likelihood_does_not_depend_on_the_scale_that_norm_and_base_share():
    """If the flow only permutes channels, γ and σ can shrink together, at no gain since both are counted."""
    flow = flow_of("csflow", "counted")
    density = Density(flow, [BASES["learned"](shape) for shape in SHAPES]).double()
    with torch.no_grad():
        for parameter in flow.parameters():
            if parameter.dim() == 1:
                parameter.zero_()  # also the outermost factors of the subnets: each block is a permutation
        for parameter in density.bases.parameters():
            parameter.normal_(std=0.3)
    maps = random_maps()
    before = negative_log_likelihood(density(maps)).item()
    with torch.no_grad():
        for norm, base in zip(flow.norms, density.bases, strict=True):
            for parameter in (norm.weight, norm.bias, base.mu):
                parameter *= 0.01
            base.log_sigma += math.log(0.01)
    assert negative_log_likelihood(density(maps)).item() == pytest.approx(before, rel=1e-10)


@every_flow
def test_inverse_gives_back_the_features_after_the_affine(name):
    flow, maps = flow_of(name, "counted"), random_maps()
    latents = flow(maps)
    back = flow.inverse([latent.z for latent in latents])
    for entered, m, norm in zip(back, maps, flow.norms, strict=True):
        expected = nn.functional.layer_norm(m, m.shape[1:]) * norm.weight + norm.bias
        torch.testing.assert_close(entered, expected, rtol=1e-9, atol=1e-9)


def learner_of(compose, name, feature_norm):
    options = [f"model={name}", "model.steps=2", f"model.feature_norm={feature_norm}", "train.lr=1e-2"]
    options += ["model.hidden_channels=6"] * (name == "csflow")
    config = compose(*options, "dataset.category=bottle", "altub=alternating")
    np.random.seed(1)
    torch.manual_seed(1)
    return build_learner(config, build_density(config, SHAPES))


@every_flow
def test_first_loss_is_that_of_the_trainable_norm_bit_for_bit_and_later_ones_are_larger(compose, name):
    losses = {}
    for feature_norm in ("trainable", "counted"):
        learner = learner_of(compose, name, feature_norm)
        maps = random_maps(batch=4, dtype=torch.float32)
        steps = (TrainingStep(epoch, 0, 1) for epoch in range(1, 31))
        losses[feature_norm] = [learner.learn(maps, step, torch.Generator()).loss.item() for step in steps]
    assert losses["trainable"][0] == losses["counted"][0]
    assert losses["trainable"][1] != losses["counted"][1]
    assert losses["trainable"][-1] < losses["counted"][-1] < losses["counted"][0]


@every_flow
def test_log_determinant_keeps_its_precision_under_autocast(name):
    maps = random_maps(dtype=torch.float32)
    counted, trainable = (
        AutocastFlow(flow_of(name, norm).float(), torch.bfloat16) for norm in ("counted", "trainable")
    )
    for ours, theirs, part in zip(counted(maps), trainable(maps), log_gains(counted.flow), strict=True):
        assert ours.log_det.dtype == torch.float32
        torch.testing.assert_close(ours.log_det - theirs.log_det, part.expand(2), rtol=1e-5, atol=1e-5)


@every_flow
def test_passes_can_be_recorded_as_cuda_graphs(compose, name):
    density = learner_of(compose, name, "counted").density
    assert cuda_graphs_for(torch.device("cuda"), (density.flow, *density.bases)) is not None


@every_flow
def test_a_gain_of_zero_has_no_likelihood(compose, name):
    learner = learner_of(compose, name, "counted")
    with torch.no_grad():
        learner.density.flow.norms[1].weight[0, 0, 0] = 0.0
    loss = learner.learn(random_maps(dtype=torch.float32), TrainingStep(1, 0, 1), torch.Generator()).loss
    assert loss.item() == math.inf


def test_a_run_whose_gain_reaches_zero_is_recorded_as_crashed(compose, tmp_path, monkeypatch):
    """ln|0| is −∞: the run ends as one that diverged."""
    reset = FeatureNorm.reset_parameters

    def with_a_zero(norm):
        reset(norm)
        with torch.no_grad():
            norm.weight[0, 0, 0] = 0.0

    monkeypatch.setattr(FeatureNorm, "reset_parameters", with_a_zero)
    monkeypatch.chdir(tmp_path)
    place_store(tmp_path)
    tiny = [*TINY, "model.feature_norm=counted", "altub=none", "device=cpu", "tracking.uri=sqlite:///mlflow.db"]
    assert run_experiment(compose(*tiny, "train.batch_size=10")) is None  # a batch an epoch
    assert status(*folders(tmp_path))["state"] == RunState.crashed
    (log,) = tmp_path.glob("runs/**/train.log")
    assert "crashed: the loss became inf in epoch 1" in log.read_text()
