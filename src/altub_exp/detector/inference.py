"""The trained detector, which scores new images as the last evaluation of its run scored the test images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from altub_exp.config.compose import load_config
from altub_exp.config.plugins import discover
from altub_exp.config.schema import Device, Precision, RivalConfig
from altub_exp.data.canvas import Box, Canvas
from altub_exp.data.decoding import as_rgb, read_rgb
from altub_exp.data.files import INVALID, reason_of
from altub_exp.data.images import Placed, place
from altub_exp.detector.assembly import build_backbone, build_density
from altub_exp.detector.families import family
from altub_exp.detector.single_images import cost_of_single_images
from altub_exp.detector.tiled import canvas_scores
from altub_exp.errors import UserError
from altub_exp.features.backbone import Backbone
from altub_exp.features.extraction import PIXELS_AT_ONCE, batch, by_rotation
from altub_exp.features.packaged import weights_package
from altub_exp.machine.cuda_graphs import CudaGraphs, cuda_graphs_for, passed
from altub_exp.machine.device import prepare_device
from altub_exp.machine.precision import allow_tf32
from altub_exp.method.density import Density
from altub_exp.method.scoring import Scoring
from altub_exp.runs.checkpoint import ImageScores, load_trained
from altub_exp.runs.folder import RunFolder
from altub_exp.runs.identity import weights_fingerprint
from altub_exp.runs.integrity import require_intact
from altub_exp.runs.states import RunState
from altub_exp.text import printable

Picture = str | os.PathLike[str] | Image.Image | NDArray[np.uint8]
"""An image: a file, Pillow's, or an array of RGB [H, W, 3] or grey [H, W]."""


