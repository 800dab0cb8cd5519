"""The base distributions: ψ = 0 is the original method, and the gradients of Eq. 7."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from altub_exp.flows.fastflow import FastFlow
from altub_exp.method.base import (
    BASES,
    LEAST_VARIANCE,
    ChannelwiseNormal,
    ConvolutionalNormal,
    LearnedNormal,
    Moments,
    SplitPrior,
)
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


@pytest.mark.parametrize("base", [base for base in BASES if base != "fixed"])
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


def test_the_split_prior_is_the_density_of_torchs_distributions():
    """log p of both halves, the second given the first; its integral over z is 1, since q(z) is triangular."""
    torch.manual_seed(2)
    base = SplitPrior((5, 3, 4)).double()
    for parameter in base.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    z = torch.randn(2, 5, 3, 4, dtype=torch.float64)
    loss = negative_log_likelihood([Units(*base(z, z), torch.zeros(2, dtype=torch.float64))]).item()
    first, second = z[:, :3], z[:, 3:]
    padded = F.pad(first, [1] * 4)
    outputs = torch.empty(2, 4, 3, 4, dtype=torch.float64)
    for h, w in np.ndindex(3, 4):
        window = padded[:, :, h : h + 3, w : w + 3]
        outputs[:, :, h, w] = torch.einsum("bcij,ocij->bo", window, base.convolution.weight) + base.convolution.bias
    given = torch.distributions.Normal(outputs[:, :2], outputs[:, 2:].exp())
    log_p = torch.distributions.Normal(0.0, 1.0).log_prob(first).sum(dim=(1, 2, 3))
    log_p = log_p + given.log_prob(second).sum(dim=(1, 2, 3))
    assert loss == pytest.approx(-log_p.mean().item() - 30 * np.log(2 * np.pi), rel=1e-12)
    units = base(z[:1], z[:1])
    jacobian = torch.autograd.functional.jacobian(lambda z: base(z, z).q, z[:1]).reshape(60, 60)
    assert torch.linalg.slogdet(jacobian)[1].item() == pytest.approx(-units.log_sigma.sum().item(), abs=1e-10)


def test_the_gradient_of_a_channel_is_the_mean_of_its_units():
    torch.manual_seed(3)
    z = torch.randn(4, 3, 5, 2, dtype=torch.float64)
    gradients = []
    for cls in (ChannelwiseNormal, LearnedNormal):
        base = cls((3, 5, 2)).double()
        with torch.no_grad():
            base.mu.fill_(0.3)
            base.log_sigma.fill_(-0.2)
        negative_log_likelihood([Units(*base(z, z), z.new_zeros(4))]).backward()
        gradients.append([base.mu.grad, base.log_sigma.grad])
    for channel, units in zip(*gradients, strict=True):
        torch.testing.assert_close(channel, units.mean(dim=(1, 2), keepdim=True))


def moments_of(z, batches):
    moments = Moments()
    for part in z.split(batches):
        moments.add(part)
    return moments


def test_moments_of_a_stream_are_those_of_all_latents_at_once():
    generator = torch.Generator().manual_seed(4)
    z = 1e4 + torch.randn(23, 3, 2, 2, generator=generator)
    moments = moments_of(z, 5)
    np.testing.assert_allclose(moments.mean.numpy(), z.double().mean(dim=0).numpy(), rtol=1e-14)
    np.testing.assert_allclose(moments.variance.numpy(), z.double().var(dim=0, correction=0).numpy(), rtol=1e-9)


@pytest.mark.parametrize("base", ["learned", "channelwise", "shifted", "scaled"])
def test_a_fitted_base_minimises_the_loss(base):
    """The gradient of Eq. 5 with respect to ψ vanishes, and any other ψ is worse."""
    generator = torch.Generator().manual_seed(5)
    z = 3 * torch.randn(11, 4, 3, 2, generator=generator, dtype=torch.float64) + torch.arange(4.0)[:, None, None]
    fitted = BASES[base]((4, 3, 2)).double()
    moments = moments_of(z, 4)
    fitted.fit(moments.mean, moments.variance)

    def loss():
        return negative_log_likelihood([Units(*fitted(z, z), z.new_zeros(11))])

    loss().backward()
    assert all(parameter.grad.abs().max() < 1e-9 for parameter in fitted.parameters())
    least = loss().item()
    with torch.no_grad():
        for parameter in fitted.parameters():
            parameter.add_(0.05)
    assert loss().item() > least


def test_a_unit_without_variance_is_fitted_with_the_least_variance():
    base = LearnedNormal((2, 1, 1))
    z = torch.cat([torch.full((6, 1, 1, 1), 7.0), torch.arange(6.0)[:, None, None, None]], dim=1)
    moments = moments_of(z, 4)
    base.fit(moments.mean, moments.variance)
    assert base.mu.flatten().tolist() == [7.0, 2.5]
    sigma = base.log_sigma.exp().flatten().tolist()
    assert sigma == pytest.approx([LEAST_VARIANCE**0.5, np.std(range(6))], rel=1e-6)
    assert torch.isfinite(base(z, z).q).all()
