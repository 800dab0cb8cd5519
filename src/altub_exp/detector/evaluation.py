"""The evaluation of a density on the test images: scores, and how well they detect defects."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from altub_exp.data.canvas import Canvas
from altub_exp.detector.tiled import canvas_scores
from altub_exp.errors import Divergence
from altub_exp.features.maps import FeatureMaps
from altub_exp.machine.cuda_graphs import CudaGraphs, passed
from altub_exp.method.density import Density
from altub_exp.method.scoring import Scoring
from altub_exp.metrics import on_gpu as on_device
from altub_exp.metrics.aupro import aupro
from altub_exp.metrics.auroc import auroc
from altub_exp.metrics.precision_recall import precision_recall

TILES_AT_ONCE = 32  # tiles whose maps are resized at a time


@dataclass
class TestSet:
    """The test images; if there are none, the training images, all of them normal.

    Attributes:
        defective: True for defective images, bool [N].
        masks: defective pixels, bool [N, H, W], or None without masks.
        canvas: the canvas of the images and anomaly maps, H×W pixels in T tiles.
        insides: True for the pixels of the canvases that images cover, bool [N, H, W]; None if they cover all.
    """

    defective: NDArray[np.bool_]
    masks: NDArray[np.bool_] | None
    canvas: Canvas
    insides: Tensor | None = None

    __test__ = False  # not a test class

    @property
    def has_both_classes(self) -> bool:
        """True if there are normal and defective images, without which there is no AUROC."""
        return bool(self.defective.any()) and not self.defective.all()

    def is_due(self, epoch: int, every: int) -> bool:
        """True if this epoch is evaluated: one of every ``every``, if there is an AUROC."""
        return epoch % every == 0 and self.has_both_classes

    def of_images(self, pixels: Tensor) -> Tensor:
        """Return the values of the pixels [N, H, W] that images cover: all, or in one row."""
        return pixels if self.insides is None else pixels[self.insides.to(pixels.device)]


class Scores(NamedTuple):
    """Anomaly scores of N images.

    Attributes:
        maps: one score per pixel, [N, H, W], on the device of the run.
        images: one score per image, [N], on the CPU.
        extremes: reference values of both, see :class:`~altub_exp.method.scoring.Scoring`.
    """

    maps: Tensor
    images: Tensor
    extremes: list[float]


@torch.no_grad()
def positions(
    densities: Sequence[Density], scoring: Scoring, features: FeatureMaps, graphs: CudaGraphs | None = None
) -> list[list[Tensor]]:
    """Return the numbers per position from which all tiles are scored by each density, [N·T, H, W] per scale.

    They are on the device. The densities share a flow, through which each tile passes once.
    """

    def work(*maps: Tensor) -> list[Tensor]:
        latents = densities[0].flow(maps)
        return [scale for density in densities for scale in scoring.positions(density.standardized(latents))]

    kind = ("positions", *densities)
    batches = [passed(graphs, kind, work, features.batch(rows)) for rows in features.batches()]
    scales = [torch.cat(scale) for scale in zip(*batches, strict=True)]
    of_each = len(scales) // len(densities)
    return [scales[first : first + of_each] for first in range(0, len(scales), of_each)]


def anomaly_scores(
    densities: Sequence[Density],
    scoring: Scoring,
    test: TestSet,
    features: FeatureMaps,
    train: FeatureMaps,
    graphs: CudaGraphs | None = None,
) -> Iterator[Scores]:
    """Score all test images by each of the densities of one flow.

    ``train`` is read only if the scores refer to the training images.
    """
    of_test = positions(densities, scoring, features, graphs)
    references = positions(densities, scoring, train, graphs) if scoring.reference == "train" else of_test
    for tested, reference in zip(of_test, references, strict=True):
        yield scores_from(tested, scoring, scoring.extremes(reference), test.canvas, test.insides)


def scores_from(
    positions: Sequence[Tensor],
    scoring: Scoring,
    extremes: list[float],
    canvas: Canvas,
    insides: Tensor | None = None,
) -> Scores:
    """Compute the scores of N images from the numbers per position of their tiles, [N·T, H, W] per scale."""
    device, tiles = positions[0].device, canvas.tiles
    maps = torch.empty(len(positions[0]) // tiles, canvas.height, canvas.width, device=device)
    images = []
    at_once = max(1, TILES_AT_ONCE // tiles)
    for first in range(0, len(maps), at_once):
        rows = slice(first, first + at_once)
        chunk = [scale[first * tiles : (first + at_once) * tiles] for scale in positions]
        inside = None if insides is None else insides[rows].to(device)
        chunk_maps, chunk_scores = canvas_scores(scoring, chunk, extremes, canvas, inside)
        if chunk_maps.dtype != maps.dtype:
            maps = maps.to(torch.promote_types(maps.dtype, chunk_maps.dtype))
        maps[rows] = chunk_maps
        images.append(chunk_scores.cpu())
    return Scores(maps, torch.cat(images), extremes)


def require_numbers(scores: Scores) -> None:
    """Raise Divergence if a score is NaN."""
    if any(math.isnan(part.amax()) for part in (scores.maps, scores.images)):  # the maximum with a NaN is NaN
        raise Divergence("an anomaly score became NaN")


def detection(scores: Scores, test: TestSet) -> Iterator[tuple[str, float]]:
    """Yield ``image_auroc`` and, if there are masks, ``pixel_auroc`` over all pixels of all test images; fractions.

    The test images are of both classes.

    Raises:
        Divergence: a score is NaN.
    """
    require_numbers(scores)
    if test.masks is not None:
        pixels, defective = test.of_images(scores.maps), test.of_images(torch.from_numpy(test.masks))
        if pixels.device.type == "cpu":
            yield "pixel_auroc", auroc(pixels.numpy(), defective.numpy(), threads=torch.get_num_threads())
        else:
            yield "pixel_auroc", on_device.auroc(pixels, defective.to(pixels.device))
    yield "image_auroc", auroc(scores.images.numpy(), test.defective)


def end_metrics(scores: Scores, test: TestSet) -> dict[str, float]:
    """Compute the metrics of :data:`~altub_exp.metrics.stability.END_METRICS` that the test images allow; fractions.

    Without masks there are none of pixels, and without images of both classes none at all. They are exact, and computed
    on the processor.
    """
    if not test.has_both_classes:
        return {}
    found: dict[str, float] = {}
    threads = torch.get_num_threads()
    if test.masks is not None:
        maps, masks = scores.maps.cpu(), torch.from_numpy(test.masks)
        inside = None if test.insides is None else test.insides.numpy()
        pixels = precision_recall(test.of_images(maps).numpy(), test.of_images(masks).numpy(), threads=threads)
        found["pixel_aupro"] = aupro(maps.numpy(), test.masks, inside=inside, threads=threads)
        found |= {"pixel_ap": pixels.average, "pixel_f1_max": pixels.f1_max}
    images = precision_recall(scores.images.numpy(), test.defective)
    return found | {"image_ap": images.average, "image_f1_max": images.f1_max}
