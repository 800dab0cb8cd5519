"""CS-Flow (Rudolph et al. 2022, arXiv 2110.02855): one flow over all scales, whose coupling subnets connect them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from altub_exp.flows.coupling import permuted
from altub_exp.flows.fastflow import NORMS, with_norm
from altub_exp.flows.flow import Latent, Shape

LEAKY_SLOPE = 0.1  # as in the published code


class CrossConvolutions(nn.Module):
    r"""The subnet over all scales: two convolutions each, the second also over the neighbouring scales' hidden maps.

    With :math:`h_l = \mathrm{LeakyReLU}(\mathrm{conv}(x_l))`, scale :math:`l + 1` the next coarser one,
    :math:`\uparrow` bilinear upsampling, and separate weights for every convolution,

    .. math:: r_l = \gamma_l\,[\mathrm{conv}(h_l) + \mathrm{conv}(\uparrow h_{l+1}) + \mathrm{conv}_{/2}(h_{l-1})];

    γ is learned and starts at zero. The stride of the last term is the ratio of the two resolutions, 2 in the published
    code; if its result does not have the coarser scale's size, it is resized bilinearly.

    Args:
        inputs: (C, H, W) of each scale's input.
        outputs: channels of each scale's output.
        hidden_channels: channels of every :math:`h_l`.
        kernel_size: odd size of every convolution.
    """

    def __init__(
        self, inputs: Sequence[Shape], outputs: Sequence[int], *, hidden_channels: int, kernel_size: int
    ) -> None:
        super().__init__()
        self._sizes = [(height, width) for _, height, width in inputs]

        def convolutions(
            pairs: Sequence[tuple[int, int]], strides: Sequence[tuple[int, int]] | None = None
        ) -> nn.ModuleList:
            return nn.ModuleList(
                nn.Conv2d(*pair, kernel_size, stride, padding=kernel_size // 2)
                for pair, stride in zip(pairs, strides or [(1, 1)] * len(pairs), strict=True)
            )

        hidden_to = [(hidden_channels, channels) for channels in outputs]
        strides = [
            (max(1, round(fine[0] / coarse[0])), max(1, round(fine[1] / coarse[1])))
            for fine, coarse in zip(self._sizes[:-1], self._sizes[1:], strict=True)
        ]
        self.inward = convolutions([(shape[0], hidden_channels) for shape in inputs])
        self.outward = convolutions(hidden_to)
        self.from_coarser = convolutions(hidden_to[:-1])
        self.from_finer = convolutions(hidden_to[1:], strides)
        self.gamma = nn.Parameter(torch.zeros(len(inputs)))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Map one [B, C, H, W] per scale to one [B, outputs, H, W] per scale."""
        hidden = [F.leaky_relu(convolve(x), LEAKY_SLOPE) for convolve, x in zip(self.inward, maps, strict=True)]
        out = [convolve(h) for convolve, h in zip(self.outward, hidden, strict=True)]
        for scale, convolve in enumerate(self.from_coarser):
            out[scale] = out[scale] + convolve(_resized(hidden[scale + 1], self._sizes[scale]))
        for scale, convolve in enumerate(self.from_finer, start=1):
            out[scale] = out[scale] + _resized(convolve(hidden[scale - 1]), self._sizes[scale])
        dtype = maps[0].dtype  # autocast may have lowered that of out
        return [gamma * r.to(dtype) for gamma, r in zip(self.gamma, out, strict=True)]


def _resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    if maps.shape[2:] == size:
        return maps
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


