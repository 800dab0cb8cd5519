"""Two Triton kernels for the element-wise work of a coupling block; each number is read once and written once.

They see maps [B, C, H, W] as B images of C channels and H·W positions, and fibres [N, C] as one image of N positions
whose channels lie side by side in memory.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE = tl.constexpr(8)
"""Channels that a program processes at a time."""
WIDTH = tl.constexpr(128)
"""Positions that a program processes at a time."""
TURNS = tl.constexpr(4)
"""Blocks of positions that a program of the backward kernel sums over."""


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
    image_stride,
    channel_stride,
    position_stride,
    a_image_stride,
    a_position_stride,
    alpha,
    PERMUTED: tl.constexpr,
    FIBRES: tl.constexpr,
):
    image = tl.program_id(0).to(tl.int64)
    row = tl.program_id(1) * TILE + tl.arange(0, TILE)
    column = (tl.program_id(2) * WIDTH + tl.arange(0, WIDTH))[None, :]
    valid = row < channels
    channel = row[:, None]
    place = (tl.load(inverse + row, mask=valid, other=0) if PERMUTED else row)[:, None]
    inside = valid[:, None] & (column < positions)
    moved = inside & (channel >= passive)
    start = image * image_stride + column.to(tl.int64) * position_stride
    of_s = image * a_image_stride + column.to(tl.int64) * a_position_stride + (channel - passive) * channel_stride
    of_t = of_s + (channels - passive) * channel_stride
    value = tl.load(x + start + channel * channel_stride, mask=inside, other=0.0)
    tanh = _tanh(0.1 * tl.load(a + of_s, mask=moved, other=0.0).to(tl.float32))  # 0 where nothing is coupled
    shift = 0.1 * tl.load(a + of_t, mask=moved, other=0.0).to(tl.float32)
    u = value * tl.exp(alpha * tanh) + shift
    u = u * tl.load(scale + channel, mask=valid[:, None]) + tl.load(offset + channel, mask=valid[:, None])
    tl.store(z + start + place * channel_stride, u, mask=inside)
    log_scale = tl.sum(alpha * tanh, axis=0)  # of the tile's channels
    position = tl.program_id(2) * WIDTH + tl.arange(0, WIDTH)
    if FIBRES:
        tl.store(log_scales + tl.program_id(1) * positions + position, log_scale, mask=position < positions)
    else:
        part = (image * tl.num_programs(1) + tl.program_id(1)) * tl.num_programs(2) + tl.program_id(2)
        tl.store(log_scales + part, tl.sum(log_scale, axis=0))


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
    image_stride,
    channel_stride,
    position_stride,
    a_image_stride,
    a_position_stride,
    alpha,
    PERMUTED: tl.constexpr,
    FIBRES: tl.constexpr,
):
    image = tl.program_id(0).to(tl.int64)
    row = tl.program_id(1) * TILE + tl.arange(0, TILE)
    valid = row < channels
    channel = row[:, None]
    place = (tl.load(inverse + row, mask=valid, other=0) if PERMUTED else row)[:, None]
    gain = tl.load(scale + channel, mask=valid[:, None])
    of_offset = tl.zeros((TILE, WIDTH), tl.float32)
    of_scale = tl.zeros((TILE, WIDTH), tl.float32)
    for turn in range(TURNS):
        column = ((tl.program_id(2) * TURNS + turn) * WIDTH + tl.arange(0, WIDTH))[None, :]
        inside = valid[:, None] & (column < positions)
        moved = inside & (channel >= passive)
        start = image * image_stride + column.to(tl.int64) * position_stride
        here = start + channel * channel_stride
        of_s = image * a_image_stride + column.to(tl.int64) * a_position_stride + (channel - passive) * channel_stride
        of_t = of_s + (channels - passive) * channel_stride
        item = column if FIBRES else image
        outer = tl.load(of_log_det + item, mask=item < (positions if FIBRES else tl.num_programs(0)), other=0.0)
        g = tl.load(of_z + start + place * channel_stride, mask=inside, other=0.0)
        value = tl.load(x + here, mask=inside, other=0.0)
        tanh = _tanh(0.1 * tl.load(a + of_s, mask=moved, other=0.0).to(tl.float32))
        shift = 0.1 * tl.load(a + of_t, mask=moved, other=0.0).to(tl.float32)
        factor = tl.exp(alpha * tanh)
        of_offset += g
        of_scale += g * (value * factor + shift)
        of_u = g * gain
        tl.store(of_x + here, of_u * factor, mask=inside)
        of_tanh = of_u * factor * value + outer
        tl.store(of_a + of_s, of_tanh * (1.0 - tanh * tanh) * (0.1 * alpha), mask=moved)
        tl.store(of_a + of_t, 0.1 * of_u, mask=moved)
    part = (image * tl.num_programs(2) + tl.program_id(2)) * 2 * channels + row
    tl.store(sums + part, tl.sum(of_scale, axis=1), mask=valid)
    tl.store(sums + part + channels, tl.sum(of_offset, axis=1), mask=valid)


def couple(
    x: Tensor, a: Tensor, scale: Tensor, offset: Tensor, alpha: float, inverse: Tensor | None
) -> tuple[Tensor, Tensor]:
    r"""Compute z = scale ⊙ u + offset, permuted, with :math:`u_1 = x_1` and :math:`u_2 = x_2 \odot e(s) + 0.1\,t`.

    Args:
        x: [B, C, H, W] or [N, C], float32; :math:`x_2` are its last channels, half as many as a has.
        a: s and t, [B, 2·C₂, …]; may be of a lower precision.
        scale: C numbers.
        offset: C numbers.
        alpha: α of :math:`\ln e(s) = \alpha \tanh(0.1\,s)`.
        inverse: new position in z of each channel, [C]; None does not permute.

    Returns:
        z of x's shape, and Σ ln e(s) per item of the batch, [B].
    """
    x, a = x.contiguous(), a.contiguous()
    images, sizes, fibres = _layout(x, a)
    tiles = triton.cdiv(sizes[0], TILE.value), triton.cdiv(sizes[2], WIDTH.value)
    z, log_scales = torch.empty_like(x), x.new_empty(tiles[0], len(x)) if fibres else x.new_empty(len(x), *tiles)
    arguments = (x, a, scale, offset, inverse, z, log_scales)
    _coupled[(images, *tiles)](*arguments, *sizes, alpha, inverse is not None, fibres)
    return z, log_scales.sum(dim=0 if fibres else (1, 2))


def gradients(
    x: Tensor, a: Tensor, scale: Tensor, of_z: Tensor, of_log_det: Tensor, alpha: float, inverse: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of x, a, scale and offset, given those of the outputs of :func:`couple`.

    Args:
        x: as in :func:`couple`, like a, scale, alpha and inverse.
        a: s and t.
        scale: C numbers.
        of_z: gradient of z, in x's shape.
        of_log_det: gradient of Σ ln e(s), [B].
        alpha: α.
        inverse: new position of each channel, or None.
    """
    x, a, of_z = x.contiguous(), a.contiguous(), of_z.contiguous()
    images, sizes, fibres = _layout(x, a)
    tiles = triton.cdiv(sizes[0], TILE.value), triton.cdiv(sizes[2], WIDTH.value * TURNS.value)
    of_x, of_a = torch.empty_like(x), torch.empty_like(a)
    sums = x.new_empty(images, tiles[1], 2, sizes[0])
    arguments = (x, a, scale, inverse, of_z, of_log_det.contiguous(), of_x, of_a, sums)
    _gradients[(images, *tiles)](*arguments, *sizes, alpha, inverse is not None, fibres)
    of_scale, of_offset = sums.sum(dim=(0, 1)).view(2, *scale.shape)
    return of_x, of_a, of_scale, of_offset


def _layout(x: Tensor, a: Tensor) -> tuple[int, tuple[int, ...], bool]:
    """Return the number of images, the kernels' sizes and strides, and True for fibres."""
    channels, passive = x.shape[1], x.shape[1] - a.shape[1] // 2
    if x.dim() == 2:
        return 1, (channels, passive, len(x), 0, 1, channels, 0, a.shape[1]), True
    positions = x[0, 0].numel()
    return len(x), (channels, passive, positions, x.stride(0), positions, 1, a.stride(0), 1), False
