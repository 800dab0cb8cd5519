"""A trained detector: images in, anomaly maps out, as in the last evaluation of the run that trained it."""

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
from altub_exp.machine.precision import allow_tf32
from altub_exp.method.density import Density
from altub_exp.method.scoring import Scoring
from altub_exp.runs.checkpoint import load_trained
from altub_exp.runs.folder import RunFolder
from altub_exp.runs.identity import weights_fingerprint
from altub_exp.runs.states import RunState

WARM_UP = 10  # images before the timed ones: caches, and on CUDA the choice of kernels


@dataclass(frozen=True)
class Detector:
    """Backbone, flow, base distributions and scoring in one.

    Attributes:
        backbone: on ``device``.
        density: likewise.
        scoring: how it scores.
        extremes: what the maps are relative to, see :class:`~altub_exp.method.scoring.Scoring`.
        limits: smallest and largest value of the anomaly maps of the run's own test images.
        size: side S in pixels of the images it takes.
        interpolation: how images are resized to it.
        device: where it computes.
    """

    backbone: Backbone
    density: Density
    scoring: Scoring
    extremes: Sequence[float]
    limits: tuple[float, float]
    size: int
    interpolation: str
    device: torch.device

    @torch.no_grad()
    def scores(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 images [B, 3, S, S] → anomaly maps [B, S, S] and image scores [B], on the CPU; high is anomalous."""
        positions = self.scoring.positions(self.density(self.backbone(images.to(self.device))))
        maps = self.scoring.maps(positions, self.size, self.extremes)
        return maps.cpu(), self.scoring.image_scores(positions, maps).cpu()


def load_detector(path: Path, device: torch.device, weights: str | None = None) -> Detector:
    """The detector of a finished run.

    Args:
        path: the run's folder.
        device: where to compute.
        weights: the backbone's weights file, where it lies elsewhere than when the run was computed.

    Raises:
        UserError: there is no finished run, a file of it is missing or damaged, or the backbone's weights are others
            than those that it was trained with.
    """
    discover()
    folder = RunFolder(path)
    status = folder.status()
    if status is None:
        raise UserError(f"{path} is no run: give its folder, runs/DATASET/CATEGORY/MODEL-BACKBONE/ALTUB/seedN-HASH.")
    if status.get("state") != RunState.finished:
        raise UserError(f"The run in {path} is {status.get('state')}, not finished: only a finished one can be used.")
    config = load_config(folder.config)
    if weights is not None:
        config.backbone.weights = weights
    if weights_fingerprint(config.backbone.weights) != status.get("weights_sha256"):
        raise UserError(
            f"The backbone's weights {config.backbone.weights} are not those that the run in {path} was trained with: "
            "name that file with --weights."
        )
    allow_tf32(config.precision is Precision.tf32)  # a CPU computes in float32 all the same
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
    )


def time_inference(detector: Detector, count: int) -> dict[str, float]:
    """Time from an image in memory to its anomaly map in memory: backbone, flow and map, one image at a time.

    Decoding is not part of it; the first :data:`WARM_UP` images are not counted (paper: Table 7, section 5.5).

    Args:
        detector: what to time; on CUDA, the map's way back to the CPU waits for all kernels.
        count: images to time, at least 1; random ones, since the time does not depend on what they show.

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
