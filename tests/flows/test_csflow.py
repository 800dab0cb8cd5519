"""CS-Flow: its start, its size, its loss, scores and training against the published formulas."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from altub_exp.detector.assembly import build_density, build_learner
from altub_exp.flows.csflow import CSFlow
from altub_exp.method.base import BASES
from altub_exp.method.density import Density, negative_log_likelihood
from altub_exp.method.learning_rate import TrainingStep
from altub_exp.method.scoring import CrossScaleEnergy

SHAPES = [(6, 8, 8), (7, 4, 4), (5, 2, 2)]
DIMENSIONS = sum(c * h * w for c, h, w in SHAPES)


def small(shapes=SHAPES, **changes):
    torch.manual_seed(1)
    options = {"steps": 2, "hidden_channels": 6, "kernel_size": 3, "last_kernel_size": 5, "affine_clamping": 3.0}
    return CSFlow(shapes, **(options | changes))


def moved(flow):
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return flow


def random_maps(batch=3, seed=2, scale=2.0):
    generator = torch.Generator().manual_seed(seed)
    return [scale * torch.randn(batch, *shape, generator=generator) + 0.5 for shape in SHAPES]


def test_it_starts_as_its_permutations_alone():
    flow, maps = small(steps=3), random_maps()
    for scale, (latent, x) in enumerate(zip(flow(maps), maps, strict=True)):
        for block in flow.blocks:
            order = block.get_buffer(f"order{scale}")
            assert order.sort().values.tolist() == list(range(SHAPES[scale][0]))
            x = x[:, order]
        assert torch.equal(latent.z, x)
        assert torch.equal(latent.log_det, torch.zeros(3))
        assert torch.equal(latent.x, maps[scale])
    assert any(order.tolist() != list(range(len(order))) for name, order in flow.named_buffers() if "order" in name)


def test_permutations_differ_between_blocks_and_follow_pytorchs_seed():
    flow, again = small([(32, 2, 2)]), small([(32, 2, 2)])
    first, second = (block.order0 for block in flow.blocks)
    assert not torch.equal(first, second)
    assert torch.equal(second, again.blocks[1].order0)
    torch.manual_seed(2)
    assert not torch.equal(first, torch.randperm(32))


def test_size_of_the_published_model(compose):
    """The parameters of the published config.py on 304 channels at three scales, counted on the published code."""
    config = compose("model=csflow", "dataset.category=bottle", "altub=none")
    with torch.device("meta"):
        flow = build_density(config, [(304, 24, 24), (304, 12, 12), (304, 6, 6)]).flow
    assert sum(p.numel() for p in flow.parameters()) == 275_227_288
    kernels = [{conv.kernel_size for conv in block.modules() if hasattr(conv, "kernel_size")} for block in flow.blocks]
    assert kernels == [{(3, 3)}, {(3, 3)}, {(3, 3)}, {(5, 5)}]


def test_a_single_scale_exchanges_nothing():
    flow = small(SHAPES[:1])
    assert not any("from_" in name for name, _ in flow.named_parameters())
    assert any("from_finer" in name for name, _ in small(SHAPES[:2]).named_parameters())


def test_every_scale_hears_of_its_neighbours():
    """In a block the coarsest scale influences the finest by the second half of its channels, not by the first."""
    flow, maps = moved(small(steps=1)), random_maps()
    before = [latent.z for latent in flow(maps)]
    for changed in range(3):
        other = [m + 1 if scale == changed else m for scale, m in enumerate(maps)]
        differs = [not torch.equal(a, latent.z) for a, latent in zip(before, flow(other), strict=True)]
        assert differs == [True, True, True]
    order = flow.blocks[0].order2
    other = maps[2].clone()
    other[:, order[:2]] += 1  # x₁ of the coarsest: only the second subnet and the neighbouring scale see it
    differs = [not torch.equal(a, latent.z) for a, latent in zip(before, flow([*maps[:2], other]), strict=True)]
    assert differs == [False, True, True]


def published(latents):
    """The loss (utils.py), the image score (train.py) and the map of the finest scale (evaluate.py)."""
    flat = torch.cat([latent.z.flatten(1) for latent in latents], dim=1)
    loss = torch.mean(0.5 * torch.sum(flat**2, dim=1) - sum(latent.log_det for latent in latents)) / flat.shape[1]
    finest = torch.mean(latents[0].z ** 2, dim=1)[:, None]
    maps = F.interpolate(finest, size=(20, 20), mode="bilinear", align_corners=False)[:, 0]
    return loss, torch.mean(flat**2 / 2, dim=1), maps


@pytest.mark.parametrize("base", BASES)
def test_with_psi_zero_loss_and_scores_are_the_published_ones(base):
    flow, maps = moved(small()), random_maps()
    density = Density(flow, [BASES[base](shape) for shape in SHAPES])
    scoring = CrossScaleEnergy()
    with torch.no_grad():
        loss, images, pixels = published(flow(maps))
        units = density(maps)
        positions = scoring.positions(units)
    assert negative_log_likelihood(units).item() / DIMENSIONS == pytest.approx(loss.item(), rel=1e-6)
    assert torch.equal(scoring.maps(positions, 20), pixels)
    assert torch.equal(scoring.image_scores(positions, pixels), images)


def learner_of(compose, altub, *changes):
    options = ["model.hidden_channels=6", "model.steps=2", "train.lr=1e-3", "train.weight_decay=1e-3", *changes]
    config = compose("model=csflow", "dataset.category=bottle", f"altub={altub}", *options)
    torch.manual_seed(4)
    return build_learner(config, build_density(config, SHAPES))


@pytest.mark.parametrize("scale", [0.5, 20.0])  # of the features: with small and with clipped gradients
def test_training_of_the_fixed_base_equals_the_published_loop(compose, scale):
    learner = learner_of(compose, "none")
    reference = copy.deepcopy(learner.density.flow)
    before = copy.deepcopy(reference.state_dict())
    adam = torch.optim.Adam(reference.parameters(), lr=1e-3, eps=1e-4, weight_decay=1e-3)
    norms = []
    for number in range(8):
        maps = random_maps(seed=number, scale=scale)
        lesson = learner.learn(maps, TrainingStep(1 + number, 0, 1), torch.Generator())
        loss = published(reference(maps))[0]
        adam.zero_grad()
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(reference.parameters(), 1.0).item())
        adam.step()
        assert lesson.loss.item() == pytest.approx(loss.item(), rel=1e-5)
    assert (max(norms) > 1) == (scale > 1)
    for (name, ours), theirs in zip(learner.density.flow.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5, msg=name)
    start = {name: value for name, value in before.items() if "gamma" in name}
    assert all(not torch.equal(learner.density.flow.state_dict()[name], value) for name, value in start.items())


@pytest.mark.parametrize("psi_loss", ["nats", "objective"])
def test_psi_only_epochs_take_their_step_on_the_loss_in_nats_or_on_that_of_all_others(compose, psi_loss):
    changes = [] if psi_loss == "nats" else ["altub.psi_loss=objective"]
    learner = learner_of(compose, "alternating", "altub.clip_value=2.0", *changes)
    maps = random_maps(scale=5.0)
    joint = learner.learn(maps, TrainingStep(4, 0, 1), torch.Generator())
    density = learner.density
    expected = copy.deepcopy(density)
    nats = negative_log_likelihood(expected(maps))
    (nats if psi_loss == "nats" else nats / DIMENSIONS).backward()
    clipped = 0
    lesson = learner.learn(maps, TrainingStep(5, 0, 1), torch.Generator())
    for ours, theirs in zip(density.bases.parameters(), expected.bases.parameters(), strict=True):
        clipped += int((theirs.grad.abs() > 2).sum())
        torch.testing.assert_close(ours, theirs - 0.05 * theirs.grad.clamp(-2, 2), rtol=0, atol=1e-6)
    assert (0 < clipped < 2 * DIMENSIONS) == (psi_loss == "nats")
    assert any((parameter.grad != 0).any() for parameter in expected.bases.parameters())
    assert lesson.loss.item() == pytest.approx(nats.item() / DIMENSIONS, rel=1e-6)
    assert lesson.loss.item() == pytest.approx(joint.loss.item(), rel=0.1)  # in one unit
    assert np.isfinite(joint.loss.item())
