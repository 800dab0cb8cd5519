"""MSFlow: its size, its loss, scores and training against the published formulas, computed by FrEIA's blocks."""

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from FrEIA.framework import SequenceINN
from FrEIA.modules import AllInOneBlock, GLOWCouplingBlock
from torch import nn

from altub_exp.detector.assembly import build_density, build_learner
from altub_exp.flows.cflow import positional_encoding
from altub_exp.flows.msflow import MSFlow
from altub_exp.method.base import BASES
from altub_exp.method.density import Density, Units, negative_log_likelihood
from altub_exp.method.learning_rate import TrainingStep
from altub_exp.method.scoring import SumAndProduct

TOLERANCE = 1e-5
SHAPES = [(6, 8, 8), (8, 4, 4), (4, 2, 2)]
CLAMP = 1.9
OPTIONS = {"condition_channels": 8, "hidden_ratio": 1.0, "fusion_ratio": 0.25, "affine_clamping": CLAMP}


def small(shapes=SHAPES, **changes):
    torch.manual_seed(1)
    np.random.seed(1)
    return MSFlow(shapes, **({"steps": 3, "asymmetry": 1} | OPTIONS | changes))


def moved(flow):
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return flow


def random_maps(batch=3, seed=2, scale=2.0):
    generator = torch.Generator().manual_seed(seed)
    return [scale * torch.randn(batch, *shape, generator=generator) + 0.5 for shape in SHAPES]


class NormedSubnet(nn.Module):
    """Two convolutions with LayerNorm over the channels and a ReLU between them."""

    def __init__(self, layers):
        super().__init__()
        self.layers = copy.deepcopy(layers)

    def forward(self, x):
        inward, norm, _, outward = self.layers
        x = F.conv2d(x, inward.weight, inward.bias, padding=1)
        x = F.layer_norm(x.permute(0, 2, 3, 1), [x.shape[1]], norm.weight, norm.bias).permute(0, 3, 1, 2)
        return F.conv2d(F.relu(x), outward.weight, outward.bias, padding=1)


