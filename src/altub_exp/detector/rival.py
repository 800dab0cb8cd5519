"""A rival in training: a system that a worker computes by anomalib, evaluated by this program's metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from altub_exp.config.rivals import PACKAGE, environment
from altub_exp.config.schema import Config, DraemConfig, PatchCoreConfig, RivalConfig
from altub_exp.data import ImageSet, load_images
from altub_exp.detector.assembly import build_backbone
from altub_exp.detector.evaluation import Scores, TestSet, detection
from altub_exp.detector.worker import Worker
from altub_exp.flows.flow import Shape
from altub_exp.machine.terminal import log
from altub_exp.runs.folder import RunFolder


@dataclass
class RivalSystem:
    """A rival, see :class:`~altub_exp.detector.system.System`.

    Attributes:
        name: ``model.name``.
        worker: the process that computes it.
        test: the test images.
        device: the device of the scores.
        every: the epochs from one evaluation to the next.
        timed_images: images whose inference is timed at the end.
        versions: versions of the worker's packages.
    """

    name: str
    worker: Worker
    test: TestSet
    device: torch.device
    every: int
    timed_images: int
    versions: Mapping[str, str]
    resumable: bool = False
    _scores: Scores | None = field(default=None, init=False)

    @classmethod
    @contextmanager
    def opened(
        cls,
        config: Config,
        model: RivalConfig,
        images: ImageSet,
        test: TestSet,
        folder: RunFolder,
        device: torch.device,
    ) -> Iterator[RivalSystem]:
        """Start the worker, and give it images and backbone; it ends with the context.

        Args:
            config: the configuration.
            model: its model.
            images: the images.
            test: labels and masks of the test images.
            folder: folder of the run.
            device: device that computes.

        Raises:
            UserError: images or weights cannot be read.
            WorkerFailure: anomalib cannot be imported, or refuses the work.
        """
        with Worker(model.name, environment(model), folder.path / "worker", folder.path / "worker.log") as worker:
            for name, samples in (("train", images.train), ("test", images.test or images.train)):
                pixels = load_images(samples, test.canvas, config.dataset.interpolation, config.dataset.bit_depth)
                np.save(worker.folder / f"{name}.npy", pixels.numpy())
            job = _options(config, model, worker.folder / "backbone.safetensors")
            worker.wait_until_ready()
            log.info("%s %s computes model=%s by its own code", PACKAGE, worker.versions[PACKAGE], model.name)
            common = {"seed": config.seed, "threads": torch.get_num_threads(), "device": device.type}
            worker.ask({"do": "build", "model": model.name, "batch_size": config.train.batch_size, **common, **job})
            yield cls(model.name, worker, test, device, config.eval.every, model.timed_images, worker.versions)

    def __str__(self) -> str:
        """Return the program that computes it."""
        return f"{PACKAGE} {self.versions[PACKAGE]}"

    def restore(self, folder: RunFolder) -> int:
        """Return 0: no state is kept, so that a half-done run starts anew."""
        if folder.exists():
            log.info("model=%s keeps no checkpoint: all epochs are computed anew", self.name)
        folder.checkpoint.unlink(missing_ok=True)  # written at the end of a run that was killed before it had ended
        return 0

    def save(self, checkpoint: Path, epoch: int, facts: Mapping[str, Any]) -> None:
        """Raise NotImplementedError: no state is kept."""
        raise NotImplementedError

    def train(self, epoch: int) -> dict[str, float]:
        """Train on all images once, and return the mean losses over the images, if the system has any."""
        self._scores = None
        return self.worker.ask({"do": "train", "epoch": epoch})

    def note(self, epoch: int) -> str:
        """Return no remark."""
        return ""

    def evaluate(self, epoch: int) -> dict[str, float]:
        """Compute the AUROCs if they are due after this epoch."""
        return dict(detection(self.final_scores(), self.test)) if self.test.is_due(epoch, self.every) else {}

    def final_scores(self) -> Scores:
        """Score the test images, unless that has been done since the last epoch."""
        if self._scores is None:
            self.worker.ask({"do": "score"})
            files = (self.worker.folder / f"{name}.npy" for name in ("maps", "scores"))
            maps, scores = (torch.from_numpy(np.load(file)) for file in files)
            self._scores = Scores(maps.to(self.device), scores, [])
        return self._scores

    def kept(self) -> tuple[dict[str, Tensor], list[Shape]]:
        """Return nothing: the system ends with its worker."""
        return {}, []

    def cost(self) -> dict[str, float]:
        """Measure time and memory as :func:`~altub_exp.detector.inference.cost_of_inference` does."""
        return self.worker.ask({"do": "measure", "images": self.timed_images}) if self.timed_images else {}


def _options(config: Config, model: RivalConfig, weights: Path) -> dict[str, Any]:
    """Return the options of a system for its worker; for PatchCore, write the frozen backbone's weights too."""
    if isinstance(model, PatchCoreConfig):
        backbone = build_backbone(config)
        save_file({key: value.contiguous() for key, value in backbone.model.state_dict().items()}, weights)
        return {
            "coreset_ratio": model.coreset_ratio,
            "neighbours": model.neighbours,
            "backbone": backbone.name,
            "stages": backbone.stages,
            "mean": backbone.mean.flatten().tolist(),
            "std": backbone.std.flatten().tolist(),
            "pad_type": backbone.pad_type,
        }
    assert isinstance(model, DraemConfig)
    textures = None if model.textures is None else str(Path(model.textures).expanduser().absolute())
    return {"sspcab": model.sspcab, "textures": textures}
