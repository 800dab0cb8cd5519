"""MSFlow (Zhou et al. 2024, arXiv 2308.15300): a conditional flow per scale, then one coupling over all scales."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from FrEIA.framework import SequenceINN
from torch import Tensor, nn

from altub_exp.flows.cflow import positional_encoding
from altub_exp.flows.coupling import CouplingBlock
from altub_exp.flows.csflow import CrossScaleBlock
from altub_exp.flows.fastflow import NORMS, Subnet, with_norm
from altub_exp.flows.flow import Latent, Shape


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of each position, with an affine per channel."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise maps [B, C, H, W]."""
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


def normed_subnet(channels_in: int, channels_out: int, *, hidden_ratio: float) -> nn.Module:
    """Make Conv → ChannelNorm → ReLU → Conv of 3×3 kernels, with PyTorch's default initialisation."""
    hidden = max(1, int(channels_in * hidden_ratio))
    return Subnet(
        nn.Conv2d(channels_in, hidden, 3, padding="same"),
        ChannelNorm(hidden),
        nn.ReLU(inplace=True),
        nn.Conv2d(hidden, channels_out, 3, padding="same"),
    )


class Fusion(nn.Module):
    r"""The subnet over all scales: their maps, joined at the size of the coarsest, add to each scale's own.

    With :math:`\downarrow` average pooling to the coarsest scale's size, :math:`\uparrow` bilinear upsampling
    (``align_corners=True``), and :math:`[\cdot]_l` the channels of scale l,

    .. math:: r_l = \mathrm{conv}(x_l + \uparrow [\mathrm{ReLU}(\mathrm{subnet}(\downarrow x_1, \ldots))]_l),

    where the last convolution has weights of its own for every scale, and the subnet is :func:`normed_subnet`.

    Args:
        inputs: (C, H, W) of each scale's input.
        outputs: channels of each scale's output.
        hidden_ratio: hidden channels of the subnet per channel of all inputs.
    """

    def __init__(self, inputs: Sequence[Shape], outputs: Sequence[int], *, hidden_ratio: float) -> None:
        super().__init__()
        self._channels = [channels for channels, _, _ in inputs]
        self._coarsest = inputs[-1][1:]
        joined = sum(self._channels)
        self.joint = normed_subnet(joined, joined, hidden_ratio=hidden_ratio)
        self.outward = nn.ModuleList(
            nn.Conv2d(*pair, 3, padding="same") for pair in zip(self._channels, outputs, strict=True)
        )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Map one [B, C, H, W] per scale to one [B, outputs, H, W] per scale."""
        pooled = torch.cat([F.adaptive_avg_pool2d(x, self._coarsest) for x in maps], dim=1)
        joint = F.relu(self.joint(pooled)).split_with_sizes(self._channels, dim=1)
        resized = [
            F.interpolate(part, size=x.shape[2:], mode="bilinear", align_corners=True)
            for part, x in zip(joint, maps, strict=True)
        ]
        out = [convolve(x + r) for convolve, x, r in zip(self.outward, maps, resized, strict=True)]
        return [r.to(maps[0].dtype) for r in out]  # autocast may have lowered it


class MSFlow(nn.Module):
    """A sequence of coupling blocks per scale, conditioned on the position, and a coupling block over all scales.

    The published code halves the maps before (``Passes.halved``). This flow reads any maps, the coarsest last.

    Args:
        shapes: (C, H, W) of each scale, at least two channels.
        steps: coupling blocks of the coarsest scale.
        asymmetry: each finer scale has that many blocks fewer than the next coarser one, but at least one.
        condition_channels: length of the encoded position.
        hidden_ratio: hidden channels of a scale's subnet per input channel, those of the condition included.
        fusion_ratio: the same of the subnet over all scales.
        affine_clamping: α of the couplings.
        feature_norm: as in :class:`~altub_exp.flows.fastflow.FastFlow`; only ``counted`` is in the log-determinant.

    >>> options = {"condition_channels": 8, "hidden_ratio": 1.0, "fusion_ratio": 0.25, "affine_clamping": 1.9}
    >>> flow = MSFlow([(4, 8, 8), (6, 4, 4)], steps=2, asymmetry=1, **options)
    >>> fine, coarse = flow([torch.randn(3, 4, 8, 8), torch.randn(3, 6, 4, 4)])
    >>> fine.z.shape, coarse.z.shape, coarse.log_det.shape
    (torch.Size([3, 4, 8, 8]), torch.Size([3, 6, 4, 4]), torch.Size([3]))
    """

    capturable = True

    def __init__(
        self,
        shapes: Sequence[Shape],
        *,
        steps: int,
        asymmetry: int,
        condition_channels: int,
        hidden_ratio: float,
        fusion_ratio: float,
        affine_clamping: float,
        feature_norm: str = "none",
    ) -> None:
        super().__init__()
        self.shapes: list[Shape] = list(shapes)
        self.norms = nn.ModuleList(NORMS[feature_norm](shape) for shape in shapes)
        self.parallel = nn.ModuleList()
        for number, (channels, height, width) in enumerate(self.shapes):
            flow = SequenceINN(channels, height, width)
            for _ in range(max(1, steps - asymmetry * (len(self.shapes) - 1 - number))):
                flow.append(
                    CouplingBlock,
                    cond=0,
                    cond_shape=(condition_channels, height, width),
                    subnet_constructor=partial(normed_subnet, hidden_ratio=hidden_ratio),
                    affine_clamping=affine_clamping,
                )
            self.parallel.append(flow)
            encoding = positional_encoding(condition_channels, height, width)
            self.register_buffer(f"positions{number}", encoding, persistent=False)
        self.fusion = CrossScaleBlock(
            self.shapes, subnet=partial(Fusion, hidden_ratio=fusion_ratio), affine_clamping=affine_clamping
        )

    def forward(self, features: Sequence[Tensor]) -> list[Latent]:
        """Map the features, one [B, C, H, W] per scale, to z of the same shape and a part of the log-determinant [B].

        The parts add up to log|det| of the Jacobian of all scales together; a single part has no meaning.
        """
        entering = [norm(maps) for norm, maps in zip(self.norms, features, strict=True)]
        z, log_dets = zip(*(self._scale(scale, x, rev=False) for scale, x in enumerate(entering)), strict=True)
        fused, parts = self.fusion(z)
        return [
            Latent(y, with_norm(log_det, norm) + part, x)
            for y, log_det, part, x, norm in zip(fused, log_dets, parts, entering, self.norms, strict=True)
        ]

    def inverse(self, z: Sequence[Tensor]) -> list[Tensor]:
        """Map z of each scale back to the normalised features."""
        return [self._scale(scale, maps, rev=True)[0] for scale, maps in enumerate(self.fusion.inverse(z))]

    def _scale(self, scale: int, maps: Tensor, rev: bool) -> tuple[Tensor, Tensor]:
        batch = maps.shape[0]  # in an exported graph, of which len() would fix the size of the batch
        condition = self.get_buffer(f"positions{scale}").expand(batch, -1, -1, -1)
        z, log_det = self.parallel[scale](maps, c=[condition], rev=rev)
        return z, log_det
