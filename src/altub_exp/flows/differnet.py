"""DifferNet (Rudolph et al. 2021, arXiv 2008.12577): a flow over the pooled features of a whole image."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from altub_exp.flows.csflow import CrossScaleBlock
from altub_exp.flows.fastflow import NORMS, with_norm
from altub_exp.flows.flow import Latent, Shape


class FullyConnected(nn.Module):
    """The subnet: three hidden layers of rectified linear units, with PyTorch's default initialisation.

    Args:
        inputs: (C, 1, 1) of the only scale's input.
        outputs: channels of its output.
        hidden_features: units of each hidden layer.
    """

    def __init__(self, inputs: Sequence[Shape], outputs: Sequence[int], *, hidden_features: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in (inputs[0][0], hidden_features, hidden_features):
            layers += [nn.Linear(width, hidden_features), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(hidden_features, outputs[0]))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Map [B, C, 1, 1] to [B, outputs, 1, 1]."""
        out: Tensor = self.layers(maps[0].flatten(1))
        return [out[:, :, None, None].to(maps[0].dtype)]  # autocast may have lowered it


class DifferNet(nn.Module):
    """Coupling blocks over one vector, that of all numbers of all maps of an image.

    The published code pools AlexNet's last maps at three sizes of the image over their positions, which gives 768
    numbers. The blocks are CS-Flow's with other subnets; as there, y is not clamped to ±10⁶, and the permutations are
    drawn from PyTorch's global generator.

    Args:
        shapes: (C, H, W) of each scale; (C, 1, 1) where the maps are pooled. There are at least two numbers in all.
        steps: number of coupling blocks.
        hidden_features: units of each of the three hidden layers of a subnet.
        affine_clamping: α of the coupling.
        feature_norm: as in :class:`~altub_exp.flows.fastflow.FastFlow`, for the vector; only ``counted`` is in the
            log-determinant.

    >>> flow = DifferNet([(4, 1, 1), (3, 1, 1)], steps=2, hidden_features=8, affine_clamping=3.0)
    >>> latent, = flow([torch.randn(5, 4, 1, 1), torch.randn(5, 3, 1, 1)])
    >>> latent.z.shape, latent.log_det.shape
    (torch.Size([5, 7, 1, 1]), torch.Size([5]))
    """

    capturable = True

    def __init__(
        self,
        shapes: Sequence[Shape],
        *,
        steps: int,
        hidden_features: int,
        affine_clamping: float,
        feature_norm: str = "none",
    ) -> None:
        super().__init__()
        vector = (sum(channels * height * width for channels, height, width in shapes), 1, 1)
        self.shapes: list[Shape] = [vector]
        self.norm = NORMS[feature_norm](vector)
        subnet = partial(FullyConnected, hidden_features=hidden_features)
        self.blocks = nn.ModuleList(
            CrossScaleBlock([vector], subnet=subnet, affine_clamping=affine_clamping) for _ in range(steps)
        )

    def forward(self, features: Sequence[Tensor]) -> list[Latent]:
        """Map the features, one [B, C, H, W] per scale, to a single latent: z [B, D, 1, 1] and log|det ∂z/∂x| [B]."""
        x = self.norm(torch.cat([maps.flatten(1) for maps in features], dim=1)[:, :, None, None])
        z, log_det = [x], with_norm(x.new_zeros(x.shape[0]), self.norm)
        for block in self.blocks:
            z, (part,) = block(z)
            log_det = log_det + part
        return [Latent(z[0], log_det, x)]

    def inverse(self, z: Sequence[Tensor]) -> list[Tensor]:
        """Map z [B, D, 1, 1], in a list, back to the normalised vector."""
        maps = list(z)
        for block in reversed(self.blocks):
            maps = block.inverse(maps)  # type: ignore[operator]
        return maps
