"""NICE, a flow of additive couplings with one learned scale per channel, on feature maps.

Source: Dinh, Krueger and Bengio 2014, https://arxiv.org/abs/1410.8516
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from altub_example import NiceConfig
from altub_exp.detector.families import Family
from altub_exp.flows.flow import Latent, Shape


class AdditiveCoupling(nn.Module):
    """Adds a function of one half of the channels to the other half; the halves alternate. Its Jacobian is 1."""

    def __init__(self, channels: int, hidden: int, *, first: bool) -> None:
        super().__init__()
        self.sizes = (channels // 2, channels - channels // 2)
        self.first = first  # the first half changes
        changed, kept = self.sizes if first else self.sizes[::-1]
        self.subnet = nn.Sequential(
            nn.Conv2d(kept, hidden, 3, padding="same"), nn.ReLU(), nn.Conv2d(hidden, changed, 3, padding="same")
        )

    def forward(self, x: Tensor, sign: float = 1.0) -> Tensor:
        """Return the coupled x, of its shape [B, C, H, W]; ``sign=-1`` is the inverse."""
        first, second = torch.split(x, self.sizes, dim=1)
        if self.first:
            return torch.cat([first + sign * self.subnet(second), second], dim=1)
        return torch.cat([first, second + sign * self.subnet(first)], dim=1)


class Nice(nn.Module):
    """A sequence of additive couplings per scale, then exp(s) per channel.

    Args:
        shapes: (C, H, W) of the feature maps of each scale, C at least 2.
        steps: couplings per scale.
        hidden_channels: hidden channels of the couplings' subnets.

    Attributes:
        shapes: (C, H, W) of each latent, as the contract of a flow demands.
    """

    def __init__(self, shapes: Sequence[Shape], *, steps: int, hidden_channels: int) -> None:
        super().__init__()
        self.shapes = list(shapes)
        self.couplings = nn.ModuleList(
            nn.ModuleList(AdditiveCoupling(shape[0], hidden_channels, first=step % 2 == 0) for step in range(steps))
            for shape in shapes
        )
        self.log_scales = nn.ParameterList(torch.zeros(shape[0], 1, 1) for shape in shapes)

    def forward(self, features: Sequence[Tensor]) -> list[Latent]:
        """Return the latent of each scale: z of the maps' shape [B, C, H, W], log|det ∂z/∂x| [B], and the maps."""
        latents = []
        for couplings, log_scale, x in zip(self.couplings, self.log_scales, features, strict=True):
            z = x
            for coupling in couplings:
                z = coupling(z)
            log_det = (log_scale.sum() * x.shape[2] * x.shape[3]).expand(len(x))
            latents.append(Latent(z * torch.exp(log_scale), log_det, x))
        return latents

    def inverse(self, latents: Sequence[Tensor]) -> list[Tensor]:
        """Return the feature maps of the latents of each scale; training does not need it."""
        maps = []
        for couplings, log_scale, z in zip(self.couplings, self.log_scales, latents, strict=True):
            x = z * torch.exp(-log_scale)
            for coupling in reversed(couplings):
                x = coupling(x, -1.0)
            maps.append(x)
        return maps


def build(model: NiceConfig, shapes: Sequence[Shape]) -> Nice:
    """Make the flow of a configuration."""
    return Nice(shapes, steps=model.steps, hidden_channels=model.hidden_channels)


FAMILY = Family(build)
