"""Anomaly maps and masks for tests of pixel metrics, and AUPRO computed in two obvious ways."""

from itertools import pairwise

import numpy as np
from scipy.integrate import trapezoid
from scipy.ndimage import label


def components(mask):
    """Return the 8-connected components of a mask as lists of (row, column), by a flood fill."""
    left = {(int(y), int(x)) for y, x in zip(*np.nonzero(mask), strict=True)}
    found = []
    while left:
        border = [left.pop()]
        component = []
        while border:
            y, x = border.pop()
            component.append((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            border += near
        found.append(component)
    return found


def aupro_by_thresholds(maps, masks, largest_rate=0.3, thresholds=None):
    """Compute AUPRO with a loop over thresholds, by default over all distinct scores."""
    values = [
        np.array([maps[n][pixel] for pixel in component])
        for n, mask in enumerate(masks)
        for component in components(mask)
    ]
    normal = maps[~masks]
    points = [(0.0, 0.0)]
    for threshold in np.unique(maps)[::-1] if thresholds is None else thresholds:
        overlap = np.mean([np.mean(region >= threshold) for region in values])
        points.append((np.mean(normal >= threshold), overlap))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 >= largest_rate:
            break
        if x1 > largest_rate:
            x1, y1 = largest_rate, y0 + (y1 - y0) * (largest_rate - x0) / (x1 - x0)
        area += (x1 - x0) * (y0 + y1) / 2
    return area / largest_rate


def blobs(random, count=3, size=24, share=0.1):
    """Draw smooth maps and masks of a few blobs."""
    masks = np.zeros((count, size, size), dtype=bool)
    for mask in masks[1:]:  # the first image is normal
        for _ in range(random.integers(1, 4)):
            y, x, height, width = random.integers(0, size - 5, 2).tolist() + random.integers(1, 6, 2).tolist()
            mask[y : y + height, x : x + width] = True
    maps = random.normal(size=masks.shape) + masks * random.uniform(0, 2)
    return maps, masks


def aupro_by_sorting(maps, masks, largest_rate=0.3):
    """Compute AUPRO as the evaluation code of MVTec AD does: sort all pixels, and sum up rates and overlaps."""
    changes_of_rate = np.where(masks, 0.0, 1.0 / np.sum(~masks))
    changes_of_overlap = np.zeros(masks.shape)
    count = 0
    for n, mask in enumerate(masks):
        labels, number = label(mask, structure=np.ones((3, 3)))
        for region in range(1, number + 1):
            changes_of_overlap[n][labels == region] = 1.0 / np.sum(labels == region)
        count += number
    order = np.argsort(maps, axis=None)[::-1]
    last_of_ties = np.append(np.diff(maps.ravel()[order]) != 0, True)
    rates = np.append(0.0, np.cumsum(changes_of_rate.ravel()[order])[last_of_ties])
    overlaps = np.append(0.0, np.cumsum(changes_of_overlap.ravel()[order])[last_of_ties] / count)
    end = np.searchsorted(rates, largest_rate)
    share = (largest_rate - rates[end - 1]) / (rates[end] - rates[end - 1])
    edge = overlaps[end - 1] + share * (overlaps[end] - overlaps[end - 1])
    area = trapezoid(np.append(overlaps[:end], edge), np.append(rates[:end], largest_rate))
    return area / largest_rate
