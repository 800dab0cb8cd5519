"""The learning rate of the flow: a cosine in steps of several epochs, behind a linear warm-up batch by batch."""

from __future__ import annotations

import math
from dataclasses import dataclass

WARMUP_START = 0.1  # of the largest learning rate


@dataclass(frozen=True)
class Moment:
    """A point of the training.

    Attributes:
        epoch: counted from 1.
        batch: counted from 0.
        batches: in each epoch.
    """

    epoch: int
    batch: int
    batches: int


@dataclass(frozen=True)
class LearningRate:
    """η₁ at every moment. Source: CFLOW-AD's published code; FastFlow's is constant (``final`` = 1).

    Attributes:
        largest: at the start of the cosine.
        final: what the cosine falls to, as a fraction of the largest.
        epochs: in all.
        cycle: epochs in which the cosine stands still: CFLOW-AD's sub-epochs per meta-epoch.
        warmup_epochs: in which it rises from a tenth, batch by batch, to the cosine's value after them.

    >>> cflow = LearningRate(2e-4, final=1e-3, epochs=200, cycle=8, warmup_epochs=16)
    >>> f"{cflow.at(Moment(1, 0, 10)):.2e} {cflow.at(Moment(17, 0, 10)):.2e} {cflow.at(Moment(200, 9, 10)):.2e}"
    '2.00e-05 1.97e-04 9.88e-07'
    """

    largest: float
    final: float = 1.0
    epochs: int = 1
    cycle: int = 1
    warmup_epochs: int = 0

    def at(self, moment: Moment) -> float:
        """η₁ for one batch."""
        if moment.epoch > self.warmup_epochs:
            return self._cosine(moment.epoch - 1)
        start = WARMUP_START * self.largest
        done = (moment.batch + (moment.epoch - 1) * moment.batches) / (self.warmup_epochs * moment.batches)
        return start + done * (self._cosine(self.warmup_epochs) - start)

    def _cosine(self, epochs_done: int) -> float:
        if self.final == 1.0:
            return self.largest
        lowest = self.final * self.largest
        share = (epochs_done // self.cycle) / math.ceil(self.epochs / self.cycle)
        return lowest + (self.largest - lowest) * (1 + math.cos(math.pi * share)) / 2
