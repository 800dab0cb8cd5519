"""DifferNet: its size, its loss, scores and training against the published formulas, computed by FrEIA's blocks."""

import copy
from itertools import pairwise

import pytest
import torch
from FrEIA.framework import SequenceINN
from FrEIA.modules import GLOWCouplingBlock, PermuteRandom
from torch import nn

from altub_exp.detector.assembly import build_density, build_learner
from altub_exp.flows.differnet import DifferNet
from altub_exp.method.base import BASES
from altub_exp.method.density import Density, negative_log_likelihood
from altub_exp.method.learning_rate import TrainingStep
from altub_exp.method.scoring import ImageEnergy

TOLERANCE = 1e-5
SHAPES = [(10, 1, 1), (8, 1, 1), (6, 1, 1)]
FEATURES = 24
CLAMP = 3.0


def small(**changes):
    torch.manual_seed(1)
    return DifferNet(SHAPES, **({"steps": 8, "hidden_features": 16, "affine_clamping": CLAMP} | changes))


def vectors(count=12, seed=2, scale=2.0):
    generator = torch.Generator().manual_seed(seed)
    return [scale * torch.randn(count, *shape, generator=generator) + 0.5 for shape in SHAPES]


def joined(maps):
    return torch.cat([m.flatten(1) for m in maps], dim=1)


def published(flow):
    """Build the published architecture of FrEIA's modules, with the parameters and permutations of a flow."""
    (features, _, _), hidden = flow.shapes[0], flow.blocks[0].of_first.layers[0].out_features

    def subnet(size_in, size_out):
        widths = [size_in, hidden, hidden, hidden, size_out]
        layers = [part for pair in pairwise(widths) for part in (nn.Linear(*pair), nn.ReLU())]
        return nn.Sequential(*layers[:-1])

    reference = SequenceINN(features)
    for number, block in enumerate(flow.blocks):
        reference.append(PermuteRandom, seed=number)
        reference.append(
            GLOWCouplingBlock,
            subnet_constructor=subnet,
            clamp=CLAMP,
            clamp_activation=lambda s: 0.636 * torch.atan(s / CLAMP),
        )
        permutation, coupling = reference.module_list[-2:]
        permutation.perm.data.copy_(block.order0)
        coupling.subnet1.load_state_dict(block.of_first.layers.state_dict())
        coupling.subnet2.load_state_dict(block.of_second.layers.state_dict())
    return reference


def published_loss(z, log_det):
    return torch.mean(0.5 * torch.sum(z**2, dim=1) - log_det) / z.shape[1]


def moved(flow):
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return flow


def test_latents_and_log_determinant_are_those_of_the_published_architecture():
    flow, maps = moved(small()), vectors()
    (latent,) = flow(maps)
    z, log_det = published(flow).double()(joined(maps).double())
    assert latent.z.shape == (12, FEATURES, 1, 1)
    torch.testing.assert_close(latent.z.flatten(1).double(), z, rtol=TOLERANCE, atol=TOLERANCE)
    torch.testing.assert_close(latent.log_det.double(), log_det, rtol=TOLERANCE, atol=TOLERANCE)
    assert log_det.abs().mean() > 0.5
    assert (z - joined(maps)).abs().mean() > 0.1


@pytest.mark.slow
def test_latents_and_log_determinant_at_the_published_size(compose):
    config = compose("experiment=differnet-alexnet", "dataset.category=bottle", "altub=none")
    torch.manual_seed(3)
    shapes = [(256, 1, 1)] * 3
    flow = build_density(config, shapes).flow
    maps = [torch.rand(4, *shape) for shape in shapes]
    with torch.no_grad():
        (latent,) = flow(maps)
        z, log_det = published(flow).double()(joined(maps).double())
    torch.testing.assert_close(latent.z.flatten(1).double(), z, rtol=TOLERANCE, atol=TOLERANCE)
    torch.testing.assert_close(latent.log_det.double(), log_det, rtol=TOLERANCE, atol=TOLERANCE)


def test_size_of_the_published_model(compose):
    """768 numbers, 8 blocks of two subnets with 384 inputs, three hidden layers of 2048 and 768 outputs."""
    config = compose("experiment=differnet-alexnet", "dataset.category=bottle", "altub=none")
    with torch.device("meta"):
        flow = build_density(config, [(256, 1, 1)] * 3).flow
    subnet = (384 + 1) * 2048 + 2 * (2048 + 1) * 2048 + (2048 + 1) * 768
    assert sum(p.numel() for p in flow.parameters()) == 8 * 2 * subnet == 172_077_056
    assert flow.shapes == [(768, 1, 1)]


@pytest.mark.parametrize("base", BASES)
def test_with_psi_zero_loss_and_score_are_the_published_ones(base):
    """The loss (utils.py) and the score (train.py): the mean of z² over four rotations of each of three images."""
    flow, maps = moved(small()), vectors()
    density, scoring = Density(flow, [BASES[base](shape) for shape in flow.shapes]), ImageEnergy(rotations=4)
    with torch.no_grad():
        z, log_det = published(flow)(joined(maps))
        units = density(maps)
        positions = scoring.positions(units)
        pixels = scoring.maps(positions, 5)
    assert negative_log_likelihood(units).item() / FEATURES == pytest.approx(
        published_loss(z, log_det).item(), rel=1e-5
    )
    expected = torch.mean(z.view(3, 4, FEATURES) ** 2, dim=(1, 2))
    torch.testing.assert_close(scoring.image_scores(positions, pixels), expected, rtol=TOLERANCE, atol=0)
    assert torch.equal(pixels, positions[0].repeat(1, 5, 5))


def learner_of(compose, altub, *changes):
    options = ["model.hidden_features=16", "model.steps=3", "train.lr=1e-3", "train.weight_decay=1e-3", *changes]
    config = compose("experiment=differnet-alexnet", "dataset.category=bottle", f"altub={altub}", *options)
    torch.manual_seed(4)
    return build_learner(config, build_density(config, SHAPES))


def test_training_of_the_fixed_base_equals_the_published_loop(compose):
    learner = learner_of(compose, "none")
    reference = published(copy.deepcopy(learner.density.flow))
    trained = [p for p in reference.parameters() if p.requires_grad]
    adam = torch.optim.Adam(trained, lr=1e-3, betas=(0.8, 0.8), eps=1e-4, weight_decay=1e-3)
    before = [p.clone() for p in trained]
    for number in range(8):
        maps = vectors(seed=number)
        found = learner.learn(maps, TrainingStep(1 + number, 0, 1), torch.Generator())
        loss = published_loss(*reference(joined(maps)))
        adam.zero_grad()
        loss.backward()
        adam.step()
        assert found.loss.item() == pytest.approx(loss.item(), rel=1e-5)
    again = published(learner.density.flow)
    for ours, theirs in zip(again.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    assert all(not torch.equal(ours, start) for ours, start in zip(trained, before, strict=True))


def test_psi_only_epochs_minimise_nats(compose):
    learner = learner_of(compose, "alternating", "altub.clip_value=2.0")
    maps = vectors(scale=5.0)
    expected = copy.deepcopy(learner.density)
    negative_log_likelihood(expected(maps)).backward()
    learner.learn(maps, TrainingStep(5, 0, 1), torch.Generator())
    for ours, theirs in zip(learner.density.bases.parameters(), expected.bases.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs - 0.05 * theirs.grad.clamp(-2, 2), rtol=0, atol=1e-6)
        assert (theirs.grad != 0).any()
    for ours, theirs in zip(learner.density.flow.parameters(), expected.flow.parameters(), strict=True):
        assert torch.equal(ours, theirs)
