"""altub-exp's side of a comparison, see :mod:`bench.turns`.

``--recompute`` runs the backbone again for every batch instead of keeping the features. ``--dense`` makes the flow of
FrEIA's block, which permutes by a dense matrix, instead of ours; ``--compiled`` makes it of FrEIA's operations with our
permutation, fused by ``torch.compile``, which needs a C++ compiler. ``--subnets`` computes only the flow's subnets,
forward and backward: the limit of any gain by less work around them. ``--scheduled`` runs the epochs in the order of a
training, the ψ-only ones too; ``--noise`` uses noise as features, without a backbone.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import cast

import numpy as np
import psutil
import torch
from FrEIA.modules import AllInOneBlock
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import Tensor, nn

from altub_exp.config.compose import conf_dir, register_schema
from altub_exp.config.schema import Config
from altub_exp.data.canvas import Canvas
from altub_exp.detector.assembly import build_backbone, build_density, build_learner
from altub_exp.detector.evaluation import Scores, TestSet, detection, positions, scores_from
from altub_exp.detector.families import family
from altub_exp.detector.flow_system import train_epoch
from altub_exp.detector.inference import Detector
from altub_exp.features.backbone import Backbone
from altub_exp.features.extraction import Extractor
from altub_exp.features.maps import FeatureMaps
from altub_exp.flows import cflow, fastflow
from altub_exp.flows.coupling import CouplingBlock
from altub_exp.flows.fastflow import FastFlow
from altub_exp.machine.device import prepare_device, seed_everything
from altub_exp.method.learner import Learner
from altub_exp.method.scoring import Scoring
from bench.cost import steps
from bench.turns import Work, images, masks, now, serve, work_from


def configuration(work: Work, overrides: Sequence[str] = ()) -> Config:
    """Return the configuration that the command line composes for this work, on untrained features."""
    register_schema()
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        composed = compose(
            "train",
            [
                f"model={work.model}",
                f"backbone={work.backbone}",
                "backbone.weights=random",
                "dataset=synthetic",
                f"dataset.image_size={work.size}",
                "dataset.rotation=0",
                f"train.batch_size={work.batch}",
                *overrides,
            ],
        )
        config = OmegaConf.to_object(composed)
    assert isinstance(config, Config)
    return config


class PlainBlock(CouplingBlock):
    """FrEIA's operations one by one, with our permutation, so that a compiler can fuse them."""

    forward = AllInOneBlock.forward


@contextlib.contextmanager
def made_of(block: type, module: ModuleType) -> Iterator[None]:
    """Make the flows of ``module`` of another block in this context."""
    ours, module.CouplingBlock = module.CouplingBlock, block  # type: ignore[attr-defined]
    try:
        yield
    finally:
        module.CouplingBlock = ours  # type: ignore[attr-defined]


class Noise:
    """A substitute for a backbone: maps of these shapes."""

    def __init__(self, shapes: Sequence[tuple[int, int, int]]) -> None:
        self._shapes = shapes

    def __call__(self, images: Tensor) -> list[Tensor]:
        """Return one map per scale."""
        return [torch.randn(len(images), *shape, device=images.device) for shape in self._shapes]


