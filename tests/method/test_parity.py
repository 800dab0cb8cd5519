"""Float32 against the transcription of the published equations in float64: at most 1e-5 apart."""

import numpy as np
import pytest
import torch

from altub_exp.flows.cflow import CFlow
from altub_exp.flows.csflow import CSFlow
from altub_exp.flows.fastflow import FastFlow
from altub_exp.method.base import BASES
from altub_exp.method.density import Density, log_likelihood
from altub_exp.method.scoring import CrossScaleEnergy, FibreProbability, LikelihoodMap
from tests.method import transcription

TOLERANCE = 1e-5


def moved(flow):
    """Move the parameters away from their start, so that every term counts."""
    with torch.no_grad():
        for parameter in flow.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return flow


def density_of(flow, base):
    density = Density(flow, [BASES[base](shape) for shape in flow.shapes])
    with torch.no_grad():
        for parameter in density.bases.parameters():
            parameter.normal_(std=0.3)
    return density


def unit_parameters(base, position=...):
    if not list(base.parameters()):
        return 0.0, 1.0
    mu, log_sigma = (p.detach().double().numpy() for p in (base.mu, base.log_sigma))
    return mu[position], np.exp(log_sigma)[position]


@pytest.mark.parametrize("base", ["fixed", "learned"])
@pytest.mark.parametrize("conv3x3_only", [True, False])
def test_fastflows_latents_log_det_and_map(conv3x3_only, base):
    torch.manual_seed(1)
    np.random.seed(1)
    shapes = [(6, 8, 8), (7, 4, 4)]
    flow = moved(FastFlow(shapes, steps=8, conv3x3_only=conv3x3_only, hidden_ratio=1.0, affine_clamping=2.0))
    density = density_of(flow, base)
    features = [2 * torch.randn(2, *shape) + 1 for shape in shapes]
    with torch.no_grad():
        latents, units = flow(features), density(features)
        ours = LikelihoodMap().maps(LikelihoodMap().positions(units), 16).numpy()
    for image in range(2):
        maps = []
        for scale, latent in enumerate(latents):
            affine = transcription.numpy_state(flow.norms[scale])
            x = transcription.layer_norm(features[scale][image].double().numpy(), affine["weight"], affine["bias"])
            z, log_det = transcription.fastflow(flow.flows[scale], x, clamp=2.0)
            np.testing.assert_allclose(latent.z[image].numpy(), z, rtol=0, atol=TOLERANCE)
            assert abs(latent.log_det[image].item() - log_det) / z.size < TOLERANCE
            mu, sigma = unit_parameters(density.bases[scale])
            energy = (0.5 * ((z - mu) / sigma) ** 2 + np.log(sigma)).mean(axis=0)
            maps.append(transcription.half_pixel_bilinear(-np.exp(-energy), 16))
        np.testing.assert_allclose(ours[image], np.mean(maps, axis=0), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("base", ["fixed", "learned"])
@pytest.mark.parametrize("permute_soft", [True, False])
def test_cflows_log_likelihood_and_map(permute_soft, base):
    torch.manual_seed(2)
    np.random.seed(2)
    shapes = [(8, 4, 3), (7, 2, 2)]
    options = {"steps": 8, "condition_channels": 16, "hidden_ratio": 2.0, "affine_clamping": 1.9}
    flow = moved(CFlow(shapes, permute_soft=permute_soft, **options))
    density = density_of(flow, base)
    features = [torch.randn(2, *shape) for shape in shapes]
    scoring = FibreProbability("test")
    with torch.no_grad():
        units = density(features)
        positions = scoring.positions(units)
        ours = scoring.maps(positions, 12, scoring.extremes(positions)).numpy()
    expected = 2.0
    for scale, (channels, height, width) in enumerate(shapes):
        per_dimension = np.empty((2, height, width))
        for image, h, w in np.ndindex(2, height, width):
            x = features[scale][image, :, h, w].double().numpy()
            z, log_det = transcription.fibre(flow.scales[scale], x, transcription.encoded_position(16, h, w), clamp=1.9)
            at = (slice(None), h, w)
            log_p = transcription.log_likelihood(z, log_det, *unit_parameters(density.bases[scale], at))
            per_dimension[image, h, w] = log_p / channels
            ours_log_p = log_likelihood(units[scale])[image, h, w].item()
            assert abs(ours_log_p / channels - per_dimension[image, h, w]) < TOLERANCE
        likelihood = np.exp(per_dimension - per_dimension.max())
        expected = expected - np.stack([transcription.corners_aligned_bilinear(one, 12) for one in likelihood])
    np.testing.assert_allclose(ours, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("base", ["fixed", "learned"])
def test_csflows_latents_log_det_and_scores(base):
    torch.manual_seed(3)
    shapes = [(6, 8, 8), (7, 4, 4), (5, 2, 2)]
    options = {"hidden_channels": 6, "kernel_size": 3, "last_kernel_size": 5, "affine_clamping": 3.0}
    flow = moved(CSFlow(shapes, steps=4, **options))
    with torch.no_grad():
        for block in flow.blocks:
            for subnet in (block.of_first, block.of_second):
                subnet.gamma.add_(0.2)
    density = density_of(flow, base)
    features = [torch.randn(2, *shape) for shape in shapes]
    scoring = CrossScaleEnergy()
    with torch.no_grad():
        latents, positions = flow(features), scoring.positions(density(features))
        maps = scoring.maps(positions, 16).numpy()
        images = scoring.image_scores(positions, scoring.maps(positions, 16)).numpy()
    for image in range(2):
        expected, log_dets = transcription.csflow(flow, [maps[image].double().numpy() for maps in features], clamp=3.0)
        energies = []
        for scale, (latent, z) in enumerate(zip(latents, expected, strict=True)):
            np.testing.assert_allclose(latent.z[image].numpy(), z, rtol=TOLERANCE, atol=TOLERANCE)
            assert abs(latent.log_det[image].item() - log_dets[scale]) / z.size < TOLERANCE
            mu, sigma = unit_parameters(density.bases[scale])
            energies.append(0.5 * ((z - mu) / sigma) ** 2 + np.log(sigma))
        assert np.abs(log_dets).min() > 0.01
        finest = transcription.half_pixel_bilinear(2 * energies[0].mean(axis=0), 16)
        np.testing.assert_allclose(maps[image], finest, rtol=TOLERANCE, atol=TOLERANCE)
        score = np.concatenate([energy.ravel() for energy in energies]).mean()
        np.testing.assert_allclose(images[image], score, rtol=TOLERANCE)
