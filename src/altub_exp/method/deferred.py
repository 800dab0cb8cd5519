"""Adam's steps with zero gradients, deferred until the parameters are read, and then taken together.

A step of an Adam over several parts, of which only one has a gradient, moves the other parts by their momentum. Their
values depend on their own state and on η₁ only, so that these steps can wait; the numbers are the same to the last bit.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from altub_exp.machine.terminal import log
from altub_exp.machine.triton_kernels import built

State = dict[str, Tensor]
Group = dict[str, Any]
Take = Callable[[Sequence[Tensor], Sequence[State], int, Group], None]


class DeferredSteps:
    """The deferred steps of each part of an Adam whose gradients count as zero, not as missing, once they were there.

    Gradients of parts that are not in use are None, so that Adam skips them.

    Args:
        adam: the optimizer over all parts.
        parts: the parameters of each part.
        kernel: True takes the steps in one kernel on a GPU, False one by one.

    Attributes:
        graded: the parameters of each part that have had a gradient; all others rest.
    """

    def __init__(self, adam: torch.optim.Adam, parts: Sequence[Sequence[nn.Parameter]], *, kernel: bool) -> None:
        of_adam = {parameter for group in adam.param_groups for parameter in group["params"]}
        self._adam, self._kernel = adam, kernel
        self._parts = [of_adam.intersection(part) for part in parts]
        self._before, self._after = [0] * len(parts), [0] * len(parts)
        self.graded: list[set[nn.Parameter]] = [set() for _ in parts]

    def keep(self, part: int, parameters: Iterable[nn.Parameter]) -> None:
        """Give a gradient of zeros to those of these parameters of a part that have none any more, but had one."""
        for parameter in parameters:
            if parameter.grad is not None:
                self.graded[part].add(parameter)
            elif parameter in self.graded[part]:
                parameter.grad = torch.zeros_like(parameter)

    def plan(self, steps: Sequence[int]) -> None:
        """Announce the steps of each part, one part after the other; in those of the others a part has a zero gradient.

        η₁ must not change until all parts have ended.
        """
        for part, own in enumerate(steps):
            self._before[part] = sum(steps[:part])
            self._after[part] = sum(steps) - own - self._before[part]

    def begin(self, part: int) -> None:
        """Take the steps that stand before a part's own, if they are not taken yet."""
        count, self._before[part] = self._before[part], 0
        self._take(part, count)

    def end(self, part: int) -> None:
        """Take all steps of a part that are left, after its own."""
        self.begin(part)
        count, self._after[part] = self._after[part], 0
        self._take(part, count)

    def _take(self, part: int, count: int) -> None:
        moving = self._parts[part] & self.graded[part] if count else set()
        if not moving:
            return
        for group in self._adam.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter in moving]
            if parameters:
                states = [self._adam.state[parameter] for parameter in parameters]
                for parameter, state in zip(parameters, states, strict=True):
                    if not state:
                        state |= first_state(parameter)
                kernel = kernel_for(parameters, group) if self._kernel else None
                (kernel or take_steps)([parameter.data for parameter in parameters], states, count, group)


def first_state(parameter: Tensor) -> State:
    """Return the state of a parameter in PyTorch's fused Adam before its first step."""
    moments = torch.zeros_like(parameter), torch.zeros_like(parameter)
    return {"step": torch.zeros((), device=parameter.device), "exp_avg": moments[0], "exp_avg_sq": moments[1]}


@torch.no_grad()
def take_steps(parameters: Sequence[Tensor], states: Sequence[State], count: int, group: Group) -> None:
    """Take so many steps of PyTorch's fused Adam with zero gradients, in place.

    Args:
        parameters: tensors on one device, of one type.
        states: Adam's state of each.
        count: number of steps.
        group: the options of the parameters' group in Adam, with ``lr``, η₁.
    """
    zeros = parameters[0].new_zeros(max(parameter.numel() for parameter in parameters))
    gradients = [zeros[: parameter.numel()].view_as(parameter) for parameter in parameters]
    counts, means, squares = ([state[key] for state in states] for key in ("step", "exp_avg", "exp_avg_sq"))
    (beta1, beta2), options = group["betas"], {name: group[name] for name in ("lr", "weight_decay", "eps")}
    options |= {"beta1": beta1, "beta2": beta2, "amsgrad": False, "maximize": False}
    for _ in range(count):
        torch._foreach_add_(counts, 1)
        torch._fused_adam_([*parameters], gradients, means, squares, [], counts, **options)


def kernel_for(parameters: Sequence[Tensor], group: Group) -> Take | None:
    """Return the function of the kernel with the arguments of :func:`take_steps`; None if it does not serve these."""
    for parameter in parameters:
        if not (parameter.is_cuda and parameter.dtype == torch.float32 and parameter.is_contiguous()):
            return None
    return _kernel(parameters[0].device, *group["betas"], group["weight_decay"], group["eps"])


@functools.cache
def _kernel(device: torch.device, beta1: float, beta2: float, weight_decay: float, eps: float) -> Take | None:
    """Build the kernel; where that fails, or it disagrees with PyTorch's Adam, log a warning and return None."""

    def build() -> tuple[Take, bool]:
        from altub_exp.method import adam_kernel

        options = {"betas": (beta1, beta2), "weight_decay": weight_decay, "eps": eps}
        return adam_kernel.take_steps, agrees(adam_kernel.take_steps, device, options)

    take, agreed = built(build, "The optimizer of the decoders") or (None, True)
    if not agreed:
        log.warning(
            "The optimizer of the decoders is slower than it could be on this GPU: PyTorch %s computes Adam's steps in "
            "another way than the kernel that takes many at once.",
            torch.__version__,
        )
    return take if agreed else None


def agrees(take: Take, device: torch.device, options: Group) -> bool:
    """Return True if steps with zero gradients equal those of PyTorch's Adam to the last bit on numbers of all sizes.

    Args:
        take: has the arguments of :func:`take_steps`.
        device: the device of the comparison.
        options: Adam's ``betas``, ``weight_decay`` and ``eps``.
    """
    random = torch.Generator().manual_seed(0)

    def drawn(smallest: float, largest: float) -> Tensor:
        exponents = smallest + (largest - smallest) * torch.rand(4099, generator=random)
        return (torch.randn(4099, generator=random) * 10**exponents).to(device)

    for steps in (0.0, 1.0, 30.0, 1e4, 3e6):
        values, moments = drawn(-9, 2), (drawn(-44, 1), drawn(-44, 2).abs())
        state = {"step": torch.full((), steps, device=device), "exp_avg": moments[0], "exp_avg_sq": moments[1]}
        parameter = nn.Parameter(values.clone())
        parameter.grad = torch.zeros_like(parameter)
        adam = torch.optim.Adam([parameter], fused=True, **options)
        (group,) = adam.param_groups
        adam.state[parameter] = {name: value.clone() for name, value in state.items()}
        for group["lr"], count in ((2e-4, 9), (1e-3, 24)):
            for _ in range(count):
                adam.step()
            take([values], [state], count, group)
        pairs = [(parameter, values), *((adam.state[parameter][name], state[name]) for name in state)]
        if not all(torch.equal(of_adam.view(torch.int32), ours.view(torch.int32)) for of_adam, ours in pairs):
            return False
    return True
