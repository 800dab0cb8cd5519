"""The statistics of one run over its window, in percent or in logarithms."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from altub_exp.metrics.stability import stability
from altub_exp.runs.states import RunState
from analysis.runs.run import Run
from analysis.study.protocol import FITTED, SMALLEST_SD

Series = Mapping[int, float]

LOGARITHMS = ("log_sd", "log_roughness")
"""Statistics whose differences are shown as factors."""


def series_of(run: Run, arm: str, metric: str) -> Series:
    """Return a metric of an arm by epochs: of ``fitted`` it is recorded with the run of ``none``."""
    return run.series.get(metric + (FITTED if arm == "fitted" else ""), {})


def window_of(run: Run, series: Series) -> dict[int, float]:
    """Return the part of a series that lies in the run's window."""
    first, last = run.window
    return {epoch: value for epoch, value in series.items() if first <= epoch <= last}


def is_complete(run: Run | None, arm: str, metric: str) -> bool:
    """Return True if a run has finished and has the metric in every evaluated epoch of its window."""
    return (
        run is not None and run.state == RunState.finished and set(run.due_epochs) <= series_of(run, arm, metric).keys()
    )


def measure(run: Run, arm: str, metric: str, statistic: str) -> float:
    """Return a statistic of a complete run.

    Args:
        run: a run for which :func:`is_complete` holds.
        arm: ``none``, ``fitted`` or ``alternating``.
        metric: ``pixel_auroc`` or ``image_auroc``.
        statistic: ``mean`` over the window, ``last`` epoch and ``ks``, the window's mean of the Kolmogorov-Smirnov
            statistic, all in percent; ``log_sd``, the natural logarithm of the standard deviation over the window;
            ``log_roughness``, that of the standard deviation of the differences between consecutive epochs, over √2.
            NaN if the run has no such statistic.
    """
    if statistic == "ks":
        values = list(window_of(run, run.series.get("ks", {})).values()) if arm != "fitted" else []
        return 100 * float(np.mean(values)) if values else math.nan
    series = series_of(run, arm, metric)
    values = [series[epoch] for epoch in run.due_epochs]
    over_window = stability(series, *run.window)
    assert over_window is not None  # the run is complete
    match statistic:
        case "mean":
            return 100 * over_window.mean
        case "last":
            return 100 * values[-1]
        case "log_sd":
            return math.log(max(over_window.std, SMALLEST_SD))
        case "log_roughness":
            return math.log(max(float(np.std(np.diff(values))) / math.sqrt(2), SMALLEST_SD))
    raise ValueError(f"no statistic {statistic!r}")


def measure_if_complete(run: Run | None, arm: str, metric: str, statistic: str) -> float:
    """Return a statistic as :func:`measure` does; NaN if the run is not complete."""
    return measure(run, arm, metric, statistic) if run is not None and is_complete(run, arm, metric) else math.nan
