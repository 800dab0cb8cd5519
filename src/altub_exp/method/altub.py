"""The alternating schedule (paper: Algorithm 1): the parameters that move in each epoch, and their optimizers.

Paper: Kim, Jang et al. 2022, AltUB, https://arxiv.org/abs/2210.14913.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from altub_exp.flows.flow import FibreFlow
from altub_exp.machine.cuda_graphs import CudaGraphs
from altub_exp.method.deferred import DeferredSteps
from altub_exp.method.density import Density

Clipping = Callable[[list[nn.Parameter], float], object]
Part = tuple[list[nn.Parameter], list[nn.Parameter]]
"""(θ, ψ): parameters of the flow and of the base distributions that share optimizers."""

CLIPPINGS: dict[str, Clipping] = {
    "value": nn.utils.clip_grad_value_,
    "norm": nn.utils.clip_grad_norm_,
    "none": lambda parameters, bound: None,
}


class Phase(NamedTuple):
    """The parameters that move in an epoch.

    Attributes:
        theta: True if Adam moves θ at η₁.
        psi: the optimizer of ψ: Adam, together with θ, or plain SGD at η₂; None if ψ stays as it is.
    """

    theta: bool
    psi: Literal["adam", "sgd"] | None


PHASES = {
    "joint": Phase(theta=True, psi="adam"),
    "psi_only": Phase(theta=False, psi="sgd"),
    "constant": Phase(theta=True, psi="sgd"),
    "theta_only": Phase(theta=True, psi=None),
}
"""``joint`` and ``psi_only`` are those of Algorithm 1; ``constant`` is the consistently high rate of ψ that section 4.3
warns of; ``theta_only`` is the original method."""


@dataclass(frozen=True)
class Alternation:
    """The phase of each epoch; epochs count from 1.

    Attributes:
        interval: the freezing interval; None never freezes the flow.
        count_from: the number that Algorithm 1 gives to the first epoch, 1 or 0.
        idle: number of first epochs in which the flow is not frozen.
        cycle: epochs that the interval counts as one, such as the sub-epochs of a meta-epoch.
        joint: the phase of epochs in which the flow moves.
        first: the phase of the idle epochs.

    >>> [epoch for epoch in range(1, 12) if Alternation(interval=5).psi_only(epoch)]
    [5, 10]
    >>> [epoch for epoch in range(1, 12) if Alternation(interval=5, count_from=0).psi_only(epoch)]
    [1, 6, 11]
    >>> [epoch for epoch in range(1, 22) if Alternation(interval=5, idle=16).psi_only(epoch)]
    [20]
    >>> [epoch for epoch in range(1, 16) if Alternation(interval=3, cycle=2).psi_only(epoch)]
    [5, 6, 11, 12]
    """

    interval: int | None
    count_from: int = 1
    idle: int = 0
    cycle: int = 1
    joint: Phase = PHASES["joint"]
    first: Phase = PHASES["theta_only"]

    def phase(self, epoch: int) -> Phase:
        """Return the phase of an epoch: ψ-only if ``E mod FreezingInterval = 0``, after the idle epochs."""
        if epoch <= self.idle:
            return self.first
        if self.interval is not None and ((epoch - 1) // self.cycle + self.count_from) % self.interval == 0:
            return PHASES["psi_only"]
        return self.joint

    def psi_only(self, epoch: int) -> bool:
        """Return True if the flow is frozen in this epoch."""
        return not self.phase(epoch).theta


def parts_of(density: Density, *, per_scale: bool = False) -> list[Part]:
    """Return the parameters that move, (θ, ψ): of the whole density, or of each scale of a FibreFlow."""
    if not per_scale:
        return [(list(_trainable(density.flow.parameters())), list(density.bases.parameters()))]
    scales = cast("FibreFlow", density.flow).scales
    return [
        (list(_trainable(scale.parameters())), list(base.parameters()))
        for scale, base in zip(scales, density.bases, strict=True)
    ]


def _joined(parts: Sequence[Part]) -> Part:
    thetas, psis = zip(*parts, strict=True)
    return list(itertools.chain(*thetas)), list(itertools.chain(*psis))


def _trainable(parameters: Iterator[nn.Parameter]) -> Iterator[nn.Parameter]:
    return (parameter for parameter in parameters if parameter.requires_grad)


class AlternatingOptimizer:
    """Adam at η₁ on θ, and on ψ in joint epochs; plain SGD at η₂ on ψ in ψ-only epochs, the flow frozen.

    ψ has no state in Adam if the schedule leaves it to SGD in all epochs. A step has one backward pass.

    η₂(t) = max_lr · η₁(t) / max η₁, so that its largest value is ``max_lr`` (paper: section 5.6).

    Args:
        parts: (θ, ψ) of each part with separate optimizers, see :func:`parts_of`.
        lr: the largest η₁.
        weight_decay: weight decay of θ in Adam.
        psi_weight_decay: weight decay of ψ in Adam; SGD has none.
        alternation: the phase of each epoch.
        max_lr: the largest η₂.
        momentum: momentum of the SGD on ψ.
        clip: ``value``, ``norm`` or ``none``: the clipping of ψ's gradient before steps of SGD.
        clip_value: bound of the clipping.
        clip_jointly: True clips ψ's gradient before steps of Adam too.
        betas: Adam's betas.
        eps: Adam's ε.
        grad_norm: bound on the norm of θ's gradient in each part; None does not clip it.
        keep_gradients: set gradients to zero instead of dropping them, so that every step also moves, by their
            momentum, parameters that its loss does not depend on, as in the PyTorch of CFLOW-AD's publication. All
            parts then share one Adam, whose steps with zero gradients are deferred, see :meth:`settle`.
        kernel: take the deferred steps in one kernel on a GPU, instead of one by one.
        graphs: records the passes as CUDA graphs; losses must repeat the same operations for any values of their
            inputs. None executes passes operation by operation.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        *,
        lr: float,
        weight_decay: float,
        psi_weight_decay: float,
        alternation: Alternation,
        max_lr: float = 0.05,
        momentum: float = 0.0,
        clip: str = "value",
        clip_value: float = 100.0,
        clip_jointly: bool = False,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        grad_norm: float | None = None,
        keep_gradients: bool = False,
        kernel: bool = True,
        graphs: CudaGraphs | None = None,
    ) -> None:
        self.alternation, self.graphs = alternation, graphs
        self._optimized = [_joined(parts)] if keep_gradients else list(parts)
        separable = grad_norm is None and clip != "norm" and momentum == 0  # no step depends on all gradients
        self.parts = list(parts) if separable else self._optimized
        self.joint: list[torch.optim.Adam] = []
        self.alone: list[torch.optim.SGD] = []
        for theta, psi in self._optimized:
            groups: list[dict[str, Any]] = [{"params": theta, "weight_decay": weight_decay}]
            if psi:
                if alternation.joint.psi == "adam":
                    groups.append({"params": psi, "weight_decay": psi_weight_decay})
                self.alone.append(torch.optim.SGD(psi, lr=max_lr, momentum=momentum))
            self.joint.append(torch.optim.Adam(groups, lr=lr, betas=betas, eps=eps, fused=True))
        self._deferred: DeferredSteps | None = None
        if keep_gradients:
            self._deferred = DeferredSteps(self.joint[0], [theta + psi for theta, psi in self.parts], kernel=kernel)
        self._max_eta1, self._max_eta2 = lr, max_lr
        self._clipping, self._clip_value, self._clip_jointly = CLIPPINGS[clip], clip_value, clip_jointly
        self._grad_norm = grad_norm

    def step(
        self, loss: Callable[..., Sequence[Tensor]], epoch: int, part: int = 0, inputs: Sequence[Tensor] = ()
    ) -> Sequence[Tensor]:
        """Take one step, and return the outputs of the loss before it, detached.

        A non-finite loss is returned like any other; the caller judges.

        Args:
            loss: called with True if the flow is frozen, and the inputs; returns a scalar, and further outputs.
            epoch: counted from 1; decides which parameters move.
            part: number of the part whose optimizers step.
            inputs: tensors that the loss reads besides the parameters.
        """
        phase = self.phase(epoch)
        theta, psi = self.parts[part]
        number = part if len(self.joint) > 1 else 0
        for parameter in psi:
            parameter.requires_grad_(phase.psi is not None)

        def differentiated(*given: Tensor) -> Sequence[Tensor]:
            outputs = loss(not phase.theta, *given)
            outputs[0].backward()  # type: ignore[no-untyped-call]
            return [output.detach() for output in outputs]

        if self._deferred is not None:
            self._deferred.settle(part)
        for optimizer in (self.joint[number], *self.alone[number : number + 1]):
            optimizer.zero_grad()
        if self.graphs is None:
            outputs = differentiated(*inputs)
        else:
            outputs = self.graphs((part, phase), differentiated, inputs, theta + psi)
        if self._deferred is not None:
            self._deferred.keep([*(theta if phase.theta else ()), *psi])
        if phase.psi == "sgd" or (phase.psi == "adam" and self._clip_jointly):
            self._clipping(psi, self._clip_value)
        if phase.psi == "sgd":
            self.alone[number].param_groups[0]["lr"] = self.eta2()
            self.alone[number].step()
        if phase.theta:
            if self._grad_norm is not None:
                nn.utils.clip_grad_norm_(theta, self._grad_norm)
            if self._deferred is not None:
                self._deferred.defer(part)
            self.joint[number].step()
        return outputs

    def settle(self) -> None:
        """Take all deferred steps; only then may parameters be read, except by the loss of the next step."""
        if self._deferred is not None:
            self._deferred.settle_all()

    def phase(self, epoch: int) -> Phase:
        """Return the phase of an epoch, counted from 1; without ψ all epochs move θ only."""
        return self.alternation.phase(epoch) if self.alone else PHASES["theta_only"]

    def psi_only(self, epoch: int) -> bool:
        """Return True if this epoch, counted from 1, moves ψ only."""
        return not self.phase(epoch).theta

    def set_lr(self, lr: float) -> None:
        """Set η₁; η₂ follows."""
        for adam in self.joint:
            for group in adam.param_groups:
                group["lr"] = lr

    def eta2(self) -> float:
        """Return η₂ at the present η₁."""
        return float(self._max_eta2 * (self.joint[0].param_groups[0]["lr"] / self._max_eta1))

    def state_dict(self) -> dict[str, Any]:
        """Return the states of all optimizers, and for each parameter True if it has a gradient, also a zero one."""
        self.settle()
        graded = {p for theta, psi in self.parts for p in theta + psi if p.grad is not None}
        if self._deferred is not None:
            graded = self._deferred.graded
        return {
            "joint": [adam.state_dict() for adam in self.joint],
            "alone": [sgd.state_dict() for sgd in self.alone],
            "graded": [[parameter in graded for parameter in theta + psi] for theta, psi in self._optimized],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the states of a checkpoint."""
        for key, optimizers in (("joint", self.joint), ("alone", self.alone)):
            for optimizer, saved in zip(optimizers, state[key], strict=True):
                optimizer.load_state_dict(saved)
        parameters = [parameter for theta, psi in self._optimized for parameter in theta + psi]
        graded = dict(zip(parameters, itertools.chain(*state["graded"]), strict=True))
        if self._deferred is not None:
            self._deferred.restore(parameter for parameter in parameters if graded[parameter])
        else:
            for parameter in parameters:
                parameter.grad = torch.zeros_like(parameter) if graded[parameter] else None
