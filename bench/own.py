"""altub-exp's side of a comparison, see :mod:`bench.turns`.

``--recompute`` takes the backbone again for every batch instead of keeping the features, ``--dense`` has the flow made
of FrEIA's block, which permutes by a dense matrix, instead of ours.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType

import psutil
from FrEIA.modules import AllInOneBlock
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from altub_exp.build import build_backbone, build_density, build_learner, family, prepare_device, seed_everything
from altub_exp.config import Config, conf_dir, register_schema
from altub_exp.detector import Detector
from altub_exp.evaluation import Scores, TestSet, anomaly_scores, detection
from altub_exp.experiment import train_epoch
from altub_exp.features.maps import FeatureMaps
from altub_exp.flows import cflow, fastflow
from altub_exp.learner import Learner
from altub_exp.scoring import Scoring
from bench.turns import Work, images, masks, serve, work_from


def configuration(work: Work) -> Config:
    """What the command line composes for this work, on untrained features."""
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
            ],
        )
        config = OmegaConf.to_object(composed)
    assert isinstance(config, Config)
    return config


@contextlib.contextmanager
def freia_block(module: ModuleType) -> Iterator[None]:
    """Within it the flows of ``module`` are made of FrEIA's block."""
    ours, module.CouplingBlock = module.CouplingBlock, AllInOneBlock
    try:
        yield
    finally:
        module.CouplingBlock = ours


@dataclass
class Trial:
    """A run in memory, on noise.

    Args:
        work: what is computed.
        recompute: take the backbone again for every batch.
        dense: make the flow of FrEIA's block.

    Attributes:
        start: seconds from the start of the process until all but the features was there.
    """

    work: Work
    recompute: bool = False
    dense: bool = False

    def __post_init__(self) -> None:
        self.config = configuration(self.work)
        self.device = prepare_device(self.config.device, self.work.threads)
        seed_everything(0)
        self.backbone = build_backbone(self.config).to(self.device)
        began = time.time()
        self.features = self._maps(self.work.train, seed=0)
        defects = masks(self.work.test, self.work.size).numpy()
        self.test = TestSet(self._maps(self.work.test, seed=1), defects.any(axis=(1, 2)), defects, self.work.size)
        filled = time.time() - began
        module = {"fastflow": fastflow, "cflow": cflow}[self.work.model]
        with freia_block(module) if self.dense else contextlib.nullcontext():
            density = build_density(self.config, self.features.shapes).to(self.device)
        self.learner: Learner = build_learner(self.config, density)
        self.scoring: Scoring = family(self.config).scoring(self.config.model)
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
        """One more epoch; joint ones only, since those take longest."""
        self.epochs += 1
        if self.learner.optimizer.psi_only(self.epochs):
            self.epochs += 1
        train_epoch(self.learner, self.features, self.config, self.epochs)

    def maps(self) -> Scores:
        """The anomaly maps of all test images."""
        return anomaly_scores(self.learner.density, self.scoring, self.test, self.features)

    def auroc(self, scores: Scores) -> dict[str, float]:
        """Exact AUROC of all pixels and of all images."""
        self._extremes = scores.extremes
        return dict(detection(scores, self.test))

    def image(self) -> None:
        """Inference of one image, from memory to its map."""
        parts = (self.backbone, self.learner.density, self.scoring, self._extremes, (0.0, 1.0))
        Detector(*parts, self.work.size, self.config.dataset.interpolation, self.device).scores(
            images(1, self.work.size, seed=2)
        )


def main() -> None:
    """Serve."""
    work, rest = work_from()
    parser = argparse.ArgumentParser()
    parser.add_argument("--recompute", action="store_true")
    parser.add_argument("--dense", action="store_true")
    chosen = parser.parse_args(rest)
    trial = Trial(work, chosen.recompute, chosen.dense)
    serve(trial.train, trial.maps, trial.auroc, image=trial.image, start=trial.start)


if __name__ == "__main__":
    main()
