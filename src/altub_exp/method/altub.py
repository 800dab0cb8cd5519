"""The alternating schedule (paper: Algorithm 1): the parameters that move in each epoch, and their optimizers.

Paper: Kim, Jang et al. 2022, AltUB, https://arxiv.org/abs/2210.14913.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from altub_exp.flows.flow import FibreFlow
from altub_exp.machine.cuda_graphs import CudaGraphs
from altub_exp.method.density import Density

Clipping = Callable[[list[nn.Parameter], float], object]
Part = tuple[list[nn.Parameter], list[nn.Parameter]]
"""(θ, ψ): parameters of the flow and of the base distributions that share optimizers."""

CLIPPINGS: dict[str, Clipping] = {
    "value": nn.utils.clip_grad_value_,
    "norm": nn.utils.clip_grad_norm_,
    "none": lambda parameters, bound: None,
}


@dataclass(frozen=True)
class Alternation:
    """The epochs that update ψ only; epochs count from 1.

    Attributes:
        interval: the freezing interval; None never freezes the flow.
        count_from: the number that Algorithm 1 gives to the first epoch, 1 or 0.
        idle: number of first epochs in which ψ stays as it is and the flow is not frozen.

    >>> [epoch for epoch in range(1, 12) if Alternation(interval=5).psi_only(epoch)]
    [5, 10]
    >>> [epoch for epoch in range(1, 12) if Alternation(interval=5, count_from=0).psi_only(epoch)]
    [1, 6, 11]
    >>> [epoch for epoch in range(1, 22) if Alternation(interval=5, idle=16).psi_only(epoch)]
    [20]
    """

    interval: int | None
    count_from: int = 1
    idle: int = 0

    def psi_moves(self, epoch: int) -> bool:
        """Return True if ψ is trained in this epoch at all."""
        return epoch > self.idle

    def psi_only(self, epoch: int) -> bool:
        """Return True if ``E mod FreezingInterval = 0``, after the idle epochs."""
        return (
            self.psi_moves(epoch) and self.interval is not None and (epoch - 1 + self.count_from) % self.interval == 0
        )


def parts_of(density: Density, *, per_scale: bool = False) -> list[Part]:
    """Return the parameters that move, (θ, ψ): of the whole density, or of each scale of a FibreFlow."""
    if not per_scale:
        return [(list(_trainable(density.flow.parameters())), list(density.bases.parameters()))]
    scales = cast("FibreFlow", density.flow).scales
    return [
        (list(_trainable(scale.parameters())), list(base.parameters()))
        for scale, base in zip(scales, density.bases, strict=True)
    ]


def _trainable(parameters: Iterator[nn.Parameter]) -> Iterator[nn.Parameter]:
    return (parameter for parameter in parameters if parameter.requires_grad)


class AlternatingOptimizer:
    """Adam at η₁ on θ and ψ in joint epochs; plain SGD at η₂ on ψ only, the flow frozen, in ψ-only epochs.

    η₂(t) = max_lr · η₁(t) / max η₁, so that its largest value is ``max_lr`` (paper: section 5.6).

    Args:
        parts: (θ, ψ) of each part with separate optimizers, see :func:`parts_of`.
        lr: the largest η₁.
        weight_decay: weight decay of θ in Adam.
        psi_weight_decay: weight decay of ψ in Adam; the ψ-only epochs have none.
        alternation: the schedule of ψ-only epochs.
        max_lr: the largest η₂.
        momentum: momentum of the SGD on ψ.
        clip: ``value``, ``norm`` or ``none``: the clipping of ψ's gradient.
        clip_value: bound of the clipping.
        clip_jointly: True clips ψ's gradient in joint epochs too.
        betas: Adam's betas.
        eps: Adam's ε.
        grad_norm: bound on the norm of θ's gradient in each part; None does not clip it.
        keep_gradients: set gradients to zero instead of dropping them, so that every step also moves, by their
            momentum, parameters that its loss does not depend on, as in the PyTorch of CFLOW-AD's publication.
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
        graphs: CudaGraphs | None = None,
    ) -> None:
        self.parts, self.alternation, self.graphs = list(parts), alternation, graphs
        self.joint: list[torch.optim.Adam] = []
        self.alone: list[torch.optim.SGD] = []
        for theta, psi in parts:
            groups: list[dict[str, Any]] = [{"params": theta, "weight_decay": weight_decay}]
            if psi:
                groups.append({"params": psi, "weight_decay": psi_weight_decay})
                self.alone.append(torch.optim.SGD(psi, lr=max_lr, momentum=momentum))
            self.joint.append(torch.optim.Adam(groups, lr=lr, betas=betas, eps=eps, fused=True))
        self._max_eta1, self._max_eta2 = lr, max_lr
        self._clipping, self._clip_value, self._clip_jointly = CLIPPINGS[clip], clip_value, clip_jointly
        self._grad_norm, self._keep_gradients = grad_norm, keep_gradients

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
        psi_only, psi_moves = self.psi_only(epoch), self.alternation.psi_moves(epoch)
        theta, psi = self.parts[part]
        for parameter in psi:
            parameter.requires_grad_(psi_moves)

        def differentiated(*given: Tensor) -> Sequence[Tensor]:
            outputs = loss(psi_only, *given)
            outputs[0].backward()  # type: ignore[no-untyped-call]
            return [output.detach() for output in outputs]

        self.joint[part].zero_grad(set_to_none=not self._keep_gradients)  # holds θ and ψ
        if self.graphs is None:
            outputs = differentiated(*inputs)
        else:
            outputs = self.graphs((part, psi_only, psi_moves), differentiated, inputs, theta + psi)
        if psi_only or self._clip_jointly:
            self._clipping(psi, self._clip_value)
        if psi_only:
            self.alone[part].param_groups[0]["lr"] = self.eta2()
            self.alone[part].step()
        else:
            if self._grad_norm is not None:
                nn.utils.clip_grad_norm_(theta, self._grad_norm)
            self.joint[part].step()
        return outputs

    def psi_only(self, epoch: int) -> bool:
        """Return True if this epoch, counted from 1, moves ψ only."""
        return bool(self.alone) and self.alternation.psi_only(epoch)

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
        return {
            "joint": [adam.state_dict() for adam in self.joint],
            "alone": [sgd.state_dict() for sgd in self.alone],
            "graded": [[parameter.grad is not None for parameter in theta + psi] for theta, psi in self.parts],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the states of a checkpoint."""
        for key, optimizers in (("joint", self.joint), ("alone", self.alone)):
            for optimizer, saved in zip(optimizers, state[key], strict=True):
                optimizer.load_state_dict(saved)
        for (theta, psi), graded in zip(self.parts, state["graded"], strict=True):
            for parameter, has_gradient in zip(theta + psi, graded, strict=True):
                parameter.grad = torch.zeros_like(parameter) if has_gradient else None
