"""AUROC against the epoch: the stability plot of a setting, and the paper's Fig. 4."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes

from altub_exp.method.altub import Alternation
from analysis.figures.captions import explanation, legend_text, place_text, shortcomings, slug, state, suffix
from analysis.figures.drawing import Drawing, Undrawn
from analysis.figures.style import COLUMN, METRICS, WINDOW, Look, footnotes, head, looks, new_figure, styled
from analysis.runs.conditions import Line, Setting
from analysis.runs.records import Run

PANEL_HEIGHT = 2.35
LEGEND_ROW = 0.15
HEAD = 0.45
"""Inches: of one metric's panel, of one line above it, of title and axis together."""

MARKERS = 7
"""On one curve: enough to tell it from others in grey."""


def stability_plot(setting: Setting) -> Drawing | Undrawn:
    """AUROC of every base distribution against the epoch, mean ± sd and best beside it; pixels above images."""
    metrics = [metric for metric in METRICS if any(run.series.get(metric) for run in setting.runs)]
    where = place_text(setting)
    name = "-".join(["stability", *map(slug, setting.place), *suffix(setting)])
    if not metrics:
        told = " ".join(map(state, setting.runs))
        return Undrawn(name, where, f"{where} is not drawn: no epoch has been evaluated. {told}")
    return _drawing(
        setting,
        metrics,
        name=name,
        title=where,
        opening=f"AUROC (%) of {where} after every evaluated epoch, epochs counted from 1.",
    )


def auroc_plot(setting: Setting, name: str, title: str, opening: str, missing: Sequence[str] = ()) -> Drawing:
    """The same of the pixel AUROC alone, for a figure of the paper."""
    return _drawing(setting, ["pixel_auroc"], name, title, opening, missing)


def _drawing(
    setting: Setting, metrics: Sequence[str], name: str, title: str, opening: str, missing: Sequence[str] = ()
) -> Drawing:
    chosen = looks([line.base for line in setting.lines])
    notes = [*missing, *(state(run) for run in setting.runs if run.state != "finished" or run.missing)]
    texts = [
        legend_text(line, look, metric) for metric in metrics for line, look in zip(setting.lines, chosen, strict=True)
    ]
    heights = [LEGEND_ROW * sum(1 + text.count("\n") for text in texts) / len(metrics), PANEL_HEIGHT]
    with styled():
        figure = new_figure(COLUMN, len(metrics) * sum(heights) + HEAD)
        grid = figure.add_gridspec(2 * len(metrics), 2, width_ratios=(4.5, 1), height_ratios=heights * len(metrics))
        below: Axes | None = None
        for row, metric in reversed(list(enumerate(metrics))):
            curves = below = figure.add_subplot(grid[2 * row + 1, 0], sharex=below)
            beside = figure.add_subplot(grid[2 * row + 1, 1], sharey=curves)
            draw_curves(curves, setting.lines, chosen, metric)
            draw_statistics(beside, setting.lines, chosen, metric)
            above = figure.add_subplot(grid[2 * row, :])
            above.set_axis_off()
            above.legend(*curves.get_legend_handles_labels(), loc="center left", borderaxespad=0)
        figure.axes[0].set_xlabel("sub-epoch" if setting.place[2] == "cflow" else "epoch")
        figure.axes[1].set_xlabel("mean ± sd,\n★ best", fontsize=7)
        head(figure, title)
        footnotes(figure, notes)
    psi_only = any(psi_only_epochs(run) for run in setting.runs)
    caption = " ".join([opening, *explanation(setting, psi_only), *shortcomings(setting, notes)])
    return Drawing(name, title, caption, figure, setting.runs, tuple(notes))


