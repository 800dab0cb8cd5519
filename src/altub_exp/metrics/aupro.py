"""The exact area under the curve of per-region overlap, AUPRO (Bergmann et al. 2019, MVTec AD).

https://doi.org/10.1109/CVPR.2019.00982
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from altub_exp.metrics.ranking import ranks

LARGEST_RATE = 0.3
"""The false-positive rate to which the published values are integrated."""

NEIGHBOURS = np.stack([np.zeros((3, 3)), np.ones((3, 3)), np.zeros((3, 3))])
"""Eight pixels of the same image."""


def aupro(
    maps: NDArray[np.floating],
    masks: NDArray[np.bool_],
    *,
    inside: NDArray[np.bool_] | None = None,
    largest_rate: float = LARGEST_RATE,
    threads: int = 1,
) -> float:
    """Return the area under the PRO curve from a false-positive rate of 0 to the largest, divided by the latter.

    A region is an 8-connected component of a mask. At a threshold, the per-region overlap is the mean over all regions
    of the share of their pixels that reach it; the false-positive rate is that share of all pixels outside of regions.
    The curve joins the points of all distinct scores by lines, as the evaluation code of MVTec AD does.

    Args:
        maps: one score per pixel, [N, H, W]; higher means defective.
        masks: defective pixels, bool [N, H, W].
        inside: the pixels that count, bool [N, H, W], among them all defective ones; None: all.
        largest_rate: above 0, at most 1.
        threads: the normal pixels are counted in this many parts at once; the result does not depend on it.

    Returns:
        A fraction, 0 to 1.

    Raises:
        ValueError: a score is NaN, the shapes differ, or there are no defective or no normal pixels.

    >>> maps, masks = np.array([[[3.0, 1.0, 2.0, 0.0]]]), np.array([[[True, False, True, False]]])
    >>> aupro(maps, masks, largest_rate=1.0)
    1.0
    """
    from scipy import ndimage  # here: the analysis imports this package, and needs no labels

    if maps.shape != masks.shape:
        raise ValueError(f"maps have shape {maps.shape}, masks {masks.shape}")
    marked = masks.any(axis=(1, 2))
    if not marked.any() or masks.all() or (inside is not None and masks[inside].all()):
        raise ValueError("AUPRO needs defective and normal pixels")
    regions = ndimage.label(masks[marked], NEIGHBOURS)[0][masks[marked]] - 1
    sizes = np.bincount(regions)
    scores = maps[masks]
    order = np.argsort(scores)
    scores, shares = scores[order], (1 / (len(sizes) * sizes))[regions[order]]
    first = np.flatnonzero(np.r_[True, scores[1:] != scores[:-1]])  # of each distinct score
    normal = maps[~masks if inside is None else inside & ~masks]
    below, not_above = ranks(scores[first], normal, threads)
    overlaps = np.cumsum(np.add.reduceat(shares, first)[::-1])
    # the points before and after each distinct score of the regions, from the largest on
    counts = len(normal) - np.stack([not_above, below], axis=1)[::-1].ravel()
    rates = np.r_[0, counts, len(normal)] / len(normal)
    curve = np.r_[0, 0, np.repeat(overlaps, 2)]
    end = int(np.searchsorted(rates, largest_rate))  # the first point that is not below it
    rates, curve = rates[: end + 1], curve[: end + 1]
    curve[end], rates[end] = np.interp(largest_rate, rates, curve), largest_rate
    return min(1.0, float(np.trapezoid(curve, rates) / largest_rate))  # the sum of the shares is rounded
