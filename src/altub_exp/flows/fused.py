"""A coupling block's element-wise work as two Triton kernels, for a GPU: each map is read once and written once."""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

TURNS = tl.constexpr(4)
"""How many tiles of positions a program of the backward kernel takes: it sums over them."""


@triton.jit
def _tanh(v):
    square = v * v
    series = v * (1.0 + square * (-1.0 / 3 + square * (2.0 / 15 - square * (17.0 / 315))))  # exact to 2e-9 below 0.1
    size = 1.0 - 2.0 / (tl.exp(2.0 * tl.abs(v)) + 1.0)
    return tl.where(square < 0.01, series, tl.where(v < 0, -size, size))


@triton.jit
def _coupled(
    x,
    a,
    scale,
    offset,
    inverse,
    z,
    log_scales,
    channels,
    passive,
    positions,
    channel_stride,
    x_stride,
    a_stride,
    alpha,
    PERMUTED: tl.constexpr,
    TILE: tl.constexpr,
    WIDTH: tl.constexpr,
):
    image = tl.program_id(0).to(tl.int64)
    row = tl.program_id(1) * TILE + tl.arange(0, TILE)
    column = (tl.program_id(2) * WIDTH + tl.arange(0, WIDTH))[None, :]
    there = row < channels
    channel = row[:, None]
    place = (tl.load(inverse + row, mask=there, other=0) if PERMUTED else row)[:, None]
    inside = there[:, None] & (column < positions)
    moved = inside & (channel >= passive)
    active = channels - passive
    start = image * channels * positions + column * x_stride
    entry = image * 2 * active * positions + (channel - passive) * channel_stride + column * a_stride
    value = tl.load(x + start + channel * channel_stride, mask=inside, other=0.0)
    tanh = _tanh(0.1 * tl.load(a + entry, mask=moved, other=0.0).to(tl.float32))  # 0 where nothing is coupled
    shift = 0.1 * tl.load(a + entry + active * channel_stride, mask=moved, other=0.0).to(tl.float32)
    u = value * tl.exp(alpha * tanh) + shift
    u = u * tl.load(scale + channel, mask=there[:, None]) + tl.load(offset + channel, mask=there[:, None])
    tl.store(z + start + place * channel_stride, u, mask=inside)
    part = (image * tl.num_programs(1) + tl.program_id(1)) * tl.num_programs(2) + tl.program_id(2)
    tl.store(log_scales + part, tl.sum(tl.sum(alpha * tanh, axis=1), axis=0))


@triton.jit
def _gradients(
    x,
    a,
    scale,
    inverse,
    of_z,
    of_log_det,
    of_x,
    of_a,
    sums,
    channels,
    passive,
    positions,
    channel_stride,
    x_stride,
    a_stride,
    alpha,
    PERMUTED: tl.constexpr,
    TILE: tl.constexpr,
    WIDTH: tl.constexpr,
):
    image = tl.program_id(0).to(tl.int64)
    row = tl.program_id(1) * TILE + tl.arange(0, TILE)
    there = row < channels
    channel = row[:, None]
    place = (tl.load(inverse + row, mask=there, other=0) if PERMUTED else row)[:, None]
    gain = tl.load(scale + channel, mask=there[:, None])
    outer = tl.load(of_log_det + image)
    active = channels - passive
    of_offset = tl.zeros((TILE, WIDTH), tl.float32)
    of_scale = tl.zeros((TILE, WIDTH), tl.float32)
    for turn in range(TURNS):
        column = ((tl.program_id(2) * TURNS + turn) * WIDTH + tl.arange(0, WIDTH))[None, :]
        inside = there[:, None] & (column < positions)
        moved = inside & (channel >= passive)
        start = image * channels * positions + column * x_stride
        here = start + channel * channel_stride
        entry = image * 2 * active * positions + (channel - passive) * channel_stride + column * a_stride
        g = tl.load(of_z + start + place * channel_stride, mask=inside, other=0.0)
        value = tl.load(x + here, mask=inside, other=0.0)
        tanh = _tanh(0.1 * tl.load(a + entry, mask=moved, other=0.0).to(tl.float32))
        shift = 0.1 * tl.load(a + entry + active * channel_stride, mask=moved, other=0.0).to(tl.float32)
        factor = tl.exp(alpha * tanh)
        of_offset += g
        of_scale += g * (value * factor + shift)
        of_u = g * gain
        tl.store(of_x + here, of_u * factor, mask=inside)
        of_s = (of_u * factor * value + outer) * (1.0 - tanh * tanh) * (0.1 * alpha)
        tl.store(of_a + entry, of_s, mask=moved)
        tl.store(of_a + entry + active * channel_stride, 0.1 * of_u, mask=moved)
    part = (image * tl.num_programs(2) + tl.program_id(2)) * 2 * channels + row
    tl.store(sums + part, tl.sum(of_scale, axis=1), mask=there)
    tl.store(sums + part + channels, tl.sum(of_offset, axis=1), mask=there)


