"""A flow together with its base distributions: the density whose negative log-likelihood is trained."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from altub_exp.flows.latent import Latent, Shape
from altub_exp.machine.cuda_graphs import Replays
from altub_exp.method.base import Standardized

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
        flow: features per scale → :class:`~altub_exp.flows.latent.Latent` per scale; has ``shapes``, (C, H, W) of each
            latent. A flow that is trained on single positions has ``fibres`` and ``scales``, see
            :class:`~altub_exp.flows.cflow.CFlow`.
        bases: one base distribution per scale.
        autocast: what the flow's convolutions and matrix products are computed in; None: as their parameters are. Base
            distribution, log-determinant and what follows from them keep the parameters' precision.

    Attributes:
        replays: its passes on a GPU as CUDA graphs; None: they are executed operation by operation.
    """

    def __init__(self, flow: nn.Module, bases: Sequence[nn.Module], *, autocast: torch.dtype | None = None) -> None:
        super().__init__()
        self._autocast = autocast
        self.replays: Replays | None = None
        self.flow = flow
        self.bases = nn.ModuleList(bases)

    def replay(self) -> None:
        """Have ``replays`` on a GPU, if flow and bases say that they do the same operations whatever the features."""
        parts = (self.flow, *self.bases)
        if next(self.parameters()).is_cuda and all(getattr(part, "replayable", False) for part in parts):
            self.replays = Replays()

    def parts(self, *, per_scale: bool = False) -> list[tuple[list[nn.Parameter], list[nn.Parameter]]]:
        """The parameters that move, (θ, ψ), of the whole or of each scale of a flow with ``scales``."""
        if not per_scale:
            return [(list(self.theta()), list(self.psi()))]
        scales: Iterable[nn.Module] = self.flow.scales  # type: ignore[assignment]
        return [(list(_moving(s)), list(b.parameters())) for s, b in zip(scales, self.bases, strict=True)]

    def theta(self) -> Iterator[nn.Parameter]:
        """The parameters of the flow that move."""
        return _moving(self.flow)

    def psi(self) -> Iterator[nn.Parameter]:
        """The parameters of the base distributions."""
        return self.bases.parameters()

    def forward(self, features: Sequence[Tensor], *, freeze_flow: bool = False) -> list[Units]:
        """Standardised latents per scale; ``freeze_flow`` keeps no graph for θ, for the ψ-only epochs."""
        with self._of_the_flow(freeze_flow, features[0].device):
            latents: list[Latent] = self.flow(features)
        units = []
        for base, latent in zip(self.bases, latents, strict=True):
            standardized: Standardized = base(latent.z, latent.x)
            units.append(Units(*standardized, latent.log_det))
        return units

    @contextlib.contextmanager
    def _of_the_flow(self, frozen: bool, device: torch.device) -> Iterator[None]:
        lower = contextlib.nullcontext() if self._autocast is None else torch.autocast(device.type, self._autocast)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen), lower:
            yield

    def fibres(self, scale: int, maps: Tensor, rows: Tensor, *, freeze_flow: bool = False) -> Units:
        """The same for single positions of one scale.

        Args:
            scale: its number.
            maps: features [B, C, H, W].
            rows: which of the B·H·W positions, [N].
            freeze_flow: as in :meth:`forward`.

        Returns:
            Units of shapes [N, C], broadcastable to [N, C], and [N]; what :meth:`forward` gives at these positions.
        """
        area = maps.shape[2] * maps.shape[3]
        images, positions = rows // area, rows % area
        with self._of_the_flow(freeze_flow, maps.device):
            latent: Latent = self.flow.fibres(scale, maps.flatten(2)[images, :, positions], positions)  # type: ignore[operator]
        base = self.bases[scale]
        shape: Shape = self.flow.shapes[scale]  # type: ignore[index,assignment]
        q, log_sigma = standardize_fibres(base, shape, latent.z, maps, images, positions)
        return Units(q, log_sigma, latent.log_det)


def _moving(module: nn.Module) -> Iterator[nn.Parameter]:
    return (p for p in module.parameters() if p.requires_grad)


def standardize_fibres(
    base: nn.Module, shape: Shape, z: Tensor, maps: Tensor, images: Tensor, positions: Tensor
) -> Standardized:
    """What a base distribution makes of single positions, by its own ``forward``.

    Its parameters of the shape (C, H, W) are looked up at the positions, all others are shared. A base whose ``reach``
    is r gets the (2r + 1)² positions around each as x, zeros beyond the edge.

    Args:
        base: takes z and x of shape [B, C, H, W].
        shape: (C, H, W).
        z: latents [N, C].
        maps: what entered the flow, [B, C, H, W].
        images: image of each fibre, [N].
        positions: h·W + w of each fibre, [N].

    Returns:
        q [N, C] and ln σ, broadcastable to it.
    """
    reach = int(getattr(base, "reach", 0))
    width = shape[2]
    per_unit = {
        name: parameter.flatten(1)[:, positions].T[:, :, None, None]
        for name, parameter in base.named_parameters()
        if parameter.shape == shape
    }
    if reach:
        padded = nn.functional.pad(maps, [reach] * 4)
        around = torch.arange(2 * reach + 1, device=z.device)
        rows = (positions // width)[:, None, None] + around[:, None]  # of the padded maps, [N, 2r + 1, 1]
        columns = (positions % width)[:, None, None] + around
        x = padded.movedim(1, -1)[images[:, None, None], rows, columns].movedim(-1, 1)
    else:
        x = maps.flatten(2)[images, :, positions][:, :, None, None]
    standardized = functional_call(base, per_unit, (z[:, :, None, None], x))
    q, log_sigma = (part[:, :, reach, reach] if part.dim() == 4 and reach else part for part in standardized)
    return Standardized(q.flatten(1), log_sigma.flatten(1) if log_sigma.dim() == 4 else log_sigma)


def negative_log_likelihood(units: Sequence[Units]) -> Tensor:
    """Σ over scales of mean over the batch of Σ(½q² + ln σ) − log|det ∂z/∂x|, without the constant ½·D·ln 2π.

    Source: paper, Eq. 3 and 5; with ln σ = 0 it is FastFlow's loss as in anomalib 0.3.

    Returns:
        The loss in nats, a scalar.
    """
    return torch.stack([torch.mean(_negative_log_densities(*scale)) for scale in units]).sum()


def _negative_log_densities(q: Tensor, log_sigma: Tensor, log_det: Tensor) -> Tensor:
    """Of each image of one scale, [B], without the constant."""
    unit = (1, 2, 3)
    return 0.5 * (q**2).sum(unit) + log_sigma.expand_as(q).sum(unit) - log_det.reshape(len(q), -1).sum(dim=1)


def log_likelihood(units: Units) -> Tensor:
    """log p per position: −C·½ ln 2π − ½ Σ q² − Σ ln σ + log|det ∂z/∂x|, sums over the C channels.

    Source: CFLOW-AD, Eq. 6, with q for z and ln σ as the method's section 3 says.

    Args:
        units: with one log-determinant per position.

    Returns:
        In nats, [B, H, W] or [N].
    """
    q, log_sigma, log_det = units
    return -q.shape[1] * HALF_LOG_2_PI - 0.5 * (q**2).sum(dim=1) - log_sigma.expand_as(q).sum(dim=1) + log_det
