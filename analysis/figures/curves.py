"""AUROC against the epoch: the stability plot of a condition, and the paper's Fig. 4."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes

from altub_exp.method.schedule import Alternation
from altub_exp.metrics.stability import METRICS
from altub_exp.runs.states import RunState
from analysis.figures.captions import condition_slug, condition_text, explanation, legend_text, run_text
from analysis.figures.drawing import Drawing, Sketch, Undrawn
from analysis.figures.style import COLUMN, WINDOW, Look, looks, titled_figure
from analysis.runs.conditions import Condition, Variant
from analysis.runs.run import Run

PANEL_HEIGHT = 2.35
LEGEND_ROW = 0.15
HEAD = 0.45
"""Heights in inches: of one metric's panel, of one line above it, of title and axis together."""

MARKERS = 7
"""Markers on one curve: enough to distinguish it from others in grey."""


def stability_sketch(condition: Condition) -> Sketch:
    """Sketch the stability plot of a condition."""
    return Sketch(
        f"stability-{condition_slug(condition)}", condition_text(condition), partial(stability_plot, condition)
    )


def stability_plot(condition: Condition) -> Drawing | Undrawn:
    """Draw AUROC against the epoch for every base distribution, mean ± sd and best beside it; pixels above images."""
    metrics = [metric for metric in METRICS if any(run.series.get(metric) for run in condition.runs)]
    title = condition_text(condition)
    name = f"stability-{condition_slug(condition)}"
    if not metrics:
        states = " ".join(map(run_text, condition.runs))
        normal_only = any(run.state == RunState.finished for run in condition.runs)
        lack = "no run has an AUROC" if normal_only else "no epoch has been evaluated"
        return Undrawn(name, title, f"{title} is not drawn: {lack}. {states}")
    opening = f"AUROC (%) of {title} after every evaluated epoch, epochs counted from 1."
    return auroc_plot(condition, name, title, opening, metrics=metrics)


def auroc_plot(
    condition: Condition,
    name: str,
    title: str,
    opening: str,
    missing: Sequence[str] = (),
    metrics: Sequence[str] = ("pixel_auroc",),
) -> Drawing:
    """Draw AUROCs against the epoch.

    Args:
        condition: the runs that are drawn.
        name: stem of the figure's files.
        title: title of the figure.
        opening: the first sentence of the caption.
        missing: the contents that the figure lacks; runs that have not ended well are added.
        metrics: one panel each.
    """
    variants = condition.variants
    styles = looks([variant.base for variant in variants])
    notes = [*missing, *(run_text(run) for run in condition.runs if run.state != "finished" or run.missing())]
    rows = sum(
        1 + legend_text(variant, look, metric).count("\n")
        for metric in metrics
        for variant, look in zip(variants, styles, strict=True)
    )
    heights = [LEGEND_ROW * rows / len(metrics), PANEL_HEIGHT]
    with titled_figure(COLUMN, len(metrics) * sum(heights) + HEAD, title, notes) as figure:
        grid = figure.add_gridspec(2 * len(metrics), 2, width_ratios=(4.5, 1), height_ratios=heights * len(metrics))
        below: Axes | None = None
        for row, metric in reversed(list(enumerate(metrics))):
            curves = below = figure.add_subplot(grid[2 * row + 1, 0], sharex=below)
            beside = figure.add_subplot(grid[2 * row + 1, 1], sharey=curves)
            draw_curves(curves, variants, styles, metric)
            draw_statistics(beside, variants, styles, metric)
            above = figure.add_subplot(grid[2 * row, :])
            above.set_axis_off()
            above.legend(*curves.get_legend_handles_labels(), loc="center left", borderaxespad=0)
        figure.axes[0].set_xlabel("sub-epoch" if condition.subject.model == "cflow" else "epoch")
        figure.axes[1].set_xlabel("mean ± sd,\n★ best", fontsize=7)
    psi_only = any(psi_only_epochs(run) for run in condition.runs)
    text = " ".join([opening, *explanation(condition, psi_only)])
    return Drawing(name, title, text, figure, condition.runs, tuple(notes))


