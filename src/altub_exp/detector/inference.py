"""The trained detector, which scores new images as the last evaluation of its run scored the test images."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from altub_exp.config.compose import load_config
from altub_exp.config.plugins import discover
from altub_exp.config.schema import Precision
from altub_exp.detector.assembly import build_backbone, build_density, family
from altub_exp.errors import UserError
from altub_exp.features.backbone import Backbone
from altub_exp.features.packaged import weights_package
from altub_exp.machine.precision import allow_tf32
from altub_exp.method.density import Density
from altub_exp.method.scoring import Scoring
from altub_exp.runs.checkpoint import ImageScores, load_trained
from altub_exp.runs.folder import RunFolder
from altub_exp.runs.identity import weights_fingerprint
from altub_exp.runs.integrity import require_intact
from altub_exp.runs.states import RunState

WARM_UP = 10  # untimed images, which fill caches and on CUDA choose kernels


@dataclass(frozen=True)
class Detector:
    """Backbone, flow, base distributions and scoring of a trained model.

    Attributes:
        backbone: the feature extractor, on ``device``.
        density: flow and base distributions, on ``device``.
        scoring: the scoring of the model.
        extremes: reference values of the maps, see :class:`~altub_exp.method.scoring.Scoring`.
        limits: smallest and largest value of the anomaly maps of the run's own test images.
        size: side S of the input images, in pixels.
        interpolation: the resizing of images to S.
        device: the device that computes.
        bit_depth: the bits that 16-bit images use, see :func:`~altub_exp.data.decoding.read_rgb`.
        images: image scores of the run's own images; None if an earlier version has recorded the run.
    """

    backbone: Backbone
    density: Density
    scoring: Scoring
    extremes: Sequence[float]
    limits: tuple[float, float]
    size: int
    interpolation: str
    device: torch.device
    bit_depth: int | None = None
    images: ImageScores | None = None

    @torch.no_grad()
    def scores(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return anomaly maps [B, S, S] and scores [B] of uint8 images [B, 3, S, S], on the CPU; high is anomalous."""
        positions = self.scoring.positions(self.density(self.backbone(images.to(self.device))))
        maps = self.scoring.maps(positions, self.size, self.extremes)
        return maps.cpu(), self.scoring.image_scores(positions, maps).cpu()


def load_detector(path: Path, device: torch.device, weights: str | None = None) -> Detector:
    """Load the detector of a finished run.

    Raises:
        UserError: there is no finished run, a file of it is missing or damaged, or the run was trained with other
            weights of the backbone.
    """
    discover()
    folder = RunFolder(path)
    status = folder.status()
    if status is None:
        raise UserError(f"{path} is not a run: give its folder, runs/DATASET/CATEGORY/MODEL-BACKBONE/ALTUB/seedN-HASH.")
    if status.get("state") != RunState.finished:
        raise UserError(f"The run in {path} is {status.get('state')}, not finished: only a finished one can be used.")
    require_intact(folder, folder.status_file, folder.checkpoint, folder.journal.file, folder.config)
    config = load_config(folder.config)
    if weights is not None:
        config.backbone.weights = weights
    try:
        fingerprint = weights_fingerprint(config.backbone.weights)
    except UserError as error:
        if weights_package(config.backbone.weights) is not None:
            raise
        raise UserError(f"There is no weights file {config.backbone.weights}: name it with --weights.") from error
    if fingerprint != status.get("weights_sha256"):
        raise UserError(
            f"The backbone's weights {config.backbone.weights} are not those that the run in {path} was trained with: "
            "name that file with --weights."
        )
    allow_tf32(config.precision is Precision.tf32)  # no effect on a CPU
    trained = load_trained(folder.checkpoint)
    density = build_density(config, trained.shapes)
    try:
        density.load_state_dict(trained.density)
    except RuntimeError as error:
        raise UserError(f"{folder.checkpoint} does not fit the run's configuration: it is another run's.") from error
    return Detector(
        build_backbone(config).to(device),
        density.to(device).eval(),
        family(config.model.name).scoring(config.model),
        trained.extremes,
        trained.limits,
        config.dataset.image_size,
        config.dataset.interpolation,
        device,
        config.dataset.bit_depth,
        trained.images,
    )


def time_inference(detector: Detector, count: int) -> dict[str, float]:
    """Measure the time from an image in memory to its anomaly map in memory, one image at a time.

    It covers backbone, flow and map, not decoding. The first :data:`WARM_UP` are not timed. Table 7, arXiv 2210.14913.

    Args:
        detector: the detector; on CUDA, copying the map to the CPU waits for all kernels.
        count: number of images to time, at least 1; they are random, since the time does not depend on the content.

    Returns:
        ``inference_ms``, the mean in milliseconds, and ``inference_ms_std``, the standard deviation over the images.
    """
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(256, (1, 3, detector.size, detector.size), dtype=torch.uint8, generator=generator)
    milliseconds = []
    for _ in range(WARM_UP + count):
        began = time.perf_counter()
        detector.scores(image)
        milliseconds.append(1000 * (time.perf_counter() - began))
    timed = milliseconds[WARM_UP:]
    return {
        "inference_ms": statistics.fmean(timed),
        "inference_ms_std": statistics.stdev(timed) if count > 1 else 0.0,
    }
