"""A flow together with its base distributions: the density whose negative log-likelihood is trained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from altub_exp.flows.flow import FibreFlow, Flow, Latent, Shape
from altub_exp.method.base import Standardized, reach_of

HALF_LOG_2_PI = 0.5 * math.log(2 * math.pi)


class Units(NamedTuple):
    """One scale of a batch, or N single positions of it.

    Attributes:
        q: standardised latent [B, C, H, W], or [N, C].
        log_sigma: ln σ, of a shape that broadcasts to q's.
        log_det: log|det ∂z/∂x| per image [B], per position of the maps [B, H, W], or [N].
    """

    q: Tensor
    log_sigma: Tensor
    log_det: Tensor


class Density(nn.Module):
    """p_X(x; θ, ψ): the flow θ (with its feature norm) and one base distribution ψ per scale.

    Args:
        flow: maps the features of all scales to latents; a :class:`~altub_exp.flows.flow.FibreFlow` where it is
            trained on single positions.
        bases: one base distribution per scale.
    """

    def __init__(self, flow: Flow, bases: Sequence[nn.Module]) -> None:
        super().__init__()
        self.flow: Flow = flow
        self.bases = nn.ModuleList(bases)

    def forward(self, features: Sequence[Tensor], *, freeze_flow: bool = False) -> list[Units]:
        """Standardise the latents of the features, one map [B, C, H, W] per scale.

        ``freeze_flow`` keeps no graph for θ, for the ψ-only epochs.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and not freeze_flow):
            latents = self.flow(features)
        return self.standardized(latents)

    def standardized(self, latents: Sequence[Latent]) -> list[Units]:
        """Standardise latents of the flow, one of each scale."""
        return [
            Units(*cast("Standardized", base(latent.z, latent.x)), latent.log_det)
            for base, latent in zip(self.bases, latents, strict=True)
        ]

    def fibres(self, scale: int, maps: Tensor, rows: Tensor, *, freeze_flow: bool = False) -> Units:
        """Standardise the latents of single positions of one scale, equal to :meth:`forward` at these positions.

        Args:
            scale: number of the scale.
            maps: features [B, C, H, W].
            rows: N of the B·H·W positions, [N].
            freeze_flow: as in :meth:`forward`.

        Returns:
            Units of shapes [N, C], broadcastable to [N, C], and [N].
        """
        area = maps.shape[2] * maps.shape[3]
        images, positions = rows // area, rows % area
        flow = cast("FibreFlow", self.flow)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not freeze_flow):
            latent: Latent = flow.fibres(scale, maps.flatten(2)[images, :, positions], positions)
        base, shape = self.bases[scale], flow.shapes[scale]
        return Units(*standardize_fibres(base, shape, latent.z, maps, images, positions), latent.log_det)


def standardize_fibres(
    base: nn.Module, shape: Shape, z: Tensor, maps: Tensor, images: Tensor, positions: Tensor
) -> Standardized:
    """Standardise single positions by a base distribution's own ``forward``.

    Its parameters of the shape (C, H, W) are looked up at the positions, all others are shared. A base whose reach in x
    is r gets the (2r + 1)² positions around each as x, zeros beyond the edge; none may reach other positions of z.

    Args:
        base: takes z and x of shape [B, C, H, W].
        shape: (C, H, W).
        z: latents [N, C].
        maps: the input of the flow, [B, C, H, W].
        images: image of each fibre, [N].
        positions: h·W + w of each fibre, [N].

    Returns:
        q [N, C] and ln σ, broadcastable to it.
    """
    reach = reach_of(base).x
    width = shape[2]
    per_unit = {
        name: parameter.flatten(1)[:, positions].T[:, :, None, None]
        for name, parameter in base.named_parameters()
        if parameter.shape == shape
    }
    if reach:
        padded = nn.functional.pad(maps, [reach] * 4)
        window = torch.arange(2 * reach + 1, device=z.device)
        rows = (positions // width)[:, None, None] + window[:, None]  # of the padded maps, [N, 2r + 1, 1]
        columns = (positions % width)[:, None, None] + window
        x = padded.movedim(1, -1)[images[:, None, None], rows, columns].movedim(-1, 1)
    else:
        x = maps.flatten(2)[images, :, positions][:, :, None, None]
    standardized = functional_call(base, per_unit, (z[:, :, None, None], x))
    q, log_sigma = (part[:, :, reach, reach] if part.dim() == 4 and reach else part for part in standardized)
    if log_sigma.dim() == 3:  # [C, 1, 1], of parameters per channel, becomes [C]
        log_sigma = log_sigma.flatten()
    return Standardized(q.flatten(1), log_sigma.flatten(1) if log_sigma.dim() == 4 else log_sigma)


def negative_log_likelihood(units: Sequence[Units]) -> Tensor:
    """Return Σ over scales of mean over the batch of Σ(½q² + ln σ) − log|det ∂z/∂x|, without the constant ½·D·ln 2π.

    Source: Eq. 3 and 5 of https://arxiv.org/abs/2210.14913; with ln σ = 0 it is FastFlow's loss as in anomalib 0.3.

    Returns:
        The loss in nats, a scalar.
    """
    return torch.stack([torch.mean(_negative_log_densities(*scale)) for scale in units]).sum()


def _negative_log_densities(q: Tensor, log_sigma: Tensor, log_det: Tensor) -> Tensor:
    """Return −log p of each image of one scale, [B], without the constant."""
    unit = (1, 2, 3)
    return 0.5 * (q**2).sum(unit) + log_sigma.expand_as(q).sum(unit) - log_det.reshape(len(q), -1).sum(dim=1)


def log_likelihood(units: Units) -> Tensor:
    """Return log p per position: −C·½ ln 2π − ½ Σ q² − Σ ln σ + log|det ∂z/∂x|, sums over the C channels.

    Source: CFLOW-AD (https://arxiv.org/abs/2107.12571), Eq. 6, with q for z and −Σ ln σ for the base distribution.

    Args:
        units: with one log-determinant per position.

    Returns:
        In nats, [B, H, W] or [N].
    """
    q, log_sigma, log_det = units
    return -q.shape[1] * HALF_LOG_2_PI - 0.5 * (q**2).sum(dim=1) - log_sigma.expand_as(q).sum(dim=1) + log_det
