"""Exact average precision and the largest F1 of all thresholds, without building the precision-recall curve."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from altub_exp.metrics.ranking import ranks


class PrecisionRecall(NamedTuple):
    """Metrics of the precision-recall curve.

    Attributes:
        average: average precision, ``sklearn.metrics.average_precision_score``: the mean over the positives of the
            precision at the threshold that just reaches them.
        f1_max: the largest F1 = 2TP / (2TP + FP + FN) of all thresholds.
        threshold: the largest score at which F1 is largest, if scores from it on count as positive.
    """

    average: float
    f1_max: float
    threshold: float


def precision_recall(scores: NDArray[np.floating], positive: NDArray[np.bool_], *, threads: int = 1) -> PrecisionRecall:
    """Compare a ranking with labels; only thresholds that equal a positive's score matter.

    Args:
        scores: any shape; higher means positive.
        positive: the same shape.
        threads: the negatives are counted in this many parts at once; the result does not depend on it.

    Raises:
        ValueError: a score is NaN, the shapes differ, or one of the classes is empty.

    >>> precision_recall(np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, False, True, True]))
    PrecisionRecall(average=0.8333333333333333, f1_max=0.8, threshold=0.4)
    """
    if scores.shape != positive.shape:
        raise ValueError(f"scores have shape {scores.shape}, labels {positive.shape}")
    positives, negatives = np.sort(scores[positive]), scores[~positive]
    if len(positives) == 0 or len(negatives) == 0:
        raise ValueError("average precision and F1 need positives and negatives")
    false = len(negatives) - ranks(positives, negatives, threads)[0]
    true = len(positives) - np.searchsorted(positives, positives, "left")
    f1 = 2 * true / (true + false + len(positives))
    best = len(f1) - 1 - int(np.argmax(f1[::-1]))
    return PrecisionRecall(float(np.mean(true / (true + false))), float(f1[best]), float(positives[best]))