def draw_curves(axes: Axes, lines: Sequence[Line], chosen: Sequence[Look], metric: str) -> None:
    """One thick line per base distribution; several seeds as thin ones around their mean, the window shaded."""
    for first, last in sorted({run.window for line in lines for run in line.runs}):
        axes.axvspan(first, last, color=WINDOW, linewidth=0, zorder=0)
    seen: list[float] = []
    for line, look in zip(lines, chosen, strict=True):
        series = [run.series[metric] for run in line.runs if run.series.get(metric)]
        if not series:
            axes.plot(
                [],
                [],
                color=look.colour,
                linestyle=look.line,
                marker=look.marker,
                label=legend_text(line, look, metric),
            )
            continue
        if len(series) > 1:
            for one in series:
                axes.plot(list(one), percent(one.values()), color=look.colour, linewidth=0.5, alpha=0.45, label="_seed")
        common = sorted(set.intersection(*(set(one) for one in series)))
        mean = np.mean([percent(one[epoch] for epoch in common) for one in series], axis=0)
        axes.plot(
            common,
            mean,
            color=look.colour,
            linestyle=look.line,
            marker=look.marker,
            markevery=max(1, len(common) // MARKERS),
            label=legend_text(line, look, metric),
        )
        alone = psi_only_epochs(line.runs[0])
        axes.plot(
            alone,
            np.full(len(alone), 0.012),
            transform=axes.get_xaxis_transform(),
            color=look.colour,
            linestyle="none",
            marker="|",
            markersize=4,
            markeredgewidth=0.4,
            alpha=0.6,
            label="_psi_only",
        )
        for run in line.runs:
            seen += _worth_seeing(run, metric)
    if seen:
        axes.set_ylim(*limits(seen))
    axes.set_ylabel(f"{METRICS[metric]} (%)")


def draw_statistics(axes: Axes, lines: Sequence[Line], chosen: Sequence[Look], metric: str) -> None:
    """Mean ± sd over the window, one bar per run, and the best epoch as a star."""
    for place, (line, look) in enumerate(zip(lines, chosen, strict=True)):
        shifts = np.linspace(-0.25, 0.25, len(line.runs)) if len(line.runs) > 1 else [0.0]
        for shift, run in zip(shifts, line.runs, strict=True):
            found = run.statistics(metric)
            if found is None or run.absent(metric):
                continue
            axes.errorbar(
                place + shift,
                100 * found.mean,
                yerr=100 * found.std,
                color=look.colour,
                marker=look.marker,
                markersize=3.5,
                elinewidth=0.9,
                capsize=2,
            )
            axes.plot(place + shift, 100 * found.best, marker="*", markersize=5, color=look.colour, clip_on=False)
    axes.set_xlim(-0.6, len(lines) - 0.4)
    axes.set_xticks([])
    axes.tick_params(labelleft=False)


def psi_only_epochs(run: Run) -> list[int]:
    """The epochs so far that moved ψ alone; none where nothing alternates."""
    params = run.params
    if params.get("altub.alternating") != "True" or params.get("altub.base") == "fixed":
        return []
    interval, count_from, idle = (
        int(params[f"altub.{key}"]) for key in ("freezing_interval", "count_from", "idle_epochs")
    )
    alternation = Alternation(interval, count_from, idle)
    return [epoch for epoch in range(1, run.last_epoch + 1) if alternation.psi_only(epoch)]


def percent(values: Iterable[float]) -> list[float]:
    """Fractions as percent."""
    return [100 * value for value in values]


def limits(seen: Sequence[float]) -> tuple[float, float]:
    """Of an axis that shows the window and the best at a good scale; what came before may lie outside, below."""
    low, high = min(seen), max(seen)
    margin = max(0.12 * (high - low), 0.05)
    return low - 2 * margin, min(high + margin, 100 + margin / 2)


def _worth_seeing(run: Run, metric: str) -> list[float]:
    """Percent that the axis must show: the window, or the later half of a run that does not reach it, and the best."""
    series = run.series.get(metric, {})
    first, last = run.window
    inside = [value for epoch, value in series.items() if first <= epoch <= last]
    inside = inside or [series[epoch] for epoch in sorted(series)[len(series) // 2 :]]
    return percent([*inside, max(series.values())] if series else [])
