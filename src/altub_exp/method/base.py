"""Base distributions of a flow: N(0, I), N(μ, diag σ²) with learned (μ, ln σ), and one whose (μ, ln σ) are convolved.

Each is a module that standardises z: it returns q = (z − μ)/σ and ln σ, from which loss (Eq. 5) and score (Eq. 6)
follow; see :mod:`altub_exp.method.density` and :mod:`altub_exp.method.scoring`. Equations, sections and tables are
those of the paper (https://arxiv.org/abs/2210.14913).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from altub_exp.flows.flow import Shape


class Standardized(NamedTuple):
    """q = (z − μ)/σ of shape [B, C, H, W], and ln σ of a shape that broadcasts to it."""

    q: Tensor
    log_sigma: Tensor


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

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.mu = nn.Parameter(torch.zeros(shape))
        self.log_sigma = nn.Parameter(torch.zeros(shape))

    def forward(self, z: Tensor, x: Tensor) -> Standardized:
        """Standardise z [B, C, H, W]; x, the input of the flow, is not read."""
        return Standardized((z - self.mu) * torch.exp(-self.log_sigma), self.log_sigma)

    def unit_values(self) -> dict[str, Tensor]:
        """Return μ and ln σ, as ``psi_mu`` and ``psi_log_sigma``."""
        return {f"psi_{name}": parameter for name, parameter in self.named_parameters()}


class ConvolutionalNormal(nn.Module):
    """(μ, ln σ) from one zero-initialised 3×3 convolution of the flow's input (paper: Table 6, "CNN").

    This is no longer a density, since μ and σ depend on the x whose likelihood is computed: training may diverge.
    """

    capturable = True
    reach = 1  # positions of x to each side that influence one position of q

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        channels = shape[0]
        self.convolution = nn.Conv2d(channels, 2 * channels, 3, padding="same")
        nn.init.zeros_(self.convolution.weight)
        assert self.convolution.bias is not None
        nn.init.zeros_(self.convolution.bias)

    def forward(self, z: Tensor, x: Tensor) -> Standardized:
        """Standardise z [B, C, H, W] by the (μ, ln σ) of x [B, C, H, W]."""
        mu, log_sigma = self.convolution(x).chunk(2, dim=1)
        return Standardized((z - mu) * torch.exp(-log_sigma), log_sigma)


BASES: dict[str, Callable[[Shape], nn.Module]] = {
    "fixed": FixedNormal,
    "learned": LearnedNormal,
    "convolutional": ConvolutionalNormal,
}