def draw_curves(axes: Axes, variants: Sequence[Variant], styles: Sequence[Look], metric: str) -> None:
    """Draw one thick line per variant; several seeds as thin ones around their mean, the window shaded."""
    for window in sorted({run.window for variant in variants for run in variant.runs}):
        axes.axvspan(*window, color=WINDOW, linewidth=0, zorder=0)
    visible: list[float] = []
    for variant, look in zip(variants, styles, strict=True):
        series = [run.series[metric] for run in variant.runs if run.series.get(metric)]
        if len(series) > 1:
            for points in series:
                x, y = list(points), percent(points.values())
                axes.plot(x, y, color=look.colour, linewidth=0.5, alpha=0.45, label="_seed")
        common = sorted(set.intersection(*map(set, series))) if series else []
        means = [float(np.mean([100 * points[epoch] for points in series])) for epoch in common]
        every = max(1, len(common) // MARKERS)
        axes.plot(common, means, **look.options, markevery=every, label=legend_text(variant, look, metric))
        ticks = psi_only_epochs(variant.runs[0]) if series else []
        axes.plot(
            ticks,
            np.full(len(ticks), 0.012),
            transform=axes.get_xaxis_transform(),
            color=look.colour,
            linestyle="none",
            marker="|",
            markersize=4,
            markeredgewidth=0.4,
            alpha=0.6,
            label="_psi_only",
        )
        for run in variant.runs:
            visible += _visible_values(run, metric)
    if visible:
        axes.set_ylim(*limits(visible))
    axes.set_ylabel(f"{METRICS[metric]} (%)")


def draw_statistics(axes: Axes, variants: Sequence[Variant], styles: Sequence[Look], metric: str) -> None:
    """Draw mean ± sd over the window, one bar per run, and the best epoch as a star."""
    for x, (variant, look) in enumerate(zip(variants, styles, strict=True)):
        shifts = np.linspace(-0.25, 0.25, len(variant.runs)) if len(variant.runs) > 1 else [0.0]
        for shift, run in zip(shifts, variant.runs, strict=True):
            statistics = run.statistics(metric)
            if statistics is None or run.missing(metric):
                continue
            mean, std = 100 * statistics.mean, 100 * statistics.std
            options = look.options | {"linestyle": "none", "markersize": 3.5, "elinewidth": 0.9, "capsize": 2}
            axes.errorbar(x + shift, mean, yerr=std, **options)
            axes.plot(x + shift, 100 * statistics.best, marker="*", markersize=5, color=look.colour, clip_on=False)
    axes.set_xlim(-0.6, len(variants) - 0.4)
    axes.set_xticks([])
    axes.tick_params(labelleft=False)


def psi_only_epochs(run: Run) -> list[int]:
    """Return the epochs so far that updated only ψ; none if nothing alternates."""
    params = run.params
    if params.get("altub.alternating") != "True" or params.get("altub.base") == "fixed":
        return []
    interval, count_from, idle = (
        int(params[f"altub.{key}"]) for key in ("freezing_interval", "count_from", "idle_epochs")
    )
    cycle = int(params["train.cycle"]) if params.get("altub.freezing_unit") == "cycle" else 1
    alternation = Alternation(interval, count_from, idle, cycle)
    return [epoch for epoch in range(1, run.last_epoch + 1) if alternation.psi_only(epoch)]


def percent(values: Iterable[float]) -> list[float]:
    """Return fractions as percent."""
    return [100 * value for value in values]


def limits(visible: Sequence[float]) -> tuple[float, float]:
    """Return the limits of an axis in percent that shows these values at a good scale; others may lie outside."""
    low, high = min(visible), max(visible)
    margin = max(0.12 * (high - low), 0.05)
    return low - 2 * margin, min(high + margin, 100 + margin / 2)


def _visible_values(run: Run, metric: str) -> list[float]:
    """Return the percent that the axis must show: the best, and the window, or the second half if none of it exists."""
    series = run.series.get(metric, {})
    first, last = run.window
    inside = [value for epoch, value in series.items() if first <= epoch <= last]
    inside = inside or [series[epoch] for epoch in sorted(series)[len(series) // 2 :]]
    return percent([*inside, max(series.values())] if series else [])
