"""Base distributions of a flow: N(0, I), N(μ, diag σ²) with learned μ and ln σ, and two with convolved (μ, ln σ).

Each is a module that standardises z: it returns q = (z − μ)/σ and ln σ, from which loss (Eq. 5) and score (Eq. 6)
follow; see :mod:`altub_exp.method.density` and :mod:`altub_exp.method.scoring`. Equations, sections and tables are
those of the paper (https://arxiv.org/abs/2210.14913).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from altub_exp.flows.flow import Shape

LEAST_VARIANCE = 1e-5
"""The smallest fitted σ²: the ε of PyTorch's LayerNorm. A flow aims at latents of variance 1, so that it only acts on
units that are as good as constant over the training images, such as those of features that a ReLU has cut off."""


class Standardized(NamedTuple):
    """q = (z − μ)/σ of shape [B, C, H, W], and ln σ of a shape that broadcasts to it."""

    q: Tensor
    log_sigma: Tensor


class Reach(NamedTuple):
    """The positions to each side that q at one position depends on; a base declares it as its attribute ``reach``.

    Attributes:
        x: in the input of the flow.
        z: in the latent; a flow that is trained on single positions does not have the latents around them.
    """

    x: int = 0
    z: int = 0


def reach_of(base: object) -> Reach:
    """Return the reach of a base distribution or of its class; one that declares none reads the position itself."""
    return Reach(*getattr(base, "reach", ()))


class FixedNormal(nn.Module):
    """N(0, I), the base distribution of the original methods: q is z itself.

    >>> FixedNormal((1, 1, 1))(torch.ones(2, 1, 1, 1), torch.ones(2, 1, 1, 1)).log_sigma
    tensor(0.)
    """

    capturable = True

    def __init__(self, shape: Shape) -> None:
        super().__init__()

    def forward(self, z: Tensor, x: Tensor) -> Standardized:
        """Standardise z [B, C, H, W]; x, the input of the flow, is not read."""
        return Standardized(z, z.new_zeros(()))


class LearnedNormal(nn.Module):
    """N(μ, diag σ²) with ψ = (μ, ln σ), one pair per unit [C, H, W], initialised to zero (paper: sections 4.2, 5.6)."""

    capturable = True
    learned: tuple[str, ...] = ("mu", "log_sigma")
    per_channel = False

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self._positions = shape[1] * shape[2]
        shape = (shape[0], 1, 1) if self.per_channel else shape
        self.mu = nn.Parameter(torch.zeros(shape)) if "mu" in self.learned else None
        self.log_sigma = nn.Parameter(torch.zeros(shape)) if "log_sigma" in self.learned else None

    def forward(self, z: Tensor, x: Tensor) -> Standardized:
        """Standardise z [B, C, H, W]; x, the input of the flow, is not read."""
        mu, log_sigma = (None if psi is None else self._in_use(psi) for psi in (self.mu, self.log_sigma))
        q = z if mu is None else z - mu
        return (
            Standardized(q, z.new_zeros(()))
            if log_sigma is None
            else Standardized(q * torch.exp(-log_sigma), log_sigma)
        )

    def _in_use(self, psi: Tensor) -> Tensor:
        return psi

    @torch.no_grad()
    def fit(self, mean: Tensor, variance: Tensor) -> None:
        """Set ψ to the most likely values for latents of these moments, in place.

        These are the moments themselves, so that ψ minimises the loss (Eq. 5) for the given θ; σ² is at least
        ``LEAST_VARIANCE``.

        Args:
            mean: mean of each unit over the images, [C, H, W].
            variance: mean squared deviation from it, [C, H, W].
        """
        if self.per_channel:
            square = (variance + mean**2).mean(dim=(1, 2), keepdim=True)
            mean = mean.mean(dim=(1, 2), keepdim=True)
            variance = square - mean**2
        if self.mu is not None:
            self.mu.copy_(mean)
        else:
            variance = variance + mean**2  # around μ = 0
        if self.log_sigma is not None:
            self.log_sigma.copy_(0.5 * variance.clamp_min(LEAST_VARIANCE).log())

    def unit_values(self) -> dict[str, Tensor]:
        """Return the learned ones of μ and ln σ, as ``psi_mu`` and ``psi_log_sigma``."""
        return {f"psi_{name}": getattr(self, name) for name in self.learned}


class ChannelwiseNormal(LearnedNormal):
    """N(μ, diag σ²) with one pair (μ, ln σ) per channel, [C, 1, 1]; not enough by section 2.2 of the paper.

    Its gradient is the mean over the positions, not the sum, so that a step at η₂ is the mean of the steps that the
    units of the channel would take. A step along the sum would be H·W times as long, and diverge.
    """

    per_channel = True

    def _in_use(self, psi: Tensor) -> Tensor:
        return cast("Tensor", _MeanGradient.apply(psi, self._positions))


class _MeanGradient(torch.autograd.Function):
    """The identity; its gradient is divided by a number."""

    @staticmethod
    def forward(ctx: Any, psi: Tensor, count: int) -> Tensor:
        ctx.count = count
        return psi.view_as(psi)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] / ctx.count, None


class ShiftedNormal(LearnedNormal):
    """N(μ, I): only μ is learned, one per unit [C, H, W]."""

    learned = ("mu",)


class ScaledNormal(LearnedNormal):
    """N(0, diag σ²): only ln σ is learned, one per unit [C, H, W]."""

    learned = ("log_sigma",)


class ConvolutionalNormal(nn.Module):
    """(μ, ln σ) from one zero-initialised 3×3 convolution of the flow's input (paper: Table 6, "CNN").

    This is no longer a density, since μ and σ depend on the x whose likelihood is computed: training may diverge.
    """

    capturable = True
    reach = Reach(x=1)

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.convolution = zero_convolution(shape[0], 2 * shape[0])

    def forward(self, z: Tensor, x: Tensor) -> Standardized:
        """Standardise z [B, C, H, W] by the (μ, ln σ) of x [B, C, H, W]."""
        mu, log_sigma = self.convolution(x).chunk(2, dim=1)
        return Standardized((z - mu) * torch.exp(-log_sigma), log_sigma)


class SplitPrior(nn.Module):
    """Glow's split prior: half of the channels is normal given the other half, which is N(0, I).

    With z split into z_a and z_b by channels, p(z) = N(z_a; 0, I) · N(z_b; μ(z_a), diag σ(z_a)²), where (μ, ln σ) is
    one zero-initialised 3×3 convolution of z_a. This is a density, since z_a does not depend on z_b. Of an odd number
    of channels z_a has one more.

    Source: Kingma and Dhariwal 2018, https://arxiv.org/abs/1807.03039, section 3, without the learned factor per
    channel that its code puts on the convolution.
    """

    capturable = True
    reach = Reach(z=1)

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.sizes = [shape[0] - shape[0] // 2, shape[0] // 2]
        self.convolution = zero_convolution(self.sizes[0], 2 * self.sizes[1])

    def forward(self, z: Tensor, x: Tensor) -> Standardized:
        """Standardise z [B, C, H, W]; x, the input of the flow, is not read."""
        given, rest = torch.split(z, self.sizes, dim=1)
        mu, log_sigma = self.convolution(given).chunk(2, dim=1)
        q = torch.cat([given, (rest - mu) * torch.exp(-log_sigma)], dim=1)
        return Standardized(q, torch.cat([torch.zeros_like(given), log_sigma], dim=1))


def zero_convolution(channels: int, outputs: int) -> nn.Conv2d:
    """Make a 3×3 convolution whose output is zero at first."""
    convolution = nn.Conv2d(channels, outputs, 3, padding="same")
    nn.init.zeros_(convolution.weight)
    assert convolution.bias is not None
    nn.init.zeros_(convolution.bias)
    return convolution


BASES: dict[str, Callable[[Shape], nn.Module]] = {
    "fixed": FixedNormal,
    "learned": LearnedNormal,
    "convolutional": ConvolutionalNormal,
    "channelwise": ChannelwiseNormal,
    "shifted": ShiftedNormal,
    "scaled": ScaledNormal,
    "split_prior": SplitPrior,
}


class Moments:
    """Mean and variance of every unit over a stream of latents, in float64, without keeping the latents.

    Batches are merged by the formula of Chan, Golub and LeVeque 1983 (https://doi.org/10.1080/00031305.1983.10483115),
    which does not cancel where the mean is large.

    >>> moments = Moments()
    >>> for batch in (torch.tensor([[1.0], [2.0]]), torch.tensor([[6.0]])):
    ...     moments.add(batch)
    >>> moments.mean, moments.variance
    (tensor([3.], dtype=torch.float64), tensor([4.6667], dtype=torch.float64))
    """

    def __init__(self) -> None:
        self._count = 0
        self.mean = self._squares = torch.zeros((), dtype=torch.float64)

    def add(self, z: Tensor) -> None:
        """Take in a batch [B, …]."""
        batch = z.double()
        total = self._count + len(batch)
        mean = batch.mean(dim=0)
        change = mean - self.mean.to(z.device)
        squares = ((batch - mean) ** 2).sum(dim=0)
        self._squares = self._squares.to(z.device) + squares + change**2 * (self._count * len(batch) / total)
        self.mean = self.mean.to(z.device) + change * (len(batch) / total)
        self._count = total

    @property
    def variance(self) -> Tensor:
        """The mean squared deviation from the mean."""
        return self._squares / self._count
