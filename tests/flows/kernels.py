"""The Triton kernels of a coupling block against the block's own operations.

``TRITON_INTERPRET=1 python -m tests.flows.kernels`` has Triton interpret them on the CPU, which must be said before
Triton is imported; on a GPU tests call :func:`compare`. ``--build`` compiles them for an H100, which needs no GPU.
"""

import itertools
import sys

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from altub_exp.flows import coupling_kernels

CASES = list(itertools.product([(6, 3, 5), (7, 24, 25), (20, 11, 12), (7,), (20,)], [True, False]))
"""((C, H, W) of maps or (C,) of fibres, True if channels are permuted)."""


def plain(x, a, scale, offset, alpha, order):
    """Compute FrEIA's formula with autograd's gradients."""
    s, t = a.chunk(2, dim=1)
    passive = x.shape[1] - s.shape[1]
    log_scale = alpha * torch.tanh(0.1 * s)
    u = torch.cat([x[:, :passive], x[:, passive:] * log_scale.exp() + 0.1 * t], dim=1) * scale + offset
    return u if order is None else u[:, order], log_scale.flatten(1).sum(dim=1)


def compare(shape, permuted, device="cpu"):
    """Raise AssertionError if the numbers differ by more than rounding."""
    generator = torch.Generator().manual_seed(1)
    channels, *size = shape

    def drawn(*shape, scale=1.0):
        return (scale * torch.randn(*shape, generator=generator)).to(device)

    passive, batch = channels - channels // 2, 3 if size else 600
    x, a = drawn(batch, channels, *size), drawn(batch, 2 * (channels - passive), *size, scale=8.0)
    a.flatten()[:3] = torch.tensor([0.0, 900.0, -900.0])
    scale, offset = (drawn(1, channels, *[1] * len(size)) for _ in range(2))
    order = torch.randperm(channels, generator=generator).to(device) if permuted else None
    inverse = None if order is None else order.argsort()

    entering = [part.clone().requires_grad_() for part in (x, a, scale, offset)]
    z, log_det = plain(*entering, 1.9, order)
    of_z, of_log_det = drawn(*z.shape), drawn(batch)
    expected = torch.autograd.grad((z, log_det), entering, (of_z, of_log_det))
    found = coupling_kernels.couple(x, a, scale, offset, 1.9, inverse)
    gradients = coupling_kernels.gradients(x, a, scale, of_z, of_log_det, 1.9, inverse)
    for ours, theirs in zip((*found, *gradients), (z, log_det, *expected), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2e-6, atol=4e-6 * theirs.abs().max().item())


def build():
    """Compile both kernels for maps and for fibres, with and without a permutation."""
    for kernel, permuted, fibres in itertools.product(
        (coupling_kernels._coupled, coupling_kernels._gradients), (True, False), (True, False)
    ):
        kinds = dict.fromkeys(kernel.arg_names, "i32") | {"alpha": "fp32", "inverse": "*i64"}
        kinds |= {name: "*fp32" for name in kernel.arg_names[: kernel.arg_names.index("channels")] if name != "inverse"}
        ones = ["channel_stride"] if fibres else ["position_stride", "a_position_stride"]
        constants = dict.fromkeys(ones, 1) | {"PERMUTED": permuted, "FIBRES": fibres}
        source = ASTSource(kernel, kinds | dict.fromkeys(constants, "constexpr"), constants)
        assembly = triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["ptx"]
        print(kernel.__name__, permuted, fibres, len(assembly.splitlines()))


if __name__ == "__main__":
    if sys.argv[1:] == ["--build"]:
        build()
    else:
        for case in CASES:
            compare(*case)
