"""Training on one batch of images: one step, or for CFLOW-AD one step per 256 shuffled fibres."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from altub_exp.errors import UserError
from altub_exp.flows.flow import Shape
from altub_exp.method.density import HALF_LOG_2_PI, Density, log_likelihood, negative_log_likelihood
from altub_exp.method.learning_rate import LearningRate, TrainingStep
from altub_exp.method.optimizer import AlternatingOptimizer


class BatchLoss(NamedTuple):
    """The loss of one batch, before each step on it.

    Attributes:
        loss: negative log-likelihood in nats per dimension, without the constant ½ ln 2π.
        objective: the quantity that joint epochs minimise, if it differs from the loss.
    """

    loss: Tensor
    objective: Tensor | None = None


class Learner(Protocol):
    """Trains a density on batches of feature maps."""

    density: Density
    optimizer: AlternatingOptimizer

    def learn(self, features: Sequence[Tensor], step: TrainingStep, generator: torch.Generator) -> BatchLoss | None:
        """Learn from a batch, one map [B, C, H, W] per scale; random choices are drawn from the generator.

        Returns:
            The loss; None if the batch was too small for a step.
        """

    def check(self, shapes: Sequence[Shape], batch_size: int) -> None:
        """Raise UserError if batches of this size are too small for a step."""


class ImageLearner:
    """Takes one step per batch on the mean negative log-likelihood of its images (Eq. 5 of arXiv 2210.14913).

    Args:
        density: density of any flow.
        optimizer: optimizer with one part.
        rate: η₁.
        per_dimension: divide the loss of the joint epochs by the number of latent units, as CS-Flow's published code
            does: its bound on the gradient's norm, its ε and its weight decay refer to that.
        psi_loss: the loss of the ψ-only epochs: ``nats``, for which η₂ and the clipping of ψ were chosen (paper:
            section 5.6), or ``objective``, that of the joint epochs.
    """

    def __init__(
        self,
        density: Density,
        optimizer: AlternatingOptimizer,
        rate: LearningRate,
        *,
        per_dimension: bool = False,
        psi_loss: str = "nats",
    ) -> None:
        self.density, self.optimizer, self._rate, self._per_dimension = density, optimizer, rate, per_dimension
        self._psi_loss = psi_loss

    def learn(self, features: Sequence[Tensor], step: TrainingStep, generator: torch.Generator) -> BatchLoss:
        """Take one step; nothing is random."""
        self.optimizer.set_lr(self._rate.at(step))
        dimensions = sum(math.prod(maps.shape[1:]) for maps in features)
        divided = self._per_dimension and (self._psi_loss == "objective" or not self.optimizer.psi_only(step.epoch))

        def loss(frozen: bool, *maps: Tensor) -> list[Tensor]:
            return [negative_log_likelihood(self.density(maps, freeze_flow=frozen)) / (dimensions if divided else 1)]

        (value,) = self.optimizer.step(loss, step.epoch, inputs=features)
        return BatchLoss(value.double() / (1 if divided else dimensions))

    def check(self, shapes: Sequence[Shape], batch_size: int) -> None:
        """Accept any batch: one image is enough."""


class FibreLearner:
    """Trains as CFLOW-AD does: the positions of a batch, scale by scale, shuffled, in steps of N fibres.

    Each step minimises the mean of −ln sigmoid(log p / C) over the fibres (CFLOW-AD's code,
    github.com/gudovskiy/cflow-ad); an incomplete last step is left out.

    Args:
        density: density of a FibreFlow.
        optimizer: optimizer with one part, or with one per scale.
        rate: η₁.
        fibre_batch: N.
        psi_loss: the loss of the ψ-only epochs: ``objective``, that of the joint epochs, or ``nats``, the mean of
            −log p (paper: Algorithm 1).
    """

    def __init__(
        self,
        density: Density,
        optimizer: AlternatingOptimizer,
        rate: LearningRate,
        *,
        fibre_batch: int,
        psi_loss: str = "objective",
    ) -> None:
        self.density, self.optimizer, self._rate, self._fibre_batch = density, optimizer, rate, fibre_batch
        self._psi_loss = psi_loss
        self._totals: list[Tensor] = []  # of objective and loss, per scale

    def learn(self, features: Sequence[Tensor], step: TrainingStep, generator: torch.Generator) -> BatchLoss | None:
        """Take many steps; the order of the fibres is drawn from the generator."""
        self.optimizer.set_lr(self._rate.at(step))
        size, several = self._fibre_batch, len(self.optimizer.parts) > 1
        fibres = [maps.numel() // maps.shape[1] for maps in features]
        orders = [torch.randperm(count, generator=generator).to(features[0].device) for count in fibres]
        steps = [count // size for count in fibres]
        if not self._totals:
            self._totals = [torch.zeros(2, dtype=torch.float64, device=maps.device) for maps in features]
        for totals in self._totals:
            totals.zero_()
        with self.optimizer.batch(steps if several else [sum(steps)], step.epoch):
            for scale, number in side_by_side(steps) if several else one_by_one(steps):
                rows = orders[scale][number * size : (number + 1) * size]
                self._step(scale, features[scale], rows, step.epoch, scale if several else 0)
        if not sum(steps):
            return None
        objective, nats = sum(self._totals, torch.zeros_like(self._totals[0]))
        dimensions = sum(count * size * maps.shape[1] for count, maps in zip(steps, features, strict=True))
        return BatchLoss(nats / dimensions, objective / sum(steps))

    def _step(self, scale: int, maps: Tensor, rows: Tensor, epoch: int, part: int) -> None:
        """Take one step on the fibres ``rows``, and add the objective and the loss in nats to the scale's totals."""
        channels, totals = maps.shape[1], self._totals[scale]

        def loss(frozen: bool, maps: Tensor, rows: Tensor) -> list[Tensor]:
            log_p = log_likelihood(self.density.fibres(scale, maps, rows, freeze_flow=frozen)) / channels
            objective = -F.logsigmoid(log_p).mean()
            nats = (log_p.detach().double() + HALF_LOG_2_PI).sum() * -channels
            totals.add_(torch.stack([objective.detach().double(), nats]))
            return [-channels * log_p.mean() if frozen and self._psi_loss == "nats" else objective]

        self.optimizer.step(loss, epoch, part, (maps, rows), kind=scale)

    def check(self, shapes: Sequence[Shape], batch_size: int) -> None:
        """Raise UserError unless every scale gives a step."""
        number, (_, height, width) = min(enumerate(shapes, start=1), key=lambda scale: math.prod(scale[1][1:]))
        fibres = batch_size * height * width
        if fibres < self._fibre_batch:
            raise UserError(
                f"The maps of scale {number} have {height}×{width} positions, so that a batch of {batch_size} images "
                f"gives {fibres} fibres, fewer than model.fibre_batch={self._fibre_batch}: set it to {fibres} or less, "
                "or dataset.image_size to more."
            )


def one_by_one(steps: Sequence[int]) -> list[tuple[int, int]]:
    """Return (scale, number) of so many steps of each scale, scale after scale."""
    return [(scale, number) for scale, count in enumerate(steps) for number in range(count)]


def side_by_side(steps: Sequence[int]) -> list[tuple[int, int]]:
    """Return (scale, number) of so many steps of each scale, mixed so that all scales begin and end together.

    >>> side_by_side([4, 2])
    [(0, 0), (1, 0), (0, 1), (0, 2), (1, 1), (0, 3)]
    """
    return sorted(one_by_one(steps), key=lambda step: (step[1] + 0.5) / steps[step[0]])
