"""One evaluation of a density: AUROC on the test images, KS statistics on normal ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from altub_exp.density import Density
from altub_exp.errors import Divergence
from altub_exp.features.maps import FeatureMaps
from altub_exp.metrics.auroc import auroc
from altub_exp.metrics.kolmogorov import channel_ks
from altub_exp.scoring import anomaly_map, image_score


@dataclass
class TestSet:
    """What the density is judged on.

    Attributes:
        features: of the test images.
        defective: per image, bool [N].
        masks: defective pixels, bool [N, S, S], or None where there are no masks.
        size: side S of the anomaly maps in pixels.
    """

    features: FeatureMaps
    defective: NDArray[np.bool_]
    masks: NDArray[np.bool_] | None
    size: int

    __test__ = False  # not a test class


@torch.no_grad()
def anomaly_maps(density: Density, test: TestSet) -> Tensor:
    """Anomaly maps of all test images, [N, S, S] on the CPU."""
    batches = [anomaly_map(density(test.features.batch(rows)), test.size).cpu() for rows in test.features.batches()]
    return torch.cat(batches)


def detection(density: Density, test: TestSet) -> Iterator[tuple[str, float]]:
    """``image_auroc`` and, where there are masks, ``pixel_auroc`` over all pixels of all test images; fractions.

    Raises:
        Divergence: a score is NaN.
    """
    maps = anomaly_maps(density, test)
    if torch.isnan(maps).any():
        raise Divergence("an anomaly score became NaN")
    if test.masks is not None:
        yield "pixel_auroc", auroc(maps.numpy(), test.masks)
    yield "image_auroc", auroc(image_score(maps).numpy(), test.defective)


@torch.no_grad()
def normality(density: Density, features: FeatureMaps, rows: Tensor | None = None) -> float:
    """Mean KS statistic over the channels of all scales, against N(0, 1), of the images ``rows``; a fraction.

    Source: paper, Eq. 8 and section 5.3.
    """
    per_scale: list[list[NDArray[np.float32]]] = [[] for _ in features.shapes]
    for batch in features.batches(rows):
        for scale, units in zip(per_scale, density(features.batch(batch)), strict=True):
            scale.append(units.q.cpu().numpy())
    return float(np.concatenate([channel_ks(np.concatenate(scale)) for scale in per_scale]).mean())
