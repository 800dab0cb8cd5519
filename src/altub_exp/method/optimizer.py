"""The optimizers of the alternating schedule (paper: Algorithm 1), and their steps.

Paper: Kim, Jang et al. 2022, AltUB, https://arxiv.org/abs/2210.14913.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn

from altub_exp.flows.flow import FibreFlow
from altub_exp.machine.cuda_graphs import CudaGraphs
from altub_exp.method.deferred import DeferredSteps
from altub_exp.method.density import Density
from altub_exp.method.schedule import PHASES, Alternation, Phase

Clipping = Callable[[list[nn.Parameter], float], object]
Part = tuple[list[nn.Parameter], list[nn.Parameter]]
"""(θ, ψ): parameters of the flow and of the base distributions that share optimizers."""

CLIPPINGS: dict[str, Clipping] = {
    "value": nn.utils.clip_grad_value_,
    "norm": nn.utils.clip_grad_norm_,
    "none": lambda parameters, bound: None,
}


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
            parts then share one Adam, whose steps with zero gradients are deferred, see :meth:`batch`.
        kernel: take the deferred steps in one kernel on a GPU, instead of one by one.
        graphs: records whole steps as CUDA graphs; losses must repeat the same operations for any values of their
            inputs, and those of different parts must share nothing that changes. None executes steps operation by
            operation.
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
        self._lanes = graphs.lanes(len(self.parts)) if graphs is not None and len(self.parts) > 1 else []
        self.joint: list[torch.optim.Adam] = []
        self.alone: list[torch.optim.SGD] = []
        recorded = graphs is not None
        for theta, psi in self._optimized:
            groups: list[dict[str, Any]] = [{"params": theta, "weight_decay": weight_decay}]
            if psi:
                if alternation.joint.psi == "adam":
                    groups.append({"params": psi, "weight_decay": psi_weight_decay})
                self.alone.append(torch.optim.SGD(psi, lr=max_lr, momentum=momentum, fused=recorded))
            adam = torch.optim.Adam(groups, lr=lr, betas=betas, eps=eps, fused=True, capturable=recorded)
            self.joint.append(adam)
        self._deferred: DeferredSteps | None = None
        if keep_gradients:
            self._deferred = DeferredSteps(self.joint[0], [theta + psi for theta, psi in self.parts], kernel=kernel)
        if recorded:
            for group in self._groups():
                group["lr"] = torch.tensor(group["lr"], device=group["params"][0].device)  # is not part of a recording
        self._eta1, self._max_eta1, self._max_eta2 = lr, lr, max_lr
        self._clipping, self._clip_value, self._clip_jointly = CLIPPINGS[clip], clip_value, clip_jointly
        self._grad_norm = grad_norm

    @contextmanager
    def batch(self, steps: Sequence[int], epoch: int) -> Iterator[None]:
        """Take the steps on a batch in this context, so many of each part, in any order of the parts.

        The numbers are those of all steps of the first part, then all of the second one, and so on. On a GPU the parts
        are trained side by side, and results may be read after the context.
        """
        if self._deferred is not None and self.phase(epoch).theta:
            self._deferred.plan(steps)
        for lane in self._lanes:
            lane.wait()
        yield
        if self._deferred is not None:
            for part in range(len(self.parts)):
                with self._lane(part):
                    self._deferred.end(part)
        for lane in self._lanes:
            lane.join()

    def step(
        self,
        loss: Callable[..., Sequence[Tensor]],
        epoch: int,
        part: int = 0,
        inputs: Sequence[Tensor] = (),
        kind: Hashable = None,
    ) -> Sequence[Tensor]:
        """Take one step, and return the outputs of the loss before it, detached.

        A non-finite loss is returned like any other; the caller judges. If there are several parts, steps are taken
        within :meth:`batch`.

        Args:
            loss: called with True if the flow is frozen, and the inputs; returns a scalar, and further outputs.
            epoch: counted from 1; decides which parameters move.
            part: number of the part whose optimizers step.
            inputs: tensors that the loss reads besides the parameters.
            kind: distinguishes the losses of a part.
        """
        phase = self.phase(epoch)

        def taken(*given: Tensor) -> Sequence[Tensor]:
            return self._take(lambda frozen: loss(frozen, *given), phase, part)

        with self._lane(part):
            if self._deferred is not None:
                self._deferred.begin(part)
            graphs = self._lanes[part] if self._lanes else self.graphs
            if graphs is None:
                return taken(*inputs)
            theta, psi = self.parts[part]
            graded = len(self._deferred.graded[part]) if self._deferred is not None else 0
            return graphs((part, kind, phase, graded), taken, inputs, theta + psi)

    def _take(self, loss: Callable[[bool], Sequence[Tensor]], phase: Phase, part: int) -> Sequence[Tensor]:
        """Compute the gradients of a part, and move it."""
        theta, psi = self.parts[part]
        number = part if len(self.joint) > 1 else 0
        for parameter in psi:
            parameter.requires_grad_(phase.psi is not None)
        for optimizer in (self.joint[number], *self.alone[number : number + 1]):
            optimizer.zero_grad()
        outputs = loss(not phase.theta)
        outputs[0].backward()  # type: ignore[no-untyped-call]
        if self._deferred is not None:
            self._deferred.keep(part, [*(theta if phase.theta else ()), *psi])
        if phase.psi == "sgd" or (phase.psi == "adam" and self._clip_jointly):
            self._clipping(psi, self._clip_value)
        if phase.psi == "sgd":
            self.alone[number].step()
        if phase.theta:
            if self._grad_norm is not None:
                nn.utils.clip_grad_norm_(theta, self._grad_norm)
            self.joint[number].step()
        return [output.detach() for output in outputs]

    def _lane(self, part: int) -> AbstractContextManager[object]:
        return self._lanes[part].in_use() if self._lanes else nullcontext()

    def phase(self, epoch: int) -> Phase:
        """Return the phase of an epoch, counted from 1; without ψ all epochs move θ only."""
        return self.alternation.phase(epoch) if self.alone else PHASES["theta_only"]

    def psi_only(self, epoch: int) -> bool:
        """Return True if this epoch, counted from 1, moves ψ only."""
        return not self.phase(epoch).theta

    def set_lr(self, lr: float) -> None:
        """Set η₁; η₂ follows."""
        self._eta1 = lr
        for group in self._groups():
            rate = lr if "betas" in group else self.eta2()
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def eta2(self) -> float:
        """Return η₂ at the present η₁."""
        return float(self._max_eta2 * (self._eta1 / self._max_eta1))

    def _groups(self) -> list[dict[str, Any]]:
        return [group for optimizer in (*self.joint, *self.alone) for group in optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Return the states of all optimizers, and for each parameter True if it has a gradient, also a zero one."""
        graded = {p for theta, psi in self.parts for p in theta + psi if p.grad is not None}
        if self._deferred is not None:
            graded = set().union(*self._deferred.graded)
        return {
            "joint": [adam.state_dict() for adam in self.joint],
            "alone": [sgd.state_dict() for sgd in self.alone],
            "graded": [[parameter in graded for parameter in theta + psi] for theta, psi in self._optimized],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the states of a checkpoint, of any device."""
        own = [{name: group.get(name) for name in ("lr", "fused", "capturable")} for group in self._groups()]
        for key, optimizers in (("joint", self.joint), ("alone", self.alone)):
            for optimizer, saved in zip(optimizers, state[key], strict=True):
                optimizer.load_state_dict(saved)
        for store in (self.graphs, *self._lanes):
            if store is not None:
                store.forget()
        for group, options in zip(self._groups(), own, strict=True):
            group.update((name, value) for name, value in options.items() if name in group)
        self.set_lr(float(state["joint"][0]["param_groups"][0]["lr"]))
        parameters = [parameter for theta, psi in self._optimized for parameter in theta + psi]
        graded = set(itertools.compress(parameters, itertools.chain(*state["graded"])))
        if self._deferred is not None:
            self._deferred.graded = [graded.intersection(theta + psi) for theta, psi in self.parts]
        else:
            for parameter in parameters:
                parameter.grad = torch.zeros_like(parameter) if parameter in graded else None