class FusionOfVectors(nn.Module):
    """The published subnet of the fusion on the joined, flattened halves of all scales: [B, N] to (s, t) [B, 2N]."""

    def __init__(self, fusion, shapes):
        super().__init__()
        self.joint, self.outward = NormedSubnet(fusion.joint), copy.deepcopy(fusion.outward)
        self.shapes = [(channels // 2, height, width) for channels, height, width in shapes]

    def forward(self, x):
        x = x.flatten(1)
        lengths = [channels * height * width for channels, height, width in self.shapes]
        maps = [part.view(-1, *shape) for part, shape in zip(x.split(lengths, dim=1), self.shapes, strict=True)]
        coarsest = self.shapes[-1][1:]
        joint = F.relu(self.joint(torch.cat([F.adaptive_avg_pool2d(m, coarsest) for m in maps], dim=1)))
        parts = torch.split(joint, [shape[0] for shape in self.shapes], dim=1)
        s, t = [], []
        for m, part, convolution in zip(maps, parts, self.outward, strict=True):
            out = m + F.interpolate(part, size=m.shape[2:], mode="bilinear", align_corners=True)
            out = F.conv2d(out, convolution.weight, convolution.bias, padding=1)
            s.append(out[:, : len(m[0])].flatten(1))
            t.append(out[:, len(m[0]) :].flatten(1))
        return torch.cat([*s, *t], dim=1)


class Published(nn.Module):
    """The published architecture of FrEIA's blocks, with the parameters and permutations of a flow."""

    def __init__(self, flow, condition_channels=8):
        super().__init__()
        self.shapes, self.condition_channels, self.parallel = flow.shapes, condition_channels, nn.ModuleList()
        for (channels, height, width), ours in zip(flow.shapes, flow.parallel, strict=True):
            sequence = SequenceINN(channels, height, width)
            for block in ours.module_list:
                sequence.append(
                    AllInOneBlock,
                    cond=0,
                    cond_shape=(condition_channels, height, width),
                    subnet_constructor=lambda *_, block=block: NormedSubnet(block.subnet),
                    affine_clamping=CLAMP,
                    global_affine_type="SOFTPLUS",
                )
                theirs = sequence.module_list[-1]
                theirs.global_scale.data.copy_(block.global_scale)
                theirs.global_offset.data.copy_(block.global_offset)
                matrix = torch.eye(channels)[block.order][:, :, None, None]
                theirs.w_perm.data, theirs.w_perm_inv.data = matrix, matrix.transpose(0, 1).contiguous()
            self.parallel.append(sequence)
        self.orders = [flow.fusion.get_buffer(f"order{scale}") for scale in range(len(flow.shapes))]
        subnets = iter([flow.fusion.of_first, flow.fusion.of_second])
        self.fusion = GLOWCouplingBlock(
            [(sum(np.prod(shape) for shape in flow.shapes),)],
            subnet_constructor=lambda *_: FusionOfVectors(next(subnets), flow.shapes),
            clamp=CLAMP,
            clamp_activation=lambda s: 0.636 * torch.atan(s / CLAMP),
        )

    def forward(self, maps):
        z, log_det = [], 0
        for m, sequence in zip(maps, self.parallel, strict=True):
            encoding = positional_encoding(self.condition_channels, *m.shape[2:]).to(m.dtype)
            of_scale, part = sequence(m, c=[encoding.repeat(len(m), 1, 1, 1)])
            z.append(of_scale)
            log_det = log_det + part
        halves = [m[:, order].chunk(2, dim=1) for m, order in zip(z, self.orders, strict=True)]
        flat = torch.cat([half.flatten(1) for side in zip(*halves, strict=True) for half in side], dim=1)
        (fused,), part = self.fusion([flat])
        lengths = [half.numel() // len(half) for side in zip(*halves, strict=True) for half in side]
        parts = fused.split(lengths, dim=1)
        scales = len(z)
        joined = [
            torch.cat([parts[scale + side * scales].view_as(halves[scale][side]) for side in (0, 1)], dim=1)
            for scale in range(scales)
        ]
        return joined, log_det + part


def published_loss(z, log_det):
    return torch.mean(sum(0.5 * torch.sum(scale**2, dim=(1, 2, 3)) for scale in z) - log_det)


def test_latents_and_log_determinant_are_those_of_the_published_architecture():
    flow = moved(small()).double()
    maps = [m.double() for m in random_maps()]
    latents = flow(maps)
    z, log_det = Published(flow).double()(maps)
    for latent, theirs, m in zip(latents, z, maps, strict=True):
        torch.testing.assert_close(latent.z, theirs, rtol=TOLERANCE, atol=TOLERANCE)
        assert torch.equal(latent.x, m)
        assert (theirs - m).abs().mean() > 0.1
    torch.testing.assert_close(sum(latent.log_det for latent in latents), log_det, rtol=TOLERANCE, atol=TOLERANCE)
    assert log_det.abs().mean() > 0.5
    parallel = sum(flow._scale(scale, m, rev=False)[1] for scale, m in enumerate(maps))
    assert (log_det - parallel).abs().min() > 1e-2  # the fusion has a part of it


@pytest.mark.slow
def test_latents_and_log_determinant_with_the_published_channels(compose):
    config = compose("experiment=msflow-wrn50", "dataset.category=bottle", "altub=none")
    torch.manual_seed(3)
    shapes = [(256, 8, 8), (512, 4, 4), (1024, 2, 2)]
    flow = build_density(config, shapes).flow.double()
    maps = [torch.rand(2, *shape).double() for shape in shapes]
    with torch.no_grad():
        latents = flow(maps)
        z, log_det = Published(flow, condition_channels=64).double()(maps)
    for latent, theirs in zip(latents, z, strict=True):
        torch.testing.assert_close(latent.z, theirs, rtol=TOLERANCE, atol=TOLERANCE)
    found = sum(latent.log_det for latent in latents)
    torch.testing.assert_close(found, log_det, rtol=TOLERANCE, atol=TOLERANCE)


def test_size_of_the_published_model(compose):
    """Layers 1 to 3 of Wide ResNet-50-2, with 2, 5 and 8 blocks and two subnets of the fusion, halved maps."""
    config = compose("experiment=msflow-wrn50", "dataset.category=bottle", "altub=none")
    shapes = [(256, 64, 64), (512, 32, 32), (1024, 16, 16)]
    with torch.device("meta"):
        flow = build_density(config, shapes).flow

    def convolution(channels_in, channels_out):
        return (9 * channels_in + 1) * channels_out

    def block(channels):
        inputs = channels // 2 + 64
        return convolution(inputs, inputs) + 2 * inputs + convolution(inputs, channels) + 2 * channels

    joined = (256 + 512 + 1024) // 2
    fusion = convolution(joined, joined // 4) + 2 * (joined // 4) + convolution(joined // 4, joined)
    fusion += sum(convolution(channels // 2, channels) for channels in (256, 512, 1024))
    expected = 2 * block(256) + 5 * block(512) + 8 * block(1024) + 2 * fusion
    assert sum(p.numel() for p in flow.parameters() if p.requires_grad) == expected
    assert [len(sequence.module_list) for sequence in flow.parallel] == [2, 5, 8]
    assert flow.shapes == shapes


def test_every_scale_hears_of_the_others_by_the_fusion_only():
    flow, maps = moved(small()), random_maps()
    before = flow(maps)
    for changed in range(3):
        other = [m + 1 if scale == changed else m for scale, m in enumerate(maps)]
        differs = [not torch.equal(a.z, b.z) for a, b in zip(before, flow(other), strict=True)]
        assert differs == [True, True, True]
        alone = [flow._scale(scale, m, rev=False)[0] for scale, m in enumerate(maps)]
        others = [flow._scale(scale, m, rev=False)[0] for scale, m in enumerate(other)]
        assert [not torch.equal(a, b) for a, b in zip(alone, others, strict=True)] == [n == changed for n in range(3)]


def test_the_position_is_a_condition():
    """On maps that are equal at all positions the latents of inner positions differ."""
    flow = moved(small(condition_channels=64))
    z, _ = flow._scale(0, torch.ones(1, *SHAPES[0]), rev=False)
    assert not torch.allclose(z[:, :, 3, 3], z[:, :, 4, 4], atol=1e-3)
    with torch.no_grad():
        flow.get_buffer("positions0").zero_()
    z, _ = flow._scale(0, torch.ones(1, *SHAPES[0]), rev=False)
    torch.testing.assert_close(z[:, :, 3, 3], z[:, :, 4, 4])


def bilinear(maps, size):
    """Resize maps [B, H, W] with the corners aligned, by NumPy."""
    for axis in (1, 2):
        place = np.linspace(0, maps.shape[axis] - 1, size)
        low = np.minimum(place.astype(int), maps.shape[axis] - 2)
        weight = (place - low)[:, None] if axis == 1 else place - low
        maps = np.take(maps, low, axis) * (1 - weight) + np.take(maps, low + 1, axis) * weight
    return maps


def published_scores(log_p, size, top_share):
    """Compute maps and image scores from the log-likelihoods [B, H, W] of each scale (post_process.py), by NumPy."""
    axes = {"axis": (1, 2), "keepdims": True}
    total = sum(bilinear(np.exp(scale - scale.max(**axes)), size) for scale in log_p)
    product = sum(bilinear(scale, size) for scale in log_p)
    values = 1 - np.exp(product - product.max(**axes))
    largest = np.sort(values.reshape(len(values), -1), axis=1)[:, -int(size * size * top_share) :]
    return total.max(**axes) - total, largest.mean(axis=1)


@pytest.mark.parametrize("base", BASES)
def test_with_psi_zero_loss_and_scores_are_the_published_ones(base):
    flow, maps = moved(small()).double(), [m.double() for m in random_maps()]
    density = Density(flow, [BASES[base](shape) for shape in flow.shapes]).double()
    scoring = SumAndProduct(0.03)
    with torch.no_grad():
        z, log_det = Published(flow).double()(maps)
        units = density(maps)
        positions = scoring.positions(units)
        pixels = scoring.maps(positions, 20)
    assert negative_log_likelihood(units).item() == pytest.approx(published_loss(z, log_det).item(), rel=1e-9)
    expected, images = published_scores([(-0.5 * scale**2).mean(dim=1).numpy() for scale in z], 20, 0.03)
    np.testing.assert_allclose(pixels, expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(scoring.image_scores(positions, pixels), images, rtol=1e-9)
    assert pixels.amin(dim=(1, 2)).tolist() == [0, 0, 0]


def test_a_learned_base_takes_the_place_of_half_the_square():
    generator = torch.Generator().manual_seed(3)
    q, log_sigma = ([torch.randn(*n, *shape, generator=generator) for shape in SHAPES] for n in ((2,), ()))
    units = [Units(a, b, torch.zeros(2)) for a, b in zip(q, log_sigma, strict=True)]
    scoring = SumAndProduct(0.1)
    positions = scoring.positions(units)
    log_p = [(-0.5 * a**2 - b).mean(dim=1).double().numpy() for a, b in zip(q, log_sigma, strict=True)]
    pixels = scoring.maps(positions, 16)
    expected, images = published_scores(log_p, 16, 0.1)
    np.testing.assert_allclose(pixels, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(scoring.image_scores(positions, pixels), images, rtol=1e-4)


def test_pixels_outside_of_an_image_do_not_count():
    """Of a strip of 10 pixels of 20 the score is the mean over the largest of 3 % of its 200 pixels."""
    generator = torch.Generator().manual_seed(4)
    energies = [torch.rand(1, 5, 5, generator=generator) * 3]
    energies[0][0, 0, 0] = -9.0  # the most likely position is outside
    scoring = SumAndProduct(0.03)
    pixels = scoring.maps(energies, 20)
    pixels[:, :10] = -torch.inf
    energy = bilinear(energies[0].numpy(), 20)[0, 10:]
    values = np.sort((1 - np.exp(energy.min() - energy)).flatten())
    assert scoring.image_scores(energies, pixels).item() == pytest.approx(values[-6:].mean(), rel=1e-4)
    whole = scoring.image_scores(energies, scoring.maps(energies, 20))
    assert whole.item() != pytest.approx(values[-6:].mean(), rel=1e-2)


def learner_of(compose, altub, *changes):
    options = ["model.condition_channels=8", "model.steps=3", "model.asymmetry=1", "train.lr=1e-3", *changes]
    config = compose("experiment=msflow-wrn50", "dataset.category=bottle", f"altub={altub}", *options)
    torch.manual_seed(4)
    return build_learner(config, build_density(config, SHAPES))


@pytest.mark.parametrize("scale", [0.05, 2.0])  # of the features
def test_training_of_the_fixed_base_equals_the_published_loop(compose, scale):
    """Its loss, its bound on the gradients and its warm-up; the published scheduler takes a step per sub-epoch."""
    learner = learner_of(compose, "none")
    reference = Published(copy.deepcopy(learner.density.flow))
    trained = [p for p in reference.parameters() if p.requires_grad]
    adam = torch.optim.Adam(trained, lr=1e-3)
    warmup = torch.optim.lr_scheduler.LinearLR(adam, start_factor=0.1, end_factor=1.0, total_iters=12)
    before = [p.clone() for p in trained]
    norms = []
    for number in range(6):
        maps = random_maps(seed=number, scale=scale)
        found = learner.learn(maps, TrainingStep(1 + number // 2, number % 2, 2), torch.Generator())
        z, log_det = reference(maps)
        loss = published_loss(z, log_det)
        adam.zero_grad()
        loss.backward()
        norms.append(nn.utils.clip_grad_norm_(trained, 2).item())
        adam.step()
        if number % 2:
            warmup.step()
        dimensions = sum(scale[0].numel() for scale in z)
        assert found.loss.item() * dimensions == pytest.approx(loss.item(), rel=1e-5, abs=1e-3)
    assert max(norms) > 2
    again = Published(learner.density.flow)
    for ours, theirs in zip(again.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-5)
    assert all(not torch.equal(ours, start) for ours, start in zip(trained, before, strict=True))


def test_psi_only_epochs_minimise_nats_after_the_warm_up(compose):
    learner = learner_of(compose, "alternating", "altub.clip_value=2.0")
    maps = random_maps(scale=5.0)
    start = copy.deepcopy(learner.density.bases)
    for epoch in (5, 10):
        learner.learn(maps, TrainingStep(epoch, 0, 1), torch.Generator())
    assert all(torch.equal(a, b) for a, b in zip(learner.density.bases.parameters(), start.parameters(), strict=True))
    expected = copy.deepcopy(learner.density)
    expected.bases.requires_grad_(True)  # idle epochs do not differentiate by ψ
    negative_log_likelihood(expected(maps)).backward()
    learner.learn(maps, TrainingStep(15, 0, 1), torch.Generator())
    for ours, theirs in zip(learner.density.bases.parameters(), expected.bases.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs - 0.05 * theirs.grad.clamp(-2, 2), rtol=0, atol=1e-6)
    flows = zip(learner.density.flow.parameters(), expected.flow.parameters(), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in flows)


def test_permutations_follow_the_seed():
    flow, again = small([(32, 2, 2)], steps=2), small([(32, 2, 2)], steps=2)
    orders = [block.order for block in flow.parallel[0].module_list] + [flow.fusion.order0]
    others = [block.order for block in again.parallel[0].module_list] + [again.fusion.order0]
    assert all(torch.equal(a, b) for a, b in zip(orders, others, strict=True))
    assert not any(torch.equal(a, b) for a, b in pairwise(orders))
