"""What a flow returns for one scale."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

Shape = tuple[int, int, int]


class Latent(NamedTuple):
    """One scale of a batch behind the flow.

    Attributes:
        z: latent [B, C, H, W].
        log_det: log|det ∂z/∂x| per image, [B], or per position, [B, H, W], where the flow takes positions one by one.
        x: what entered the flow, [B, C, H, W]; a conditional base distribution reads it.
    """

    z: Tensor
    log_det: Tensor
    x: Tensor
