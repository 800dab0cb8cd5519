"""The alternating schedule (paper: Algorithm 1): who moves in which epoch, and by which optimizer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from altub_exp.density import Density, negative_log_likelihood

Clipping = Callable[[list[nn.Parameter], float], object]

CLIPPINGS: dict[str, Clipping] = {
    "value": nn.utils.clip_grad_value_,
    "norm": nn.utils.clip_grad_norm_,
    "none": lambda parameters, bound: None,
}


@dataclass(frozen=True)
class Alternation:
    """Which epochs update ψ alone; epochs are numbered from 1.

    Attributes:
        interval: the freezing interval; None never freezes the flow.
        count_from: the number that Algorithm 1 gives to the first epoch, 1 or 0.

    >>> [epoch for epoch in range(1, 12) if Alternation(interval=5).psi_only(epoch)]
    [5, 10]
    >>> [epoch for epoch in range(1, 12) if Alternation(interval=5, count_from=0).psi_only(epoch)]
    [1, 6, 11]
    """

    interval: int | None
    count_from: int = 1

    def psi_only(self, epoch: int) -> bool:
        """Whether ``E mod FreezingInterval = 0``."""
        return self.interval is not None and (epoch - 1 + self.count_from) % self.interval == 0


class AlternatingOptimizer:
    """Adam at η₁ on θ and ψ in joint epochs; plain SGD at η₂ on ψ alone, the flow frozen, in ψ-only epochs.

    η₂(t) = max_lr · η₁(t) / max η₁, so that its largest value is ``max_lr`` (paper: section 5.6).

    Args:
        density: flow and base distributions.
        lr: η₁, constant for FastFlow.
        weight_decay: of the flow's parameters in Adam.
        psi_weight_decay: of ψ in Adam; there is none in the ψ-only epochs.
        alternation: which epochs are ψ-only.
        max_lr: the largest η₂.
        momentum: of the SGD on ψ.
        clip: ``value``, ``norm`` or ``none``: how ψ's gradient is bounded.
        clip_value: the bound.
        clip_jointly: bound ψ's gradient in joint epochs too.
    """

    def __init__(
        self,
        density: Density,
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
    ) -> None:
        self.density = density
        self.alternation = alternation
        self.theta, self.psi = list(density.theta()), list(density.psi())
        groups: list[dict[str, Any]] = [{"params": self.theta, "weight_decay": weight_decay}]
        if self.psi:
            groups.append({"params": self.psi, "weight_decay": psi_weight_decay})
        self.joint = torch.optim.Adam(groups, lr=lr)
        self.alone = torch.optim.SGD(self.psi, lr=max_lr, momentum=momentum) if self.psi else None
        self._base_lr, self._max_lr = lr, max_lr
        self._clipping, self._clip_value, self._clip_jointly = CLIPPINGS[clip], clip_value, clip_jointly

    def step(self, features: Sequence[Tensor], epoch: int) -> Tensor:
        """Take one step on a batch of features and return its loss before the step, in nats, detached.

        Epochs count from 1. A non-finite loss is returned like any other; the caller judges.
        """
        psi_only = self.psi_only(epoch)
        loss = negative_log_likelihood(self.density(features, freeze_flow=psi_only))
        self.joint.zero_grad(set_to_none=True)  # holds θ and ψ
        loss.backward()  # type: ignore[no-untyped-call]
        if psi_only or self._clip_jointly:
            self._clipping(self.psi, self._clip_value)
        if psi_only:
            assert self.alone is not None
            self.alone.param_groups[0]["lr"] = self.eta2()
            self.alone.step()
        else:
            self.joint.step()
        return loss.detach()

    def psi_only(self, epoch: int) -> bool:
        """Whether this epoch, counted from 1, moves ψ alone."""
        return self.alone is not None and self.alternation.psi_only(epoch)

    def eta2(self) -> float:
        """η₂ at the present η₁."""
        return float(self._max_lr * (self.joint.param_groups[0]["lr"] / self._base_lr))

    def state_dict(self) -> dict[str, Any]:
        """Both optimizers' states, for a checkpoint."""
        return {"joint": self.joint.state_dict(), "alone": self.alone and self.alone.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the states of a checkpoint."""
        self.joint.load_state_dict(state["joint"])
        if self.alone is not None:
            self.alone.load_state_dict(state["alone"])