class Scored(NamedTuple):
    """The result of :meth:`Detector.score`; the larger a value, the more anomalous.

    Attributes:
        scores: one score per image, [N].
        maps: anomaly maps of the size of the canvas, [N, H, W]; with ``dataset.keep_aspect`` NaN outside of the image.
    """

    scores: NDArray[np.floating[Any]]
    maps: NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Detector:
    """Backbone, flow, base distributions and scoring of a trained model.

    Attributes:
        backbone: the feature extractor, on ``device``.
        density: flow and base distributions, on ``device``.
        scoring: the scoring of the model.
        extremes: reference values of the maps, see :class:`~altub_exp.method.scoring.Scoring`.
        limits: smallest and largest value of the anomaly maps of the run's own test images.
        canvas: the size H×W to which images are resized, and the tiles that the model sees.
        interpolation: the resizing of images to the canvas.
        device: the device that computes.
        bit_depth: the bits that 16-bit images use, see :func:`~altub_exp.data.decoding.read_rgb`.
        images: image scores of the run's own images; None if an earlier version has recorded the run.
        graphs: records passes through the flow as CUDA graphs; only one thread may then use the detector.
    """

    backbone: Backbone
    density: Density
    scoring: Scoring
    extremes: Sequence[float]
    limits: tuple[float, float]
    canvas: Canvas
    interpolation: str
    device: torch.device
    bit_depth: int | None = None
    images: ImageScores | None = None
    graphs: CudaGraphs | None = None

    @classmethod
    def load(
        cls, run: str | os.PathLike[str], device: str = "auto", weights: str | None = None, *, replay: bool = False
    ) -> Detector:
        """Load the detector of a finished run.

        Args:
            run: the run's folder.
            device: ``auto``, ``cpu`` or ``cuda``.
            weights: the backbone's weights file, if it has moved since the training.
            replay: on a GPU, record passes as CUDA graphs, which is faster for many images, and for one thread only.

        Raises:
            UserError: there is no finished run, a file of it is missing or damaged, or the run was trained with other
                weights of the backbone; or there is no such device.
        """
        if device not in tuple(Device):
            raise UserError(f"device={device} is not known: choose one of {', '.join(Device)}.")
        return _load(Path(run), prepare_device(Device(device)), weights, replay)

    def score(self, images: Picture | Sequence[Picture]) -> Scored:
        """Score images, each by itself, as the run scored its test images.

        Args:
            images: N images of any sizes, or one; see :data:`Picture`.

        Raises:
            UserError: there is no image, or one cannot be read, or is an array of another shape or type.
        """
        pictures = [images] if isinstance(images, str | os.PathLike | Image.Image | np.ndarray) else list(images)
        if not pictures:
            raise UserError("There is no image to score: give at least one.")
        at_once = self.images_at_once
        parts = []
        for first in range(0, len(pictures), at_once):
            batch = enumerate(pictures[first : first + at_once], start=first + 1)
            parts.append(self.score_placed([self._numbered(number, each) for number, each in batch]))
        maps, scores = (torch.cat(values).numpy() for values in zip(*parts, strict=True))
        return Scored(scores, maps)

    @property
    def images_at_once(self) -> int:
        """The number of images of a batch."""
        return max(1, PIXELS_AT_ONCE // (self.canvas.height * self.canvas.width))

    def placed(self, picture: Picture) -> Placed:
        """Return an image as the model reads it: RGB, resized as in the training.

        Raises:
            UserError: it is an array of another shape or type.
            UnreadableError: it cannot be read rightly; or another of :data:`~altub_exp.data.files.INVALID`.
        """
        if isinstance(picture, np.ndarray):
            if picture.dtype != np.uint8 or picture.shape[2:] not in ((), (3,)) or picture.ndim < 2 or not picture.size:
                raise UserError(
                    f"An array of shape {picture.shape} and type {picture.dtype} is no image: give uint8 of shape "
                    "(height, width, 3), RGB, or (height, width)."
                )
            rgb = Image.fromarray(picture).convert("RGB")
        elif isinstance(picture, Image.Image):
            rgb = as_rgb(picture, self.bit_depth)
        else:
            rgb = read_rgb(Path(picture), self.bit_depth)
        return place(rgb, self.canvas, self.interpolation)

    def _numbered(self, number: int, picture: Picture) -> Placed:
        try:
            return self.placed(picture)
        except INVALID as error:
            name = printable(picture) if isinstance(picture, str | os.PathLike) else f"Image {number}"
            raise UserError(f"{name} cannot be read as an image ({reason_of(error)}): leave it out.") from error

    def score_placed(self, images: Sequence[Placed]) -> tuple[Tensor, Tensor]:
        """Return maps [B, H, W], NaN outside of the images, and scores [B] of images on their canvases."""
        pixels, boxes = zip(*images, strict=True)
        return self.score_pixels(torch.stack(pixels), boxes if self.canvas.keep_aspect else None)

    @torch.no_grad()
    def score_pixels(self, images: Tensor, boxes: Sequence[Box] | None = None) -> tuple[Tensor, Tensor]:
        """Score images on their canvases, the larger, the more anomalous.

        Args:
            images: uint8 [B, 3, H, W].
            boxes: the parts of the canvases that count; None: all.

        Returns:
            Anomaly maps [B, H, W], NaN outside of the boxes, and scores [B], on the CPU.
        """
        tiles = self.canvas.cut(images)
        at_once = max(1, PIXELS_AT_ONCE // self.canvas.size**2)
        # split only where a batch may be too large: the number of images is not known in an exported graph
        parts = [tiles] if self.canvas.tiles == 1 else torch.split(tiles, at_once)
        found = [self._positions(part) for part in parts]
        positions = found[0] if len(found) == 1 else [torch.cat(scale) for scale in zip(*found, strict=True)]
        if boxes is None:
            maps, scores = canvas_scores(self.scoring, positions, self.extremes, self.canvas)
            return maps.cpu(), scores.cpu()
        insides = torch.stack([self.canvas.inside(box) for box in boxes]).to(self.device)
        maps, scores = canvas_scores(self.scoring, positions, self.extremes, self.canvas, insides)
        return maps.masked_fill(~insides, torch.nan).cpu(), scores.cpu()

    def _positions(self, tiles: Tensor) -> Sequence[Tensor]:
        return passed(
            self.graphs, "positions", lambda *maps: self.scoring.positions(self.density(maps)), self._maps(tiles)
        )

    def _maps(self, tiles: Tensor) -> list[Tensor]:
        if self.backbone.passes.rotations == 1:
            maps: list[Tensor] = self.backbone(tiles.to(self.device))
            return maps
        return by_rotation(batch(self.backbone, tiles, self.device, self.backbone.passes.rotations))


def _load(path: Path, device: torch.device, weights: str | None, replay: bool) -> Detector:
    discover()
    folder = RunFolder(path)
    status = folder.status()
    if status is None:
        raise UserError(f"{path} is not a run: give its folder, runs/DATASET/CATEGORY/MODEL-BACKBONE/ALTUB/seedN-HASH.")
    if status.get("state") != RunState.finished:
        raise UserError(f"The run in {path} is {status.get('state')}, not finished: only a finished one can be used.")
    require_intact(folder, folder.status_file, folder.checkpoint, folder.journal.file, folder.config)
    config = load_config(folder.config)
    if isinstance(config.model, RivalConfig):
        raise UserError(
            f"The run in {path} is of model={config.model.name}, whose detector is anomalib's and is not kept: use a "
            "flow's run."
        )
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
        density.to(device).eval().requires_grad_(False),
        family(config.model.name).scoring(config.model),
        trained.extremes,
        trained.limits,
        Canvas.of(config.dataset),
        config.dataset.interpolation,
        device,
        config.dataset.bit_depth,
        trained.images,
        cuda_graphs_for(device, (density.flow, *density.bases)) if replay and config.cuda_graphs else None,
    )


def cost_of_inference(detector: Detector, count: int) -> dict[str, float]:
    """Measure the time and memory from an image in memory to its anomaly map in memory, one image at a time.

    They cover backbone, flow and map, not decoding. Table 7, arXiv 2210.14913.

    Args:
        detector: the detector; on CUDA, copying the map to the CPU waits for all kernels.
        count: number of images to time, at least 1; they are random, since the time does not depend on the content.

    Returns:
        Those of :func:`~altub_exp.detector.single_images.cost_of_single_images`.
    """
    generator = torch.Generator().manual_seed(0)
    shape = (1, 3, detector.canvas.height, detector.canvas.width)
    image = torch.randint(256, shape, dtype=torch.uint8, generator=generator)
    return cost_of_single_images(lambda: detector.score_pixels(image), (detector.backbone, detector.density), count)
