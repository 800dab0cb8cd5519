"""The alternating schedule (paper: Algorithm 1): the parameters that move in each epoch.

Paper: Kim, Jang et al. 2022, AltUB, https://arxiv.org/abs/2210.14913.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple


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
