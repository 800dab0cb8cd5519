"""What one batch of images teaches the density: one step, or for CFLOW-AD one step per 256 shuffled fibres."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from altub_exp.errors import UserError
from altub_exp.flows.latent import Shape
from altub_exp.method.altub import AlternatingOptimizer
from altub_exp.method.density import HALF_LOG_2_PI, Density, log_likelihood, negative_log_likelihood
from altub_exp.method.learning_rate import LearningRate, Moment


class Lesson(NamedTuple):
    """What was seen while learning from one batch, each value before its step.

    Attributes:
        loss: negative log-likelihood in nats per dimension, without the constant ½ ln 2π.
        objective: what was minimised, where that is something else.
    """

    loss: Tensor
    objective: Tensor | None = None


class Learner(Protocol):
    """Trains a density on batches of feature maps."""

    density: Density
    optimizer: AlternatingOptimizer

    def learn(self, features: Sequence[Tensor], moment: Moment, generator: torch.Generator) -> Lesson | None:
        """Learn from a batch, one map [B, C, H, W] per scale; what is random is drawn from the generator.

        None where the batch was too small for a step.
        """

    def check(self, shapes: Sequence[Shape], batch_size: int) -> None:
        """Raise UserError where batches of this size teach nothing."""


class ImageLearner:
    """One step per batch on the mean negative log-likelihood of its images (paper: Eq. 5).

    Args:
        density: of any flow.
        optimizer: with one part.
        rate: η₁.
        per_dimension: divide the loss of the joint epochs by the number of latent units, as CS-Flow's published code
            does: its bound on the gradient's norm, its ε and its weight decay refer to that. η₂ and the clipping of ψ
            were chosen for a loss in nats (paper: section 5.6), which is what the ψ-only epochs minimise all the same.
    """

    def __init__(
        self, density: Density, optimizer: AlternatingOptimizer, rate: LearningRate, *, per_dimension: bool = False
    ) -> None:
        self.density, self.optimizer, self._rate, self._per_dimension = density, optimizer, rate, per_dimension

    def learn(self, features: Sequence[Tensor], moment: Moment, generator: torch.Generator) -> Lesson:
        """One step; nothing is random."""
        self.optimizer.set_lr(self._rate.at(moment))
        dimensions = sum(math.prod(maps.shape[1:]) for maps in features)
        divided = self._per_dimension and not self.optimizer.psi_only(moment.epoch)

        def loss(frozen: bool, *maps: Tensor) -> list[Tensor]:
            return [negative_log_likelihood(self.density(maps, freeze_flow=frozen)) / (dimensions if divided else 1)]

        (value,) = self.optimizer.step(loss, moment.epoch, inputs=features)
        return Lesson(value.double() / (1 if divided else dimensions))

    def check(self, shapes: Sequence[Shape], batch_size: int) -> None:
        """One image is enough."""


class FibreLearner:
    """CFLOW-AD's training: the positions of a batch, scale by scale, shuffled, in steps of N fibres.

    Minimises the mean of −ln sigmoid(log p / C) (CFLOW-AD's published code); an incomplete last step is left out.

    Args:
        density: of a flow with ``fibres``.
        optimizer: with one part, or one per scale.
        rate: η₁.
        fibre_batch: N.
    """

    def __init__(
        self, density: Density, optimizer: AlternatingOptimizer, rate: LearningRate, *, fibre_batch: int
    ) -> None:
        self.density, self.optimizer, self._rate, self._fibre_batch = density, optimizer, rate, fibre_batch

    def learn(self, features: Sequence[Tensor], moment: Moment, generator: torch.Generator) -> Lesson | None:
        """Many steps; the order of the fibres is drawn from the generator."""
        self.optimizer.set_lr(self._rate.at(moment))
        objective = torch.zeros((), dtype=torch.float64, device=features[0].device)
        nats, steps, dimensions = torch.zeros_like(objective), 0, 0
        for scale, maps in enumerate(features):
            channels = maps.shape[1]
            order = torch.randperm(maps.numel() // channels, generator=generator).to(maps.device)
            part = scale if len(self.optimizer.parts) > 1 else 0
            whole = len(order) // self._fibre_batch * self._fibre_batch
            for rows in torch.split(order[:whole], self._fibre_batch) if whole else ():
                loss, of_rows = self._step(scale, maps, rows, moment.epoch, part)
                objective += loss
                nats += of_rows
                dimensions += len(rows) * channels
                steps += 1
        return Lesson(nats / dimensions, objective / steps) if steps else None

    def _step(self, scale: int, maps: Tensor, rows: Tensor, epoch: int, part: int) -> Sequence[Tensor]:
        """The loss of the fibres ``rows``, and their negative log-likelihood in nats without the constant."""
        channels = maps.shape[1]

        def loss(frozen: bool, maps: Tensor, rows: Tensor) -> list[Tensor]:
            log_p = log_likelihood(self.density.fibres(scale, maps, rows, freeze_flow=frozen)) / channels
            nats = (log_p.detach().double() + HALF_LOG_2_PI).sum() * -channels
            return [-F.logsigmoid(log_p).mean(), nats]

        return self.optimizer.step(loss, epoch, part, (maps, rows))

    def check(self, shapes: Sequence[Shape], batch_size: int) -> None:
        """Every scale must give a step."""
        number, (_, height, width) = min(enumerate(shapes, start=1), key=lambda one: one[1][1] * one[1][2])
        fibres = batch_size * height * width
        if fibres < self._fibre_batch:
            raise UserError(
                f"The maps of scale {number} have {height}×{width} positions, so that a batch of {batch_size} images "
                f"gives {fibres} fibres, fewer than model.fibre_batch={self._fibre_batch}: set it to {fibres} or less, "
                "or dataset.image_size to more."
            )
