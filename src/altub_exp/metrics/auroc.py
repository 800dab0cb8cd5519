"""The exact area under the ROC curve, ties included, without building the curve."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def auroc(scores: NDArray[np.floating], positive: NDArray[np.bool_]) -> float:
    """Probability that a positive scores above a negative, a tie counting one half (Mann-Whitney's U / PN).

    Equal to ``sklearn.metrics.roc_auc_score``, but sorts values instead of indices, which numpy does with vector
    instructions, and each class by itself.

    Args:
        scores: any shape; higher means positive.
        positive: the same shape.

    Returns:
        A fraction, 0 to 1.

    Raises:
        ValueError: a score is NaN, the shapes differ, or one of the classes is empty.

    >>> auroc(np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, False, True, True]))
    0.875
    """
    if scores.shape != positive.shape:
        raise ValueError(f"scores have shape {scores.shape}, labels {positive.shape}")
    if np.isnan(scores).any():
        raise ValueError("a score is NaN")
    positives, negatives = np.sort(scores[positive], axis=None), np.sort(scores[~positive], axis=None)
    pairs = positives.size * negatives.size
    if pairs == 0:
        raise ValueError("AUROC needs positives and negatives")
    # count per element of the smaller class, whose sorted order keeps the look-ups in cache
    few, many = (positives, negatives) if positives.size <= negatives.size else (negatives, positives)
    below_twice = int(np.searchsorted(many, few, "left").sum()) + int(np.searchsorted(many, few, "right").sum())
    area = below_twice / (2 * pairs)
    return area if few is positives else (2 * pairs - below_twice) / (2 * pairs)