class _Layout(NamedTuple):
    """Where the numbers of a block's maps lie.

    Attributes:
        sizes: channels, those that pass, positions; from one channel to the next, from one position of x to the next,
            and of a: what both kernels are told.
        tile: channels and positions that a program takes at a time.
        format: PyTorch's name of it.
    """

    sizes: tuple[int, ...]
    tile: tuple[int, int]
    format: torch.memory_format

    @classmethod
    def of(cls, x: Tensor, a: Tensor) -> _Layout:
        channels, both, positions = x.shape[1], a.shape[1], x[0, 0].numel()
        passive = channels - both // 2
        if x.dim() == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last):
            return cls((channels, passive, positions, 1, channels, both), (64, 16), torch.channels_last)
        return cls((channels, passive, positions, positions, 1, 1), (8, 128), torch.contiguous_format)

    def tiles(self, turns: int = 1) -> tuple[int, int]:
        """Programs per image."""
        return triton.cdiv(self.sizes[0], self.tile[0]), triton.cdiv(self.sizes[2], self.tile[1] * turns)


def couple(
    x: Tensor, a: Tensor, scale: Tensor, offset: Tensor, alpha: float, inverse: Tensor | None
) -> tuple[Tensor, Tensor]:
    r"""Of :math:`u_1 = x_1, u_2 = x_2 \odot e(s) + 0.1\,t`: :math:`\mathrm{scale} \odot u + \mathrm{offset}`, permuted.

    Args:
        x: [B, C, …], float32; :math:`x_2` are its last channels, half as many as a has.
        a: s and t, [B, 2·C₂, …], in the same layout, channels last or not; may be of a lower precision.
        scale: C numbers.
        offset: C numbers.
        alpha: of :math:`\ln e(s) = \alpha \tanh(0.1\,s)`.
        inverse: at which place each channel comes, [C]; None: each at its own.

    Returns:
        z of x's shape, and Σ ln e(s) per item of the batch, [B].
    """
    layout = _Layout.of(x, a)
    x, a = (part.contiguous(memory_format=layout.format) for part in (x, a))
    z, tiles = torch.empty_like(x), layout.tiles()
    log_scales = x.new_empty(len(x), *tiles)
    arguments = (x, a, scale, offset, inverse, z, log_scales)
    _coupled[(len(x), *tiles)](*arguments, *layout.sizes, alpha, inverse is not None, *layout.tile)
    return z, log_scales.sum(dim=(1, 2))


def gradients(
    x: Tensor, a: Tensor, scale: Tensor, of_z: Tensor, of_log_det: Tensor, alpha: float, inverse: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients of x, a, scale and offset, given those of what :func:`couple` returned.

    Args:
        x: as there.
        a: s and t.
        scale: C numbers.
        of_z: of x's shape.
        of_log_det: [B].
        alpha: α.
        inverse: as there.
    """
    layout = _Layout.of(x, a)
    x, a, of_z = (part.contiguous(memory_format=layout.format) for part in (x, a, of_z))
    of_x, of_a, tiles = torch.empty_like(x), torch.empty_like(a), layout.tiles(TURNS.value)
    sums = x.new_empty(len(x), tiles[1], 2, x.shape[1])
    arguments = (x, a, scale, inverse, of_z, of_log_det.contiguous(), of_x, of_a, sums)
    _gradients[(len(x), *tiles)](*arguments, *layout.sizes, alpha, inverse is not None, *layout.tile)
    of_scale, of_offset = sums.sum(dim=(0, 1)).view(2, *scale.shape)
    return of_x, of_a, of_scale, of_offset