@dataclass
class Trial:
    """A run in memory, on noise.

    Args:
        work: the amount of work.
        recompute: run the backbone again for every batch.
        dense: make the flow of FrEIA's block.
        compiled: make it of FrEIA's operations, and compile it.
        scheduled: run the ψ-only epochs too.
        noise: use noise as features, without a backbone.
        overrides: overrides of the configuration.

    Attributes:
        start: seconds from the start of the process until everything except the features was ready.
        flow_seconds: seconds that the density took in the last anomaly maps.
    """

    work: Work
    recompute: bool = False
    dense: bool = False
    compiled: bool = False
    scheduled: bool = False
    noise: bool = False
    overrides: Sequence[str] = ()

    def __post_init__(self) -> None:
        self.config = configuration(self.work, self.overrides)
        self.device = prepare_device(self.config.device, self.work.threads, self.config.precision)
        shapes = steps(self.config).shapes if self.noise else ()
        seed_everything(0)
        self.backbone: Extractor = Noise(shapes) if self.noise else build_backbone(self.config).to(self.device)
        began = time.time()
        self.features = self._maps(self.work.train, seed=0)
        defects = masks(self.work.test, self.work.size).numpy()
        self.test_features = self._maps(self.work.test, seed=1)
        self.test = TestSet(np.asarray(defects.any(axis=(1, 2))), defects, Canvas(self.work.size))
        filled = time.time() - began
        module = {"fastflow": fastflow, "cflow": cflow}[self.work.model]
        block = AllInOneBlock if self.dense else PlainBlock if self.compiled else CouplingBlock
        with made_of(block, module):
            density = build_density(self.config, self.features.shapes).to(self.device)
        if self.compiled:
            cast("nn.Module", density.flow).compile()
        self.learner: Learner = build_learner(self.config, density)
        self.scoring: Scoring = family(self.config.model.name).scoring(self.config.model)
        self.epochs = 0
        self.start = time.time() - psutil.Process().create_time() - filled

    def _maps(self, count: int, seed: int) -> FeatureMaps:
        return FeatureMaps(
            self.backbone,
            images(count, self.work.size, seed),
            batch_size=self.work.batch,
            device=self.device,
            memory_gb=0.0 if self.recompute else 64.0,
        )

    def train(self) -> None:
        """Train one more epoch; unless ``scheduled``, only joint ones, since those take longest."""
        self.epochs += 1
        if self.learner.optimizer.psi_only(self.epochs) and not self.scheduled:
            self.epochs += 1
        train_epoch(self.learner, self.features, self.epochs, self.config.seed, self.config.train.drop_last)

    def maps(self) -> Scores:
        """Compute the anomaly maps of all test images."""
        began = now()
        (of_test,) = positions([self.learner.density], self.scoring, self.test_features)
        self.flow_seconds = now() - began
        return scores_from(of_test, self.scoring, self.scoring.extremes(of_test), self.test.canvas)

    def auroc(self, scores: Scores) -> dict[str, float]:
        """Return the exact AUROC of all pixels and of all images."""
        self._extremes = scores.extremes
        return dict(detection(scores, self.test))

    def image(self) -> None:
        """Infer the anomaly map of one image in memory."""
        assert isinstance(self.backbone, Backbone)
        parts = (self.backbone, self.learner.density, self.scoring, self._extremes, (0.0, 1.0))
        Detector(*parts, Canvas(self.work.size), self.config.dataset.interpolation, self.device).score_pixels(
            images(1, self.work.size, seed=2)
        )


class Subnets:
    """Only the subnets of a trial's FastFlow, with noise as inputs and as gradients of their outputs."""

    def __init__(self, trial: Trial) -> None:
        batch = trial.features.batch(torch.arange(trial.work.batch))
        self._epochs = [count // trial.work.batch for count in (trial.work.train, trial.work.test)]
        self._subnets = [
            (block.subnet, torch.randn_like(maps[:, : block.splits[0]]), torch.randn_like(maps))
            for maps, flow in zip(batch, cast("FastFlow", trial.learner.density.flow).flows, strict=True)
            for block in flow.module_list  # type: ignore[union-attr]
        ]

    def train(self) -> None:
        """Run forward and backward as often as in an epoch."""
        for _ in range(self._epochs[0]):
            for subnet, x, gradient in self._subnets:
                subnet(x.requires_grad_()).backward(gradient)  # a block's s and t have as many channels as its maps

    @torch.no_grad()
    def maps(self) -> None:
        """Run forward as often as for the test images."""
        for _ in range(self._epochs[1]):
            for subnet, x, _ in self._subnets:
                subnet(x)


def main() -> None:
    """Serve the epochs of a trial."""
    work, rest = work_from()
    parser = argparse.ArgumentParser()
    for switch in ("recompute", "dense", "compiled", "scheduled", "noise", "subnets"):
        parser.add_argument(f"--{switch}", action="store_true")
    parser.add_argument("--override", action="append", default=[])
    chosen = parser.parse_args(rest)
    switches = (chosen.recompute, chosen.dense, chosen.compiled, chosen.scheduled, chosen.noise)
    trial = Trial(work, *switches, chosen.override)
    if chosen.subnets:
        subnets = Subnets(trial)
        serve(subnets.train, subnets.maps, lambda _: None)
    else:
        serve(
            trial.train,
            trial.maps,
            trial.auroc,
            image=None if chosen.noise else trial.image,
            during=lambda: {"flow": trial.flow_seconds},
            start=trial.start,
        )


if __name__ == "__main__":
    main()
