"""The exact area under the ROC curve, ties included, without building the curve."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from altub_exp.metrics.ranking import ranks


def auroc(scores: NDArray[np.floating], positive: NDArray[np.bool_], *, threads: int = 1) -> float:
    """Return the probability that a positive scores above a negative, a tie counting one half (Mann-Whitney's U / PN).

    It equals ``sklearn.metrics.roc_auc_score``, but sorts values instead of indices, which numpy does with vector
    instructions, and each class by itself. It copies the scores once.

    Args:
        scores: any shape; higher means positive.
        positive: the same shape.
        threads: the larger class is counted in this many parts at once; the result does not depend on it.

    Returns:
        A fraction, 0 to 1.

    Raises:
        ValueError: a score is NaN, the shapes differ, or one of the classes is empty.

    >>> auroc(np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, False, True, True]))
    0.875
    """
    few, many, swapped = classes(scores, positive)
    few.sort()
    below, not_above = ranks(few, many, threads)
    below_twice = int(below.sum()) + int(not_above.sum())
    return area(below_twice, len(few) * len(many), swapped)


def classes(scores: Any, positive: Any) -> tuple[Any, Any, bool]:
    """Return the scores of the smaller class and of the larger, and True if the smaller holds the negatives.

    The smaller one is looked up in the larger: in sorted order, so that the look-ups stay in cache.

    Args:
        scores: array or tensor of any shape.
        positive: boolean array or tensor of the same shape.

    Raises:
        ValueError: the shapes differ, or a class is empty.
    """
    if scores.shape != positive.shape:
        raise ValueError(f"scores have shape {tuple(scores.shape)}, labels {tuple(positive.shape)}")
    positives, negatives = scores[positive], scores[~positive]
    if len(positives) == 0 or len(negatives) == 0:
        raise ValueError("AUROC needs positives and negatives")
    swapped = len(positives) > len(negatives)
    return (negatives, positives, True) if swapped else (positives, negatives, False)


def area(below_twice: int, pairs: int, swapped: bool) -> float:
    """Return the AUROC, from the number of pairs in which the smaller class scores higher (counted twice; a tie once).

    >>> area(7, 4, swapped=False), area(1, 4, swapped=True)
    (0.875, 0.875)
    """
    return (2 * pairs - below_twice if swapped else below_twice) / (2 * pairs)
