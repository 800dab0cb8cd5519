"""Mean, standard deviation and best value of a series of AUROCs over the epochs (section 5.1 of arXiv 2210.14913)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

METRICS = {"pixel_auroc": "pixel AUROC", "image_auroc": "image AUROC"}
"""The AUROCs of a detector, and their names for a reader."""

AUROCS = (*METRICS, *(f"{metric}_fitted" for metric in METRICS))
"""The series of a run; ``fitted``: scored with a base distribution fitted to the latents (``eval.fitted``)."""


END_METRICS = {
    "pixel_aupro": "pixel AUPRO",
    "pixel_ap": "pixel AP",
    "pixel_f1_max": "pixel F1-max",
    "image_ap": "image AP",
    "image_f1_max": "image F1-max",
}
"""The metrics that a run has once, from its last evaluation, and their names for a reader; fractions."""


@dataclass(frozen=True)
class Stability:
    """Statistics of a series of AUROCs.

    Attributes:
        mean: over the window.
        std: over the window, divided by n (the paper does not say by what; for 201 epochs n − 1 differs by 0.25 %).
        best: over all epochs, as the paper's "best performance during the training process".
        best_epoch: the first epoch that reached it.
        epochs: number of values in the window.
    """

    mean: float
    std: float
    best: float
    best_epoch: int
    epochs: int


def percentages(summary: Mapping[str, float]) -> str:
    """Return the metrics of :data:`END_METRICS` that a summary holds, as text.

    >>> percentages({"image_f1_max": 0.875, "pixel_aupro": 0.9})
    'pixel AUPRO 90.0 %, image F1-max 87.5 %'
    """
    return ", ".join(f"{name} {100 * summary[key]:.1f} %" for key, name in END_METRICS.items() if key in summary)


def stability(series: Mapping[int, float], first_epoch: int, last_epoch: int) -> Stability | None:
    """Return the statistics of a series {epoch: value} over first_epoch … last_epoch; None if it has no value there.

    >>> stability({1: 1.0, 2: 0.5, 3: 0.75}, 2, 3)
    Stability(mean=0.625, std=0.125, best=1.0, best_epoch=1, epochs=2)
    """
    window = [value for epoch, value in sorted(series.items()) if first_epoch <= epoch <= last_epoch]
    if not window:
        return None
    best_epoch = max(series, key=lambda epoch: (series[epoch], -epoch))
    return Stability(
        mean=float(np.mean(window)),
        std=float(np.std(window)),
        best=series[best_epoch],
        best_epoch=best_epoch,
        epochs=len(window),
    )
