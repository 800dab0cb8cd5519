"""A flow together with its base distributions: the density whose negative log-likelihood is trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from altub_exp.base import Standardized


class Units(NamedTuple):
    """One scale of a batch: q and ln σ as in :class:`Standardized`, and log|det ∂z/∂x| [B]."""

    q: Tensor
    log_sigma: Tensor
    log_det: Tensor


class Density(nn.Module):
    """p_X(x; θ, ψ): the flow θ (with its feature norm) and one base distribution ψ per scale.

    Args:
        flow: features per scale → :class:`~altub_exp.flows.latent.Latent` per scale; has ``shapes``, (C, H, W) each.
        bases: one base distribution per scale.
    """

    def __init__(self, flow: nn.Module, bases: Sequence[nn.Module]) -> None:
        super().__init__()
        self.flow = flow
        self.bases = nn.ModuleList(bases)

    def theta(self) -> Iterator[nn.Parameter]:
        """The parameters of the flow that move."""
        return (p for p in self.flow.parameters() if p.requires_grad)

    def psi(self) -> Iterator[nn.Parameter]:
        """The parameters of the base distributions."""
        return self.bases.parameters()

    def forward(self, features: Sequence[Tensor], *, freeze_flow: bool = False) -> list[Units]:
        """Standardised latents per scale; ``freeze_flow`` keeps no graph for θ, for the ψ-only epochs."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not freeze_flow):
            latents = self.flow(features)
        units = []
        for base, latent in zip(self.bases, latents, strict=True):
            standardized: Standardized = base(latent.z, latent.x)
            units.append(Units(*standardized, latent.log_det))
        return units


def negative_log_likelihood(units: Sequence[Units]) -> Tensor:
    """Σ over scales of mean over the batch of Σ(½q² + ln σ) − log|det ∂z/∂x|, without the constant ½·D·ln 2π.

    Source: paper, Eq. 3 and 5; with ln σ = 0 it is FastFlow's loss as in anomalib 0.3.

    Returns:
        The loss in nats, a scalar.
    """
    per_scale = [torch.mean((0.5 * u.q**2 + u.log_sigma).sum(dim=(1, 2, 3)) - u.log_det) for u in units]
    return torch.stack(per_scale).sum()


def dimensions(units: Sequence[Units]) -> int:
    """Number of dimensions of one image's features, Σ C·H·W: the divisor that makes a loss nats per dimension."""
    return sum(u.q[0].numel() for u in units)
