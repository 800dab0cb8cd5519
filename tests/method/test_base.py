"""The base distributions: ψ = 0 is the original method, and the gradients of Eq. 7."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from altub_exp.flows.fastflow import FastFlow
from altub_exp.method.base import BASES, ConvolutionalNormal, LearnedNormal
from altub_exp.method.density import Density, Units, negative_log_likelihood
from altub_exp.method.scoring import LikelihoodMap

SHAPES = [(6, 8, 8), (8, 4, 4)]


def density_of(base):
    np.random.seed(7)
    torch.manual_seed(7)
    flow = FastFlow(SHAPES, steps=2, conv3x3_only=True, hidden_ratio=1.0, affine_clamping=2.0)
    return Density(flow, [BASES[base](shape) for shape in SHAPES])


def features(batch=5):
    generator = torch.Generator().manual_seed(8)
    return [3 * torch.randn(batch, *shape, generator=generator) for shape in SHAPES]


def anomaly_map(units, size):
    scoring = LikelihoodMap()
    return scoring.maps(scoring.positions(units), size)


def original_fastflow(latents, size):
    """Compute loss and map in the original method's order of operations, float32 (FastFlow in anomalib 0.3)."""
    loss = 0
    maps = []
    for z, log_det, _ in latents:
        loss = loss + torch.mean(0.5 * torch.sum(z**2, dim=(1, 2, 3)) - log_det)
        probability = torch.exp(-torch.mean(z**2, dim=1, keepdim=True) * 0.5)
        maps.append(F.interpolate(-probability, size=[size, size], mode="bilinear", align_corners=False))
    return loss, torch.mean(torch.stack(maps, dim=-1), dim=-1).squeeze(1)


@pytest.mark.parametrize("base", BASES)
def test_with_psi_zero_altub_equals_the_original_bit_for_bit(base):
    density, maps = density_of(base), features()
    loss, scores = original_fastflow(density.flow(maps), size=32)
    units = density(maps)
    assert torch.equal(negative_log_likelihood(units), loss)
    assert torch.equal(anomaly_map(units, 32), scores)
    assert len(scores.unique()) > 100  # equal because computed, not because constant


@pytest.mark.parametrize("base", ["learned", "convolutional"])
def test_psi_away_from_zero_changes_loss_and_map(base):
    density, maps = density_of(base), features()
    loss, scores = original_fastflow(density.flow(maps), size=32)
    with torch.no_grad():
        for parameter in density.bases.parameters():
            parameter.add_(0.1)
    units = density(maps)
    assert not torch.equal(negative_log_likelihood(units), loss)
    assert not torch.equal(anomaly_map(units, 32), scores)


def test_gradients_of_equation_7():
    """∇μ and ∇Σ of the paper, Σ diagonal; ln σ by the chain rule dΣ = 2σ² d ln σ."""
    torch.manual_seed(0)
    z = torch.randn(1, 3, 2, 2, dtype=torch.float64) * 2
    base = LearnedNormal((3, 2, 2)).double()
    with torch.no_grad():
        base.mu.normal_()
        base.log_sigma.normal_()
    q, log_sigma = base(z, z)
    negative_log_likelihood([Units(q, log_sigma, torch.zeros(1, dtype=torch.float64))]).backward()
    mu, variance = base.mu.detach().numpy(), np.exp(2 * base.log_sigma.detach().numpy())
    value = z[0].numpy()
    by_mu = (mu - value) / variance
    by_variance = 0.5 / variance * (1 - (value - mu) ** 2 / variance)
    np.testing.assert_allclose(base.mu.grad.numpy(), by_mu, rtol=1e-12)
    np.testing.assert_allclose(base.log_sigma.grad.numpy(), by_variance * 2 * variance, rtol=1e-10)


def test_loss_is_the_negative_log_density_of_scipys_normal():
    from scipy.stats import norm

    torch.manual_seed(1)
    z, log_det = torch.randn(4, 3, 2, 2, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    base = LearnedNormal((3, 2, 2)).double()
    with torch.no_grad():
        base.mu.normal_()
        base.log_sigma.normal_()
    loss = negative_log_likelihood([Units(*base(z, z), log_det)]).item()
    mu, sigma = base.mu.detach().numpy(), np.exp(base.log_sigma.detach().numpy())
    log_p = norm.logpdf(z.numpy(), mu, sigma).sum(axis=(1, 2, 3)) + log_det.numpy()
    constant = 0.5 * 12 * np.log(2 * np.pi)
    assert loss == pytest.approx(-log_p.mean() - constant, rel=1e-12)


def test_convolutional_base_reads_what_entered_the_flow():
    base = ConvolutionalNormal((4, 5, 5))
    x, z = torch.randn(2, 4, 5, 5), torch.randn(2, 4, 5, 5)
    assert torch.equal(base(z, x).q, z)
    torch.nn.init.normal_(base.convolution.weight)
    q, log_sigma = base(z, x)
    assert log_sigma.shape == z.shape
    assert not torch.equal(q, base(z, x + 1).q)
