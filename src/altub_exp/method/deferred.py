"""Adam's steps with zero gradients, deferred until the parameters are read, and then taken together.

A step of an Adam over several parts, of which only one has a gradient, moves the other parts by their momentum. Their
values depend on their own state and on η₁ only, so that these steps can wait; the numbers are the same to the last bit.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from altub_exp.machine.terminal import log
from altub_exp.machine.triton_kernels import built


class DeferredSteps:
    """The deferred steps of each part of an Adam whose gradients count as zero, not as missing, once they were there.

    Gradients of parts that are not in use are None, so that Adam skips them.

    Args:
        adam: the optimizer over all parts.
        parts: the parameters of each part.
        kernel: True takes the steps in one kernel on a GPU, False one by one.

    Attributes:
        graded: the parameters that have had a gradient; all others rest.
    """

    def __init__(self, adam: torch.optim.Adam, parts: Sequence[Sequence[nn.Parameter]], *, kernel: bool) -> None:
        of_adam = {parameter for group in adam.param_groups for parameter in group["params"]}
        self._adam, self._kernel = adam, kernel
        self._parts = [of_adam.intersection(part) for part in parts]
        self._rates: list[list[float]] = [[] for _ in parts]
        self.graded: set[nn.Parameter] = set()

    def keep(self, parameters: Iterable[nn.Parameter]) -> None:
        """Give a gradient of zeros to those of these parameters that have none any more, but had one."""
        for parameter in parameters:
            if parameter.grad is not None:
                self.graded.add(parameter)
            elif parameter in self.graded:
                parameter.grad = torch.zeros_like(parameter)

    def restore(self, graded: Iterable[nn.Parameter]) -> None:
        """Begin anew with the parameters that have had a gradient, and without deferred steps."""
        self.graded, self._rates = set(graded), [[] for _ in self._parts]

    def defer(self, part: int) -> None:
        """Note a step at the present η₁ for all parts but this one."""
        for rates in (*self._rates[:part], *self._rates[part + 1 :]):
            rates.append(self._adam.param_groups[0]["lr"])

    def settle(self, part: int) -> None:
        """Take the deferred steps of a part; gradients may become None."""
        rates, self._rates[part] = self._rates[part], []
        moving = self._parts[part] & self.graded
        if not (rates and moving):
            return
        for group in self._adam.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter in moving]
            if parameters and self._kernel and _take_by_kernel(self._adam, parameters, rates, group):
                moving -= set(parameters)
        if moving:
            _take(self._adam, moving, rates)

    def settle_all(self) -> None:
        """Take the deferred steps of all parts."""
        for part in range(len(self._parts)):
            self.settle(part)


def _take(adam: torch.optim.Adam, parameters: set[nn.Parameter], rates: Sequence[float]) -> None:
    """Take steps with zero gradients one by one; afterwards Adam's parameters have none."""
    adam.zero_grad()
    before = [group["lr"] for group in adam.param_groups]
    zeros = next(iter(parameters)).new_zeros(max(parameter.numel() for parameter in parameters))
    for parameter in parameters:
        parameter.grad = zeros[: parameter.numel()].view_as(parameter)
    for rate in rates:
        for group in adam.param_groups:
            group["lr"] = rate
        adam.step()
    adam.zero_grad()
    for group, rate in zip(adam.param_groups, before, strict=True):
        group["lr"] = rate


def _take_by_kernel(
    adam: torch.optim.Adam, parameters: Sequence[nn.Parameter], rates: Sequence[float], group: dict[str, Any]
) -> bool:
    """Take steps in one kernel, and return True; return False, and take none, if it does not serve these parameters."""
    states = [adam.state.get(parameter) for parameter in parameters]
    served = all(parameter.is_cuda and parameter.dtype == torch.float32 for parameter in parameters)
    if not served or not all(states) or not all(parameter.is_contiguous() for parameter in parameters):
        return False
    kernel = _kernel(parameters[0].device, *group["betas"], group["weight_decay"], group["eps"])
    if kernel is None:
        return False
    kernel.take_steps([parameter.data for parameter in parameters], states, rates, group)
    return True


@functools.cache
def _kernel(device: torch.device, beta1: float, beta2: float, weight_decay: float, eps: float) -> Any:
    """Return the module of the kernel, if it can be built and agrees with PyTorch's Adam; otherwise warn."""

    def build() -> Any:
        from altub_exp.method import adam_kernel

        options = {"betas": (beta1, beta2), "weight_decay": weight_decay, "eps": eps}
        return adam_kernel, agrees(adam_kernel.take_steps, device, options)

    kernel, agreed = built(build, "The optimizer of the decoders") or (None, True)
    if not agreed:
        log.warning(
            "The optimizer of the decoders is slower than it could be on this GPU: PyTorch %s computes Adam's steps in "
            "another way than the kernel that takes many at once.",
            torch.__version__,
        )
        return None
    return kernel


def agrees(take_steps: Any, device: torch.device, options: dict[str, Any]) -> bool:
    """Return True if steps with zero gradients equal those of PyTorch's Adam to the last bit on numbers of all sizes.

    Args:
        take_steps: has the arguments of :func:`altub_exp.method.adam_kernel.take_steps`.
        device: the device of the comparison.
        options: Adam's ``betas``, ``weight_decay`` and ``eps``.
    """
    random = torch.Generator().manual_seed(0)

    def drawn(smallest: float, largest: float) -> Tensor:
        exponents = smallest + (largest - smallest) * torch.rand(4099, generator=random)
        return (torch.randn(4099, generator=random) * 10**exponents).to(device)

    rates = [2e-4] * 9 + [1e-3] * 24
    for steps in (0.0, 1.0, 30.0, 1e4, 3e6):
        values = drawn(-9, 2)
        state = {
            "step": torch.full((), steps, device=device),
            "exp_avg": drawn(-44, 1),
            "exp_avg_sq": drawn(-44, 2).abs(),
        }
        parameter = nn.Parameter(values.clone())
        adam = torch.optim.Adam([parameter], fused=True, **options)
        adam.state[parameter] = {name: value.clone() for name, value in state.items()}
        _take(adam, {parameter}, rates)
        take_steps([values], [state], rates, options)
        pairs = [(parameter, values), *((adam.state[parameter][name], state[name]) for name in state)]
        if not all(torch.equal(of_adam, ours) for of_adam, ours in pairs):
            return False
    return True