class CrossScaleBlock(nn.Module):
    r"""One step of the flow: a fixed random permutation of each scale's channels, then a coupling of both halves.

    With the permuted maps of all scales split into :math:`x_1` (the first ⌊C/2⌋ channels) and :math:`x_2`,

    .. math::
        y_1 = e(s_2) \odot x_1 + t_2, \; (s_2, t_2) = r_2(x_2); \qquad
        y_2 = e(s_1) \odot x_2 + t_1, \; (s_1, t_1) = r_1(y_1); \qquad
        \ln e(s) = 0.636\,\alpha \arctan(s / \alpha).

    The published code also clamps y to ±10⁶, which is not a bijection, and draws the permutations of each block from a
    fixed seed. This block does not clamp, and draws them from PyTorch's global generator.

    Args:
        shapes: (C, H, W) of each scale.
        subnet: called as ``f(inputs, outputs)`` with the (C, H, W) of each scale's input and the channels of each
            scale's output, which are twice those that it transforms; makes :math:`r_1` and :math:`r_2`.
        affine_clamping: α.
    """

    def __init__(
        self,
        shapes: Sequence[Shape],
        *,
        subnet: Callable[[Sequence[Shape], Sequence[int]], nn.Module],
        affine_clamping: float,
    ) -> None:
        super().__init__()
        self._clamp = affine_clamping
        first = [(channels // 2, height, width) for channels, height, width in shapes]
        second = [(channels - channels // 2, height, width) for channels, height, width in shapes]

        self.of_second = subnet(second, [2 * shape[0] for shape in first])
        self.of_first = subnet(first, [2 * shape[0] for shape in second])
        for scale, (channels, _, _) in enumerate(shapes):
            order = torch.randperm(channels)
            self.register_buffer(f"order{scale}", order)
            self.register_buffer(f"inverse_order{scale}", order.argsort())

    def forward(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Map one [B, C, H, W] per scale to y of the same shape and the sum of ln e(s) [B], per scale."""
        x1, x2 = self._halves([permuted(x, *self._orders(scale)) for scale, x in enumerate(maps)])
        y1, log_det2 = self._coupled(x1, self.of_second(x2))
        y2, log_det1 = self._coupled(x2, self.of_first(y1))
        y = [torch.cat(halves, dim=1) for halves in zip(y1, y2, strict=True)]
        return y, [a + b for a, b in zip(log_det2, log_det1, strict=True)]

    def inverse(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Map y of each scale back to the maps."""
        y1, y2 = self._halves(maps)
        x2 = self._uncoupled(y2, self.of_first(y1))
        x1 = self._uncoupled(y1, self.of_second(x2))
        return [
            permuted(torch.cat(halves, dim=1), *reversed(self._orders(scale)))
            for scale, halves in enumerate(zip(x1, x2, strict=True))
        ]

    def _coupled(self, maps: Sequence[Tensor], parameters: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        log_scales, shifts = self._scales_and_shifts(parameters)
        y = [torch.exp(s) * x + t for s, x, t in zip(log_scales, maps, shifts, strict=True)]
        return y, [s.sum(dim=(1, 2, 3)) for s in log_scales]

    def _uncoupled(self, maps: Sequence[Tensor], parameters: Sequence[Tensor]) -> list[Tensor]:
        log_scales, shifts = self._scales_and_shifts(parameters)
        return [(y - t) * torch.exp(-s) for s, y, t in zip(log_scales, maps, shifts, strict=True)]

    def _scales_and_shifts(self, parameters: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        s, t = zip(*(r.chunk(2, dim=1) for r in parameters), strict=True)
        return [self._clamp * 0.636 * torch.atan(scale / self._clamp) for scale in s], list(t)

    def _orders(self, scale: int) -> tuple[Tensor, Tensor]:
        return self.get_buffer(f"order{scale}"), self.get_buffer(f"inverse_order{scale}")

    @staticmethod
    def _halves(maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        first = [x[:, : x.shape[1] // 2] for x in maps]
        return first, [x[:, x.shape[1] // 2 :] for x in maps]


class CSFlow(nn.Module):
    """Coupling blocks over all scales at once; an untrained flow only permutes the channels.

    The published code reads one stage of EfficientNet-B5 (304 channels) at three sizes of the image, each half the one
    before (``experiment=csflow-b5``). This flow reads any maps, from the finest to the coarsest; their channels may
    differ in number.

    Args:
        shapes: (C, H, W) of each scale, at least two channels.
        steps: number of coupling blocks.
        hidden_channels: hidden channels of the subnets.
        kernel_size: kernel size of the subnets of all blocks but the last.
        last_kernel_size: kernel size of the last block's subnets.
        affine_clamping: α of the coupling.
        feature_norm: as in :class:`~altub_exp.flows.fastflow.FastFlow`; only ``counted`` is in the log-determinant.

    >>> options = {"hidden_channels": 8, "kernel_size": 3, "last_kernel_size": 5, "affine_clamping": 3.0}
    >>> flow = CSFlow([(4, 8, 8), (6, 4, 4)], steps=2, **options)
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
        hidden_channels: int,
        kernel_size: int,
        last_kernel_size: int,
        affine_clamping: float,
        feature_norm: str = "none",
    ) -> None:
        super().__init__()
        self.shapes: list[Shape] = list(shapes)
        self.norms = nn.ModuleList(NORMS[feature_norm](shape) for shape in shapes)
        self.blocks = nn.ModuleList(
            CrossScaleBlock(
                shapes,
                subnet=partial(CrossConvolutions, hidden_channels=hidden_channels, kernel_size=size),
                affine_clamping=affine_clamping,
            )
            for size in [kernel_size] * (steps - 1) + [last_kernel_size]
        )

    def forward(self, features: Sequence[Tensor]) -> list[Latent]:
        """Map the features, one [B, C, H, W] per scale, to z of the same shape and a part of the log-determinant [B].

        The parts add up to log|det| of the Jacobian of all scales together; a single part has no meaning.
        """
        entering = [norm(maps) for norm, maps in zip(self.norms, features, strict=True)]
        z = entering
        log_dets = [with_norm(x.new_zeros(x.shape[0]), norm) for x, norm in zip(entering, self.norms, strict=True)]
        for block in self.blocks:
            z, parts = block(z)
            log_dets = [log_det + part for log_det, part in zip(log_dets, parts, strict=True)]
        return [Latent(*parts) for parts in zip(z, log_dets, entering, strict=True)]

    def inverse(self, z: Sequence[Tensor]) -> list[Tensor]:
        """Map z of each scale back to the normalised features."""
        maps = list(z)
        for block in reversed(self.blocks):
            maps = block.inverse(maps)  # type: ignore[operator]
        return maps
