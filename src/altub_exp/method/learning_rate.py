"""The learning rate of the flow: a cosine or milestones, in steps of epochs, after a linear warm-up."""

from __future__ import annotations

import math
from dataclasses import dataclass

WARMUP_START = 0.1  # of the largest learning rate


@dataclass(frozen=True)
class TrainingStep:
    """One batch of one epoch.

    Attributes:
        epoch: counted from 1.
        batch: counted from 0.
        batches: number of batches in each epoch.
    """

    epoch: int
    batch: int
    batches: int


@dataclass(frozen=True)
class LearningRate:
    """η₁ at every step. Source: github.com/gudovskiy/cflow-ad; FastFlow's is constant (``final`` = 1).

    MSFlow's warm-up by epochs and its milestones are those of github.com/cool-xuan/msflow, train.py.

    Attributes:
        largest: at the start of the cosine.
        final: end of the cosine, as a fraction of the largest.
        epochs: number of epochs.
        cycle: epochs per step of the cosine: CFLOW-AD's sub-epochs per meta-epoch.
        warmup_epochs: first epochs, in which the rate rises from a tenth, batch by batch, to the cosine's value.
        by_epoch: True if the rate rises only between the epochs of the warm-up.
        milestones: epochs after each of which the rate is multiplied by ``factor``.
        factor: the factor of a milestone.

    >>> cflow = LearningRate(2e-4, final=1e-3, epochs=200, cycle=8, warmup_epochs=16)
    >>> [f"{cflow.at(TrainingStep(*step, batches=10)):.2e}" for step in ((1, 0), (17, 0), (200, 9))]
    ['2.00e-05', '1.97e-04', '9.88e-07']
    >>> msflow = LearningRate(1e-4, warmup_epochs=12, by_epoch=True, milestones=(70, 90), factor=0.33)
    >>> [f"{msflow.at(TrainingStep(epoch, 9, batches=10)):.2e}" for epoch in (1, 2, 13, 70, 71, 91)]
    ['1.00e-05', '1.75e-05', '1.00e-04', '1.00e-04', '3.30e-05', '1.09e-05']
    """

    largest: float
    final: float = 1.0
    epochs: int = 1
    cycle: int = 1
    warmup_epochs: int = 0
    by_epoch: bool = False
    milestones: tuple[int, ...] = ()
    factor: float = 1.0

    def at(self, step: TrainingStep) -> float:
        """Return η₁ for one batch."""
        if step.epoch > self.warmup_epochs:
            passed = sum(milestone < step.epoch for milestone in self.milestones)
            return self._cosine(step.epoch - 1) * self.factor**passed
        start = WARMUP_START * self.largest
        batch = 0 if self.by_epoch else step.batch
        done = (batch + (step.epoch - 1) * step.batches) / (self.warmup_epochs * step.batches)
        return start + done * (self._cosine(self.warmup_epochs) - start)

    def _cosine(self, epochs_done: int) -> float:
        if self.final == 1.0:
            return self.largest
        lowest = self.final * self.largest
        share = (epochs_done // self.cycle) / math.ceil(self.epochs / self.cycle)
        return lowest + (self.largest - lowest) * (1 + math.cos(math.pi * share)) / 2
