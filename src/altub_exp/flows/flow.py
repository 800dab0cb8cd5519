"""The contract of a flow: its inputs, its outputs for each scale, and its methods for training on fibres."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn

Shape = tuple[int, int, int]
"""(C, H, W) of the maps of one scale."""


class Latent(NamedTuple):
    """One scale of a batch after the flow.

    Attributes:
        z: latent [B, C, H, W], or of N single positions [N, C].
        log_det: log|det ∂z/∂x| per image, [B]; or, if the flow treats each position by itself, [B, H, W] or [N].
        x: the input of the flow, in z's shape; a conditional base distribution reads it.
    """

    z: Tensor
    log_det: Tensor
    x: Tensor


class Flow(Protocol):
    """A normalizing flow over the feature maps of all scales; every implementation is an ``nn.Module``.

    A flow may set the class attribute ``capturable = True`` if its operations do not depend on the values of its inputs
    and it reads none of them on the host. Its passes on a GPU are then recorded as CUDA graphs.

    Attributes:
        shapes: (C, H, W) of the latent of each scale.
    """

    shapes: list[Shape]

    def __call__(self, features: Sequence[Tensor], /) -> list[Latent]:
        """Map the features, one [B, C, H, W] per scale, to a latent per scale.

        If the flow couples the scales, their log-determinants add up to that of the whole flow.
        """

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """Return the parameters, as ``nn.Module`` does."""


class FibreFlow(Flow, Protocol):
    """A flow that treats each position by itself, so that it can be trained on single positions (fibres).

    Attributes:
        scales: the modules of each scale, which share no parameter.
    """

    @property
    def scales(self) -> nn.ModuleList:
        """Return the modules of each scale."""

    def fibres(self, scale: int, x: Tensor, positions: Tensor) -> Latent:
        """Map fibres x [N, C] at the positions h·W + w [N] of a scale to z [N, C] and log|det ∂z/∂x| [N]."""


class InvertibleFlow(Flow, Protocol):
    """A flow that can be run backwards."""

    def inverse(self, z: Sequence[Tensor]) -> list[Tensor]:
        """Map one latent [B, C, H, W] per scale back to the input of the flow."""


class AutocastFlow(nn.Module):
    """A flow whose convolutions and matrix products are computed in a lower precision.

    Its log-determinants, and everything that is computed from its latents, keep the precision of its parameters.

    Args:
        flow: the flow.
        dtype: the lower precision, such as ``torch.bfloat16``.
    """

    def __init__(self, flow: Flow, dtype: torch.dtype) -> None:
        super().__init__()
        self.flow, self._dtype = flow, dtype
        self.shapes = flow.shapes
        self.capturable = getattr(flow, "capturable", False)

    @property
    def scales(self) -> nn.ModuleList:
        """Return the modules of each scale."""
        return cast("FibreFlow", self.flow).scales

    def forward(self, features: Sequence[Tensor]) -> list[Latent]:
        """Map the features to latents, as the flow does."""
        with torch.autocast(features[0].device.type, self._dtype):
            return self.flow(features)

    def fibres(self, scale: int, x: Tensor, positions: Tensor) -> Latent:
        """Map fibres to latents, as the flow does."""
        with torch.autocast(x.device.type, self._dtype):
            return cast("FibreFlow", self.flow).fibres(scale, x, positions)
