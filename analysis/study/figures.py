"""The study's figures: curves of the arms, effects, other settings, and indicators against the AUROC."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
from analysis.study.controls import STATISTICS, Control, names_of
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
            for verdict in verdicts:
                if verdict.claim == claim:
                    _draw_effect(axes, verdict, NORMS.index(verdict.norm), _scale(claim.statistic))
            _set_scale(axes, claim.statistic, claim.sign)
            axes.set_title(f"{claim.name}: {claim.text}", fontsize=7)
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


def _scale(statistic: str) -> Callable[[ArrayLike], np.ndarray]:
    """Return what makes differences of a statistic the numbers shown: factors of differences of logarithms."""
    return np.exp if statistic in LOGARITHMS else np.asarray


def _set_scale(axes: Axes, statistic: str, sign: int) -> None:
    """Name the axis of a statistic's differences, mark where there is none, and shade the side of the sign."""
    factor = statistic in LOGARITHMS
    if factor:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("×{x:g}")
    axes.set_xlabel(MEANINGS[statistic], fontsize=6.5)
    neutral = 1 if factor else 0
    axes.axvline(neutral, color="0.4", linewidth=0.6)
    low, high = axes.get_xlim()
    axes.axvspan(neutral, high if sign > 0 else low, color=WINDOW, linewidth=0, zorder=0)
    axes.set_xlim(low, high)


def replacements(places: Mapping[str, Mapping[str, Control]]) -> Drawing | Undrawn:
    """Draw what other bases and settings change in place of ``alternating``: panels for each statistic and place.

    Args:
        places: the settings by name, of every data set and norm.
    """
    name, title = "replacements", "Other bases and settings in place of AltUB's"
    settings = names_of(places)
    if not settings:
        return Undrawn(name, title, f"{title}: no pair is complete yet.")
    with titled_figure(PAGE, 1.8 + 0.27 * len(settings), title, []) as figure:
        panels = figure.subplots(len(STATISTICS), len(places), squeeze=False, sharex="row", sharey=True)
        for row, statistic, sign in zip(panels, STATISTICS, (1, -1), strict=True):
            for axes, (place, of_place) in zip(row, places.items(), strict=True):
                _draw_gaps(axes, {settings.index(setting): control for setting, control in of_place.items()}, statistic)
                axes.set_title(place, fontsize=7)
            row[0].set_yticks(range(len(settings)), [setting.replace("`", "") for setting in settings], fontsize=6)
            row[0].set_ylim(len(settings) - 0.5, -0.5)
            for axes in row:
                _set_scale(axes, statistic, sign)
    text = (
        "Markers: means of the paired differences over the seeds; bars: their smallest and largest values; open: seeds "
        "are missing; shaded: better than AltUB with its published settings."
    )
    of_places = (control for of_place in places.values() for control in of_place.values())
    runs = (planned.run for control in of_places for planned in control.runs)
    return Drawing(name, title, text, figure, tuple(run for run in runs if run is not None))


def _draw_gaps(axes: Axes, rows: Mapping[int, Control], statistic: str) -> None:
    """Draw each setting's difference from ``alternating`` in its row."""
    shown = _scale(statistic)
    for row, control in rows.items():
        gap = control.gaps["alternating", statistic]
        full = gap.pairs == len(control.runs)
        axes.plot(shown([gap.low, gap.high]), [row, row], "-", color="#0072B2", linewidth=1.4)
        axes.plot(shown(gap.mean), row, "o", color="#0072B2", markersize=4, fillstyle="full" if full else "none")


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
