"""The Triton kernel of Adam's deferred steps against a transcription of PyTorch's arithmetic on a GPU.

``TRITON_INTERPRET=1 python -m tests.method.adam_emulation`` has Triton interpret the kernel on the CPU, which must be
said before Triton is imported. ``--build`` prints the operations of the kernel as it is compiled for a GPU.
"""

import itertools
import re
import sys

import numpy as np
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from altub_exp.method import adam_kernel

CASES = list(itertools.product([(1,), (5, 500)], [0.0, 5000.0], [0.0, 1e-2], [(0.9, 0.999), (0.5, 0.9)]))
"""(shape of the parameter, steps before, weight decay, betas)."""
RATES = [(2e-4, 5), (1e-3, 30)]
"""(η₁, steps) of each batch."""


def fma(a, b, c):
    """Return a·b + c of float32 numbers, rounded once."""
    a, b, c = (np.asarray(value, np.float64) for value in (a, b, c))
    product = a * b  # exact
    total = product + c
    rounded = total - product
    error = (product - (total - rounded)) + (c - rounded)  # of the sum in float64
    even = (total.view(np.int64) & 1) == 0
    odd = np.where((error != 0) & even, np.nextafter(total, np.copysign(np.inf, error)), total)
    return odd.astype(np.float32)  # rounding to odd first makes the second rounding that of the exact value


def emulated(p, m, v, steps, rate, count, betas, weight_decay, eps):
    """Take steps with a gradient of zeros by the formulas of fused_adam_utils.cuh, all in float32.

    The powers of the betas and their roots are PyTorch's, which rounds them otherwise than numpy on a CPU.
    """
    beta1, beta2, decay, eps = (np.float32(value) for value in (*betas, weight_decay, eps))
    numbers = steps + torch.arange(1, count + 1, dtype=torch.float32)
    bias1, bias2 = (1 - torch.pow(torch.full_like(numbers, float(beta)), numbers) for beta in (beta1, beta2))
    for correction1, correction2_sqrt in zip(bias1.numpy(), bias2.sqrt().numpy(), strict=True):
        gradient = fma(p, decay, np.zeros_like(p)) if weight_decay else np.zeros_like(p)
        m = fma(beta1, m, fma(-beta1, gradient, gradient))
        v = fma(beta2, v, fma(-beta2, gradient * gradient, gradient * gradient))
        step_size = np.float32(rate) / correction1
        p = p - step_size * m / (np.sqrt(v) / correction2_sqrt + eps)
    return p, m, v


def compare(shape, steps, weight_decay, betas):
    """Raise AssertionError unless kernel and transcription agree to the last bit."""
    random = np.random.default_rng(1)

    def drawn(smallest, largest):
        values = random.normal(size=shape) * 10.0 ** random.uniform(smallest, largest, size=shape)
        return values.astype(np.float32)

    p, m, v = drawn(-9, 2), drawn(-44, 1), np.abs(drawn(-44, 2))
    group = {"betas": betas, "eps": 1e-8, "weight_decay": weight_decay}
    parameter, *moments = (torch.from_numpy(value.copy()) for value in (p, m, v))
    state = {"step": torch.tensor(steps), "exp_avg": moments[0], "exp_avg_sq": moments[1]}
    before, expected = p, (p, m, v)
    for group["lr"], count in RATES:
        adam_kernel.take_steps([parameter], [state], count, group)
        expected = emulated(*expected, steps, group["lr"], count, betas, weight_decay, 1e-8)
        for ours, theirs in zip((parameter, *moments), expected, strict=True):
            np.testing.assert_array_equal(ours.numpy(), theirs)
        steps += count
        assert state["step"] == steps
    assert not np.array_equal(parameter.numpy(), before)


def operations():
    """Compile the kernel for an H100, which needs no GPU, and return the float32 operations of its assembly."""
    names = adam_kernel._steps.arg_names
    kinds = ["*fp32"] * 5 + ["i32"] * 2 + ["fp32"] * 5 + ["constexpr"]
    found = set()
    for decayed in (True, False):
        source = ASTSource(adam_kernel._steps, dict(zip(names, kinds, strict=True)), {names[-1]: decayed})
        assembly = triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["ptx"]
        found |= set(re.findall(r"\b(?!ld|st|mov)[a-z][a-z0-9.]*\.f32\b", assembly))
    return found


if __name__ == "__main__":
    if sys.argv[1:] == ["--build"]:
        print(*operations())
    else:
        for case in CASES:
            compare(*case)
