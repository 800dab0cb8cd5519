"""From standardised latents to anomaly map and image score (paper: Eq. 1 and 6)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from altub_exp.density import Units

FLOAT32_EXPONENT = 80.0  # exp(88.7) is the largest float32


def anomaly_map(units: Sequence[Units], size: int) -> Tensor:
    r"""Score every pixel of a batch; higher is more anomalous.

    Per scale :math:`-\exp(-\frac{1}{C}\sum_c(\frac{1}{2}q_c^2 + \ln\sigma_c))`, resized bilinearly
    (``align_corners=False``), averaged over the scales; without log-determinant and without smoothing
    (paper: Eq. 6; Eq. 1 where ln σ = 0; map as in anomalib 0.3). The exponential may exceed 1. Where σ ≪ 1 would make
    it leave float32's range, it is taken in float64.

    Args:
        units: one entry per scale, [B, C, H, W].
        size: side of the map in pixels.

    Returns:
        [B, size, size], float32, or float64 where needed.
    """
    energies = [(0.5 * u.q**2 + u.log_sigma).mean(dim=1, keepdim=True) for u in units]
    if any(energy.min() < -FLOAT32_EXPONENT for energy in energies):
        energies = [energy.double() for energy in energies]
    maps = [
        F.interpolate(-torch.exp(-energy), size=(size, size), mode="bilinear", align_corners=False)
        for energy in energies
    ]
    return torch.stack(maps, dim=-1).mean(dim=-1).squeeze(1)


def image_score(maps: Tensor) -> Tensor:
    """Largest pixel of each map [B, H, W] → [B], as anomalib 0.3; the paper reports none for FastFlow."""
    return maps.amax(dim=(1, 2))
