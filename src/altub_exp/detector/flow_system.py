"""A flow in training: density, learner and features, with the metrics that are due after each epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from altub_exp.config.schema import Config, EvalConfig
from altub_exp.data import ImageSet
from altub_exp.data.canvas import Canvas
from altub_exp.detector.assembly import build_density, build_features, build_fitted, build_learner
from altub_exp.detector.evaluation import Scores, TestSet, anomaly_scores, detection
from altub_exp.detector.families import family
from altub_exp.detector.latents import fit_psi, normality, parameter_statistics
from altub_exp.errors import UserError
from altub_exp.features.maps import FeatureMaps
from altub_exp.flows.flow import Shape
from altub_exp.machine.device import seed_everything
from altub_exp.machine.memory import collection_paused
from altub_exp.machine.terminal import log
from altub_exp.method.density import Density
from altub_exp.method.learner import Learner
from altub_exp.method.learning_rate import TrainingStep
from altub_exp.method.scoring import Scoring
from altub_exp.runs.checkpoint import load_checkpoint, save_checkpoint
from altub_exp.runs.folder import RunFolder
from altub_exp.runs.identity import weights_fingerprint


@dataclass
class Features:
    """The feature maps of a run's images.

    Attributes:
        train: of the tiles of the training images.
        test: of the tiles of the test images; if there are none, of the training images.
        good: indices of the tiles of the normal test images.
    """

    train: FeatureMaps
    test: FeatureMaps
    good: Tensor

    @property
    def gib(self) -> float:
        """Size of all maps."""
        return self.train.gib + (self.test.gib if self.test is not self.train else 0.0)


def load_features(config: Config, images: ImageSet, device: torch.device) -> Features:
    """Decode the images and compute their features.

    Raises:
        UserError: weights or images cannot be read, or do not fit.
    """
    if config.backbone.weights == "random":
        log.warning("The backbone's weights are random, as requested: its features are untrained.")
    tiles = Canvas.of(config.dataset).tiles
    train, test = build_features(config, images, device, weights_fingerprint(config.backbone.weights))
    if config.cache.dir is not None:
        parts = ([] if config.dataset.rotation else [train]) + ([test] if images.test else [])
        cached, total = sum(maps.from_cache for maps in parts), sum(len(maps) for maps in parts)
        noun = "images" if tiles == 1 else "tiles"
        log.info("features of %d of %d %s were in the cache %s", cached, total, noun, config.cache.dir)
    normal = np.array([not sample.defective for sample in images.test], dtype=bool)
    return Features(train, test, torch.from_numpy(np.flatnonzero(np.repeat(normal, tiles))))


@collection_paused()  # the first optimizer imports much of PyTorch
def prepare_learner(config: Config, features: FeatureMaps, device: torch.device) -> Learner:
    """Build the density and the learner that trains it.

    Raises:
        UserError: there are too few images for a batch, or too few positions for a step.
    """
    seed_everything(config.seed)
    density = build_density(config, features.shapes).to(device)
    learner = build_learner(config, density)
    count, batch_size = len(features), config.train.batch_size
    noun = "training images" if Canvas.of(config.dataset).tiles == 1 else "tiles of training images"
    if config.train.drop_last and count < batch_size:
        raise UserError(
            f"{count} {noun} make no batch of {batch_size}, and incomplete batches are dropped: set "
            f"train.batch_size={count} or less, or train.drop_last=false."
        )
    learner.check(features.shapes, min(count, batch_size))
    return learner


@dataclass
class FlowSystem:
    """A flow with its base distributions, see :class:`~altub_exp.detector.system.System`.

    Attributes:
        features: the features of all images.
        test: the test images.
        learner: trains the density.
        scoring: the scoring of the model.
        fitted: a density whose ψ is fitted before it is used; if it is not ``scored``, it gives metrics with the suffix
            ``_fitted``. None if the configuration asks for none.
        scored: the density whose scores are those of the run.
        schedule: the epochs of each metric.
        memory_gb: GiB of latents that are held at once, at most.
        seed: seed of the order of the images.
        drop_last: True to drop incomplete batches.
    """

    features: Features
    test: TestSet
    learner: Learner
    scoring: Scoring
    fitted: Density | None
    scored: Density
    schedule: EvalConfig
    memory_gb: float
    seed: int
    drop_last: bool
    versions: Mapping[str, str] = field(default_factory=dict)
    resumable: bool = True

    @classmethod
    def build(cls, config: Config, images: ImageSet, test: TestSet, device: torch.device) -> FlowSystem:
        """Compute the features and build all parts.

        Raises:
            UserError: weights or images cannot be read or do not fit, or there are too few images.
        """
        features = load_features(config, images, device)
        learner = prepare_learner(config, features.train, device)
        fitted = build_fitted(config, learner.density)
        return cls(
            features,
            test,
            learner,
            family(config.model.name).scoring(config.model),
            fitted,
            learner.density if fitted is None or config.eval.fitted else fitted,
            config.eval,
            config.latent_memory_gb,
            config.seed,
            config.train.drop_last,
        )

    def __str__(self) -> str:
        """Return size and place of the features."""
        return f"{self.features.gib:.2f} GiB of features {self.features.train.place}"

    def restore(self, folder: RunFolder) -> int:
        """Restore the state of a run's checkpoint, and return its epoch; 0 if there is none."""
        return load_checkpoint(folder.checkpoint, self.learner.density, self.learner.optimizer)

    def save(self, checkpoint: Path, epoch: int, facts: Mapping[str, Any]) -> None:
        """Write the state after ``epoch``."""
        save_checkpoint(checkpoint, epoch, self.learner.density, self.learner.optimizer, facts)

    def train(self, epoch: int) -> dict[str, float]:
        """Train on all images once, and return the mean losses over the images."""
        return train_epoch(self.learner, self.features.train, epoch, self.seed, self.drop_last)

    def note(self, epoch: int) -> str:
        """Return a remark on an epoch that trains only ψ."""
        return "  (ψ only)" if self.learner.optimizer.psi_only(epoch) else ""

    def evaluate(self, epoch: int) -> dict[str, float]:
        """Compute the metrics that are due after this epoch."""
        metrics: dict[str, float] = {}
        scored, fitted, train, ks_every = self.scored, self.fitted, self.features.train, self.schedule.ks_every
        passing: Any = {"memory_gb": self.memory_gb, "graphs": self.learner.optimizer.graphs}
        detects = self.test.is_due(epoch, self.schedule.every)
        tests = ks_every > 0 and epoch % ks_every == 0
        if fitted is not None and (detects or (tests and fitted is scored)):
            fit_psi(fitted, train, self.learner.optimizer.graphs)
        if detects:
            beside = {"": scored} if fitted is None or fitted is scored else {"": scored, "_fitted": fitted}
            for suffix, scores in zip(beside, self._scores(*beside.values()), strict=True):
                metrics |= {f"{name}{suffix}": value for name, value in detection(scores, self.test)}
        if tests:
            metrics |= normality(scored, train, **passing)
            if len(self.features.good):
                of_test = normality(scored, self.features.test, self.features.good, **passing)
                metrics |= {f"{name}_test_good": of_test[name] for name in ("ks", "ks_std", "mean_square")}
        if fitted is scored and not (detects or tests):
            return metrics  # ψ is fitted only when it is used
        return metrics | parameter_statistics(scored)

    def final_scores(self) -> Scores:
        """Score the test images after the last epoch."""
        if self.fitted is self.scored:
            fit_psi(self.scored, self.features.train, self.learner.optimizer.graphs)
        (scores,) = self._scores(self.scored)
        return scores

    def kept(self) -> tuple[dict[str, Tensor], list[Shape]]:
        """Return the parameters of the density, and the shapes of the feature maps."""
        return self.scored.state_dict(), self.features.train.shapes

    def cost(self) -> dict[str, float]:
        """Return {}: ``altub_exp.measure`` measures a flow, on a machine that does nothing else."""
        return {}

    def _scores(self, *densities: Density) -> Iterator[Scores]:
        graphs, features = self.learner.optimizer.graphs, self.features
        return anomaly_scores(densities, self.scoring, self.test, features.test, features.train, graphs)


def train_epoch(learner: Learner, features: FeatureMaps, epoch: int, seed: int, drop_last: bool) -> dict[str, float]:
    """Train on all images once, in an order drawn from (seed, epoch); return the mean losses over the images."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order = torch.randperm(len(features), generator=generator)
    batches = features.batches(order, drop_last=drop_last)
    totals: dict[str, Tensor | float] = {}  # on the device: reading one would wait for it
    count = 0
    for number, rows in enumerate(batches):
        step = TrainingStep(epoch, number, len(batches))
        loss = learner.learn(features.augmented(rows, generator), step, generator)
        if loss is not None:
            count += len(rows)
            for name, value in loss._asdict().items():
                if value is not None:
                    totals[name] = totals.get(name, 0.0) + value * len(rows)
    return {name: float(total) / count for name, total in totals.items()}
