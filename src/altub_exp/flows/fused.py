"""A coupling block's element-wise work as two Triton kernels, for a GPU: each map is read once and written once."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE = tl.constexpr(8)
"""Channels that a program takes at a time."""
WIDTH = tl.constexpr(128)
"""Positions that it takes at a time."""
TURNS = tl.constexpr(4)
"""How often it does so in the backward kernel, where it sums over them."""


@triton.jit
def _tanh(v):
    square = v * v
    series = v * (1.0 + square * (-1.0 / 3 + square * (2.0 / 15 - square * (17.0 / 315))))  # exact to 2e-9 below 0.1
    size = 1.0 - 2.0 / (tl.exp(2.0 * tl.abs(v)) + 1.0)
    return tl.where(square < 0.01, series, tl.where(v < 0, -size, size))


@triton.jit
def _coupled(x, a, scale, offset, order, z, log_scales, channels, passive, positions, alpha, PERMUTED: tl.constexpr):
    image = tl.program_id(0).to(tl.int64)
    row = tl.program_id(1) * TILE + tl.arange(0, TILE)
    column = (tl.program_id(2) * WIDTH + tl.arange(0, WIDTH))[None, :]
    there = row < channels
    channel = (tl.load(order + row, mask=there, other=0) if PERMUTED else row)[:, None]
    inside = there[:, None] & (column < positions)
    moved = inside & (channel >= passive)
    value = tl.load(x + (image * channels + channel) * positions + column, mask=inside, other=0.0)
    active = channels - passive
    entry = a + (image * 2 * active + channel - passive) * positions + column
    log_scale = alpha * _tanh(0.1 * tl.load(entry, mask=moved, other=0.0).to(tl.float32))  # 0 where nothing is coupled
    shift = 0.1 * tl.load(entry + active * positions, mask=moved, other=0.0).to(tl.float32)
    u = value * tl.exp(log_scale) + shift
    u = u * tl.load(scale + channel, mask=there[:, None]) + tl.load(offset + channel, mask=there[:, None])
    tl.store(z + (image * channels + row[:, None]) * positions + column, u, mask=inside)
    part = (image * tl.num_programs(1) + tl.program_id(1)) * tl.num_programs(2) + tl.program_id(2)
    tl.store(log_scales + part, tl.sum(tl.sum(log_scale, axis=1), axis=0))


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
        here = (image * channels + channel) * positions + column
        entry = (image * 2 * active + channel - passive) * positions + column
        g = tl.load(of_z + (image * channels + place) * positions + column, mask=inside, other=0.0)
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
    tl.store(sums + part, tl.sum(of_scale, axis=1), mask=there)
    tl.store(sums + part + channels, tl.sum(of_offset, axis=1), mask=there)


def couple(
    x: Tensor, a: Tensor, scale: Tensor, offset: Tensor, alpha: float, order: Tensor | None
) -> tuple[Tensor, Tensor]:
    r"""Of :math:`u_1 = x_1, u_2 = x_2 \odot e(s) + 0.1\,t`: :math:`\mathrm{scale} \odot u + \mathrm{offset}`, permuted.

    Args:
        x: [B, C, …], float32, contiguous; :math:`x_2` are its last channels, half as many as a has.
        a: s and t, [B, 2·C₂, …], contiguous; may be of a lower precision.
        scale: C numbers.
        offset: C numbers.
        alpha: of :math:`\ln e(s) = \alpha \tanh(0.1\,s)`.
        order: which channel comes at each place, [C]; None: each at its own.

    Returns:
        z of x's shape, and Σ ln e(s) per item of the batch, [B].
    """
    batch, channels, positions, passive = _sizes(x, a)
    z = torch.empty_like(x)
    tiles = triton.cdiv(channels, TILE.value), triton.cdiv(positions, WIDTH.value)
    log_scales = x.new_empty(batch, *tiles)
    _coupled[(batch, *tiles)](
        x, a, scale, offset, order, z, log_scales, channels, passive, positions, alpha, PERMUTED=order is not None
    )
    return z, log_scales.sum(dim=(1, 2))


def gradients(
    x: Tensor, a: Tensor, scale: Tensor, of_z: Tensor, of_log_det: Tensor, alpha: float, inverse: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients of x, a, scale and offset, given those of what :func:`couple` returned.

    Args:
        x: as there; so are a, scale and α.
        a: s and t.
        scale: C numbers.
        of_z: of x's shape.
        of_log_det: [B].
        alpha: α.
        inverse: the inverse of :func:`couple`'s order.
    """
    batch, channels, positions, passive = _sizes(x, a)
    of_x, of_a = torch.empty_like(x), torch.empty_like(a)
    tiles = triton.cdiv(channels, TILE.value), triton.cdiv(positions, WIDTH.value * TURNS.value)
    sums = x.new_empty(batch, tiles[1], 2, channels)
    arguments: tuple[Any, ...] = (x, a, scale, inverse, of_z.contiguous(), of_log_det.contiguous(), of_x, of_a, sums)
    _gradients[(batch, *tiles)](*arguments, channels, passive, positions, alpha, PERMUTED=inverse is not None)
    of_scale, of_offset = sums.sum(dim=(0, 1)).view(2, *scale.shape)
    return of_x, of_a, of_scale, of_offset


def _sizes(x: Tensor, a: Tensor) -> tuple[int, int, int, int]:
    batch, channels = x.shape[:2]
    return batch, channels, x[0, 0].numel(), channels - a.shape[1] // 2
