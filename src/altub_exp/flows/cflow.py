"""CFLOW-AD (Gudovskiy et al. 2022, arXiv 2107.12571): a conditional flow per scale over vectors of single positions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from FrEIA.framework import SequenceINN
from torch import Tensor, nn

from altub_exp.flows.coupling import CouplingBlock
from altub_exp.flows.flow import Latent, Shape

FIBRES_AT_ONCE = 16384  # bounds the memory of an evaluation


def positional_encoding(channels: int, height: int, width: int) -> Tensor:
    r"""Encode column and row by sines and cosines of falling frequencies (Vaswani et al. 2017, arXiv 1706.03762).

    With D = channels / 2 and :math:`f_k = 10^{-8k/D}, k = 0, 1, …`, channel 2k is :math:`\sin(f_k w)` and channel
    2k + 1 is :math:`\cos(f_k w)` of the column w; the second half of the channels encodes the row h in the same way.

    Args:
        channels: a multiple of 4.
        height: H.
        width: W.

    Returns:
        [channels, H, W], float32.

    >>> positional_encoding(4, 2, 3)[:, 1, 2]  # sin 2, cos 2, sin 1, cos 1
    tensor([ 0.9093, -0.4161,  0.8415,  0.5403])
    """
    half = channels // 2
    frequencies = torch.exp(torch.arange(0.0, half, 2) * -(math.log(10000.0) / half))

    def encoded(length: int) -> Tensor:
        angles = torch.outer(frequencies, torch.arange(0.0, length))
        return torch.stack([torch.sin(angles), torch.cos(angles)], dim=1).flatten(0, 1)  # [half, length]

    columns = encoded(width)[:, None, :].expand(half, height, width)
    rows = encoded(height)[:, :, None].expand(half, height, width)
    return torch.cat([columns, rows])


class CFlow(nn.Module):
    """One decoder per scale, shared by all its positions: the density of a fibre, given its position.

    A fibre is the C-vector at one position of a feature map. The subnets are Linear → ReLU → Linear.

    Args:
        shapes: (C, H, W) of each scale.
        steps: coupling blocks per decoder.
        condition_channels: length of the encoded position.
        hidden_ratio: hidden units of a subnet per input.
        affine_clamping: α of the coupling.
        permute_soft: True mixes the channels by orthogonal matrices instead of permutations.

    >>> blocks = {"steps": 2, "hidden_ratio": 2.0, "affine_clamping": 1.9, "permute_soft": True}
    >>> flow = CFlow([(4, 2, 3)], condition_channels=8, **blocks)
    >>> latent, = flow([torch.randn(5, 4, 2, 3)])
    >>> latent.z.shape, latent.log_det.shape
    (torch.Size([5, 4, 2, 3]), torch.Size([5, 2, 3]))
    """

    capturable = True

    def __init__(
        self,
        shapes: Sequence[Shape],
        *,
        steps: int,
        condition_channels: int,
        hidden_ratio: float,
        affine_clamping: float,
        permute_soft: bool,
    ) -> None:
        super().__init__()
        self.shapes: list[Shape] = list(shapes)
        self.scales = nn.ModuleList()

        def subnet(inputs: int, outputs: int) -> nn.Module:
            hidden = int(inputs * hidden_ratio)
            return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, outputs))

        for number, (channels, height, width) in enumerate(self.shapes):
            decoder = SequenceINN(channels)
            for _ in range(steps):
                decoder.append(
                    CouplingBlock,
                    cond=0,
                    cond_shape=(condition_channels,),
                    subnet_constructor=subnet,
                    affine_clamping=affine_clamping,
                    permute_soft=permute_soft,
                )
            self.scales.append(decoder)
            encoding = positional_encoding(condition_channels, height, width).flatten(1).T.contiguous()
            self.register_buffer(f"positions{number}", encoding, persistent=False)  # [H·W, condition_channels]

    def fibres(self, scale: int, x: Tensor, positions: Tensor) -> Latent:
        """Map fibres x [N, C] at the positions h·W + w [N] of a scale to z [N, C] and log|det ∂z/∂x| [N]."""
        condition = self.get_buffer(f"positions{scale}")[positions]
        z, log_det = self.scales[scale](x, c=[condition])
        return Latent(z, log_det, x)

    def forward(self, features: Sequence[Tensor]) -> list[Latent]:
        """Map one [B, C, H, W] per scale to z of the same shape and log|det ∂z/∂x| per position, [B, H, W]."""
        return [self._maps(scale, maps, rev=False) for scale, maps in enumerate(features)]

    def inverse(self, z: Sequence[Tensor]) -> list[Tensor]:
        """Map z of each scale back to the feature maps."""
        return [self._maps(scale, maps, rev=True).z for scale, maps in enumerate(z)]

    def _maps(self, scale: int, maps: Tensor, rev: bool) -> Latent:
        batch, channels, height, width = maps.shape
        fibres = maps.movedim(1, -1).reshape(-1, channels)
        conditions = self.get_buffer(f"positions{scale}").repeat(batch, 1)
        if torch.is_grad_enabled() or torch.compiler.is_compiling():  # an exported graph takes any size of the batch
            pieces = [(fibres, conditions)]
        else:
            split = (torch.split(rows, FIBRES_AT_ONCE) for rows in (fibres, conditions))
            pieces = list(zip(*split, strict=True))
        parts = [self.scales[scale](x, c=[condition], rev=rev) for x, condition in pieces]
        z = torch.cat([part[0] for part in parts]).view(batch, height, width, channels).movedim(-1, 1)
        return Latent(z, torch.cat([part[1] for part in parts]).view(batch, height, width), maps)
