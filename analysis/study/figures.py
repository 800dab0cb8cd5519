"""The study's figures: curves of the arms, effects with their intervals, and indicators against the AUROC."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from altub_exp.metrics.stability import METRICS
from analysis.figures.curves import limits, percent
from analysis.figures.drawing import Drawing, Undrawn
from analysis.figures.style import PAGE, WINDOW, leave_blank, looks, titled_figure
from analysis.runs.run import Run
from analysis.study.effects import Verdict
from analysis.study.foretelling import window_means
from analysis.study.grid import PlannedRun
from analysis.study.measures import LOGARITHMS, is_complete, series_of
from analysis.study.protocol import ARMS, CLAIMS, DATA, INDICATORS, NORMS, DataSet

SET_MARKERS = {"screw": "o", "elpv": "s", "hazelnut_toy": "^", "ksdd": "D"}
NORM_MARKERS = {"trainable": "o", "none": "s", "counted": "^"}

MEANINGS = {
    "mean": "mean AUROC, points",
    "log_sd": "standard deviation, factor",
    "last": "AUROC of the last epoch, points",
    "ks": "KS statistic, points",
}

VERDICTS: dict[str, dict[str, Any]] = {
    "supported": {"marker": "o", "fillstyle": "full"},
    "unsupported": {"marker": "o", "fillstyle": "none"},
    "refuted": {"marker": "X", "fillstyle": "full"},
    "missing": {"marker": "o", "fillstyle": "none", "color": "0.5"},
}
"""Markers of the mean effect by the verdict."""


def complete_runs(grid: Sequence[PlannedRun], data: DataSet, norm: str, arm: str) -> list[Run]:
    """Return the runs of an arm that have finished with the whole window."""
    base = "none" if arm == "fitted" else arm
    return [
        planned.run
        for planned in grid
        if (planned.data, planned.norm, planned.base) == (data, norm, base)
        and planned.run is not None
        and is_complete(planned.run, arm, data.primary)
    ]


def _legend(figure: Figure, ncols: int) -> None:
    """Add a legend below all panels, with one entry for each label."""
    labelled: dict[str, Artist] = {}
    for axes in figure.axes:
        handles, labels = axes.get_legend_handles_labels()
        labelled |= dict(zip(labels, handles, strict=True))
    if labelled:
        figure.legend(labelled.values(), labelled.keys(), loc="outside lower center", ncols=ncols)


def curves(grid: Sequence[PlannedRun]) -> Drawing | Undrawn:
    """Draw the primary AUROC against the epoch: a panel for each norm and data set, a line for each arm."""
    name, title = "curves", "AUROC while training"
    used: dict[str, Run] = {}
    with titled_figure(PAGE, 5.4, title, []) as figure:
        panels = figure.subplots(len(NORMS), len(DATA), squeeze=False, sharex=True)
        for row, norm in zip(panels, NORMS, strict=True):
            for axes, data in zip(row, DATA, strict=True):
                used |= {run.run_id: run for run in _draw_arms(axes, grid, data, norm)}
                if norm == NORMS[0]:
                    axes.set_title(f"{data.name}\n{METRICS[data.primary]} (%)", fontsize=7)
                if norm == NORMS[-1]:
                    axes.set_xlabel("epoch")
            row[0].set_ylabel(f"norm {norm}")
        _legend(figure, ncols=len(ARMS))
    text = "Lines: means over the seeds; bands: their smallest and largest values; shaded: the window."
    if not used:
        return Undrawn(name, title, f"{title}: no run is complete yet.")
    return Drawing(name, title, text, figure, tuple(used.values()))


def _draw_arms(axes: Axes, grid: Sequence[PlannedRun], data: DataSet, norm: str) -> list[Run]:
    drawn: list[Run] = []
    visible: list[float] = []
    for arm, look in zip(ARMS, looks(ARMS), strict=True):
        runs = complete_runs(grid, data, norm, arm)
        if not runs:
            continue
        every = [series_of(run, arm, data.primary) for run in runs]
        epochs = sorted(set.intersection(*(set(series) for series in every)))
        values = np.array([percent(series[epoch] for epoch in epochs) for series in every])
        options = look.options | {"marker": "none"}
        axes.plot(epochs, values.mean(axis=0), **options, linewidth=0.9, label=f"{look.label}")
        axes.fill_between(epochs, values.min(axis=0), values.max(axis=0), color=look.colour, alpha=0.15, linewidth=0)
        first, last = runs[0].window
        inside = values[:, [first <= epoch <= last for epoch in epochs]]
        visible += [float(inside.min()), float(inside.max())]
        drawn += runs
    if drawn:
        axes.axvspan(*drawn[0].window, color=WINDOW, linewidth=0, zorder=0)
        axes.set_ylim(*limits(visible))
    else:
        leave_blank(axes)
    return drawn


def effects(verdicts: Sequence[Verdict], grid: Sequence[PlannedRun]) -> Drawing | Undrawn:
    """Draw the effect of every claim and norm with its interval, and those of the data sets."""
    name, title = "effects", "AltUB minus the original, by claim and norm"
    if all(verdict.effect.value is None for verdict in verdicts):
        return Undrawn(name, title, f"{title}: no data set has enough pairs yet.")
    with titled_figure(PAGE, 2.6, title, []) as figure:
        panels = figure.subplots(1, len(CLAIMS), sharey=True)
        for axes, claim in zip(panels, CLAIMS, strict=True):
            factor = claim.statistic in LOGARITHMS
            for verdict in verdicts:
                if verdict.claim == claim:
                    _draw_effect(axes, verdict, NORMS.index(verdict.norm), np.exp if factor else np.asarray)
            if factor:
                axes.set_xscale("log", base=2)
                axes.xaxis.set_major_formatter("×{x:g}")
            _shade(axes, 1 if factor else 0, claim.sign)
            axes.set_title(f"{claim.name}: {claim.text}", fontsize=7)
            axes.set_xlabel(MEANINGS[claim.statistic], fontsize=6.5)
        panels[0].set_yticks(range(len(NORMS)), [f"norm {norm}" for norm in NORMS])
        panels[0].set_ylim(len(NORMS) - 0.5, -0.5)
        _legend(figure, ncols=len(DATA) + len(VERDICTS))
    text = (
        "Large markers and bars: the mean over the data sets with its 95 % interval, and the verdict; small markers: "
        "the data sets; shaded: the claimed side."
    )
    runs = tuple(planned.run for planned in grid if planned.run is not None)
    return Drawing(name, title, text, figure, runs)


def _draw_effect(axes: Axes, verdict: Verdict, row: int, shown: Callable[[ArrayLike], np.ndarray]) -> None:
    effect = verdict.effect
    for number, pairs in enumerate(effect.pairs):
        if pairs.enters and pairs.mean is not None:
            marker = SET_MARKERS[pairs.data.name]
            y = row + 0.12 + 0.09 * number
            axes.plot(shown(pairs.mean), y, marker, markersize=3, color="#D55E00", label=pairs.data.name)
    if effect.value is not None and effect.low is not None and effect.high is not None:
        look = {"color": "#0072B2"} | VERDICTS[verdict.word]
        axes.plot(shown([effect.low, effect.high]), [row - 0.1] * 2, "-", color=look["color"], linewidth=1.4)
        label = "without missing data sets" if verdict.word == "missing" else verdict.word
        axes.plot(shown(effect.value), row - 0.1, **look, linestyle="none", markersize=4.5, label=label)


def _shade(axes: Axes, neutral: float, sign: int) -> None:
    """Mark where there is no effect, and shade the claimed side up to the end of the axis."""
    axes.axvline(neutral, color="0.4", linewidth=0.6)
    low, high = axes.get_xlim()
    axes.axvspan(neutral, high if sign > 0 else low, color=WINDOW, linewidth=0, zorder=0)
    axes.set_xlim(low, high)


def indicators(grid: Sequence[PlannedRun]) -> Drawing | Undrawn:
    """Draw the mean KS statistic, the mean |γ| and the loss of every run over its window against its mean AUROC."""
    name, title = "indicators", "Quantities that need no labels, against the AUROC"
    used: dict[str, Run] = {}
    with titled_figure(PAGE, 5.2, title, []) as figure:
        panels = figure.subplots(len(INDICATORS), len(DATA), squeeze=False)
        for row, (metric, label) in zip(panels, INDICATORS.items(), strict=True):
            for axes, data in zip(row, DATA, strict=True):
                used |= {run.run_id: run for run in _draw_points(axes, grid, data, metric)}
                if axes in panels[0]:
                    axes.set_title(f"{data.name}\n{METRICS[data.primary]} (%)", fontsize=7)
                axes.set_xlabel(label, fontsize=6.5)
            row[0].set_ylabel("mean AUROC (%)")
        _legend(figure, ncols=len(NORMS))
    if not used:
        return Undrawn(name, title, f"{title}: no run is complete yet.")
    return Drawing(name, title, "One marker per run: means over the window.", figure, tuple(used.values()))


def _draw_points(axes: Axes, grid: Sequence[PlannedRun], data: DataSet, metric: str) -> list[Run]:
    drawn = []
    bases = [arm for arm in ARMS if arm != "fitted"]
    for base, look in zip(bases, looks(bases), strict=True):
        for norm in NORMS:
            points = []
            for run in complete_runs(grid, data, norm, base):
                if (means := window_means(run, metric, data.primary)) is not None:
                    points.append(means)
                    drawn.append(run)
            if points:
                x, y = zip(*points, strict=True)
                axes.plot(
                    x,
                    y,
                    NORM_MARKERS[norm],
                    color=look.colour,
                    markersize=3,
                    fillstyle="full" if base == "alternating" else "none",
                    label=f"{look.label}, norm {norm}",
                )
    return drawn
