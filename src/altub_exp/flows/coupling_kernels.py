"""Two Triton kernels for the element-wise work of a coupling block; each map is read once and written once."""

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
    alpha,
    PERMUTED: tl.constexpr,
):
    image = tl.program_id(0).to(tl.int64)
    row = tl.program_id(1) * TILE + tl.arange(0, TILE)
    column = (tl.program_id(2) * WIDTH + tl.arange(0, WIDTH))[None, :]
    valid = row < channels
    channel = row[:, None]
    place = (tl.load(inverse + row, mask=valid, other=0) if PERMUTED else row)[:, None]
    inside = valid[:, None] & (column < positions)
    moved = inside & (channel >= passive)
    active = channels - passive
    start = image * channels * positions + column
    entry = (image * 2 * active + channel - passive) * positions + column
    value = tl.load(x + start + channel * positions, mask=inside, other=0.0)
    tanh = _tanh(0.1 * tl.load(a + entry, mask=moved, other=0.0).to(tl.float32))  # 0 where nothing is coupled
    shift = 0.1 * tl.load(a + entry + active * positions, mask=moved, other=0.0).to(tl.float32)
    u = value * tl.exp(alpha * tanh) + shift
    u = u * tl.load(scale + channel, mask=valid[:, None]) + tl.load(offset + channel, mask=valid[:, None])
    tl.store(z + start + place * positions, u, mask=inside)
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
    alpha,
    PERMUTED: tl.constexpr,
):
    image = tl.program_id(0).to(tl.int64)
    row = tl.program_id(1) * TILE + tl.arange(0, TILE)
    valid = row < channels
    channel = row[:, None]
    place = (tl.load(inverse + row, mask=valid, other=0) if PERMUTED else row)[:, None]
    gain = tl.load(scale + channel, mask=valid[:, None])
    outer = tl.load(of_log_det + image)
    active = channels - passive
    of_offset = tl.zeros((TILE, WIDTH), tl.float32)
    of_scale = tl.zeros((TILE, WIDTH), tl.float32)
    for turn in range(TURNS):
        column = ((tl.program_id(2) * TURNS + turn) * WIDTH + tl.arange(0, WIDTH))[None, :]
        inside = valid[:, None] & (column < positions)
        moved = inside & (channel >= passive)
        start = image * channels * positions + column
        here = start + channel * positions
        entry = (image * 2 * active + channel - passive) * positions + column
        g = tl.load(of_z + start + place * positions, mask=inside, other=0.0)
        value = tl.load(x + here, mask=inside, other=0.0)
        tanh = _tanh(0.1 * tl.load(a + entry, mask=moved, other=0.0).to(tl.float32))
        shift = 0.1 * tl.load(a + entry + active * positions, mask=moved, other=0.0).to(tl.float32)
        factor = tl.exp(alpha * tanh)
        of_offset += g
        of_scale += g * (value * factor + shift)
        of_u = g * gain
        tl.store(of_x + here, of_u * factor, mask=inside)
        of_s = (of_u * factor * value + outer) * (1.0 - tanh * tanh) * (0.1 * alpha)
        tl.store(of_a + entry, of_s, mask=moved)
        tl.store(of_a + entry + active * positions, 0.1 * of_u, mask=moved)
    part = (image * tl.num_programs(2) + tl.program_id(2)) * 2 * channels + row
    tl.store(sums + part, tl.sum(of_scale, axis=1), mask=valid)
    tl.store(sums + part + channels, tl.sum(of_offset, axis=1), mask=valid)


def couple(
    x: Tensor, a: Tensor, scale: Tensor, offset: Tensor, alpha: float, inverse: Tensor | None
) -> tuple[Tensor, Tensor]:
    r"""Compute z = scale ⊙ u + offset, permuted, with :math:`u_1 = x_1` and :math:`u_2 = x_2 \odot e(s) + 0.1\,t`.

    Args:
        x: [B, C, …], float32; :math:`x_2` are its last channels, half as many as a has.
        a: s and t, [B, 2·C₂, …]; may be of a lower precision.
        scale: C numbers.
        offset: C numbers.
        alpha: α of :math:`\ln e(s) = \alpha \tanh(0.1\,s)`.
        inverse: new position in z of each channel, [C]; None does not permute.

    Returns:
        z of x's shape, and Σ ln e(s) per item of the batch, [B].
    """
    x, a = x.contiguous(), a.contiguous()
    sizes = _sizes(x, a)
    tiles = triton.cdiv(sizes[0], TILE.value), triton.cdiv(sizes[2], WIDTH.value)
    z, log_scales = torch.empty_like(x), x.new_empty(len(x), *tiles)
    _coupled[(len(x), *tiles)](x, a, scale, offset, inverse, z, log_scales, *sizes, alpha, inverse is not None)
    return z, log_scales.sum(dim=(1, 2))


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
    sizes = _sizes(x, a)
    tiles = triton.cdiv(sizes[0], TILE.value), triton.cdiv(sizes[2], WIDTH.value * TURNS.value)
    of_x, of_a = torch.empty_like(x), torch.empty_like(a)
    sums = x.new_empty(len(x), tiles[1], 2, sizes[0])
    arguments = (x, a, scale, inverse, of_z, of_log_det.contiguous(), of_x, of_a, sums)
    _gradients[(len(x), *tiles)](*arguments, *sizes, alpha, inverse is not None)
    of_scale, of_offset = sums.sum(dim=(0, 1)).view(2, *scale.shape)
    return of_x, of_a, of_scale, of_offset


def _sizes(x: Tensor, a: Tensor) -> tuple[int, int, int]:
    """Return the numbers of channels, of passive channels and of positions."""
    return x.shape[1], x.shape[1] - a.shape[1] // 2, x[0, 0].numel()
