"""A Triton kernel that takes many steps of Adam with zero gradients; each parameter is read once and written once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = tl.constexpr(1024)
"""Elements that a program processes."""


@triton.jit(do_not_specialize=["count"])
def _steps(p, m, v, step_sizes, corrections, size, count, beta1, beta2, weight_decay, eps, zero, DECAYED: tl.constexpr):
    # the operations of PyTorch's fused_adam_utils.cuh in their order; `zero`, the gradient, is no constant, so that no
    # compiler leaves any of them out
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    parameter = tl.load(p + at, mask=inside, other=0.0)
    mean = tl.load(m + at, mask=inside, other=0.0)
    square = tl.load(v + at, mask=inside, other=0.0)
    for number in range(count):
        gradient = tl.fma(parameter, weight_decay, zero) if DECAYED else zero
        squared = gradient * gradient
        mean = tl.fma(beta1, mean, tl.fma(-beta1, gradient, gradient))
        square = tl.fma(beta2, square, tl.fma(-beta2, squared, squared))
        denominator = tl.div_rn(tl.sqrt_rn(square), tl.load(corrections + number)) + eps
        parameter -= tl.div_rn(tl.load(step_sizes + number) * mean, denominator)
    tl.store(p + at, parameter, mask=inside)
    tl.store(m + at, mean, mask=inside)
    tl.store(v + at, square, mask=inside)


def take_steps(
    parameters: Sequence[Tensor], states: Sequence[dict[str, Tensor]], count: int, group: dict[str, Any]
) -> None:
    """Take so many steps, in place, equal to the last bit to ``torch.optim.Adam(fused=True)``.

    PyTorch computes in float32 on a GPU. Its bias corrections come from its own power function here, too.

    Args:
        parameters: float32, contiguous, on one device.
        states: Adam's state of each.
        count: number of steps.
        group: the options of the parameters' group in Adam, with ``lr``, η₁.
    """
    beta1, beta2 = group["betas"]
    counts = torch.stack([state["step"] for state in states])
    numbers = counts[:, None] + torch.arange(1, count + 1, dtype=counts.dtype, device=counts.device)
    step_sizes = torch.as_tensor(group["lr"], dtype=counts.dtype, device=counts.device) / (1 - _powers(beta1, numbers))
    corrections = (1 - _powers(beta2, numbers)).sqrt()
    for parameter, state, *of_steps in zip(parameters, states, step_sizes, corrections, strict=True):
        size = parameter.numel()
        moments = state["exp_avg"], state["exp_avg_sq"]
        options = beta1, beta2, group["weight_decay"], group["eps"], 0.0, group["weight_decay"] != 0
        _steps[triton.cdiv(size, BLOCK.value),](parameter, *moments, *of_steps, size, count, *options)
        state["step"] += count


def _powers(beta: float, numbers: Tensor) -> Tensor:
    return torch.pow(torch.full_like(numbers, beta), numbers)
