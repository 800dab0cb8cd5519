"""The paper's Fig. 3: normality, AUROC and loss against the number of flow steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from analysis.figures.curves import limits, percent
from analysis.figures.style import PAGE, STEP_MARKERS, STEPS, WINDOW, leave_blank, titled_figure
from analysis.runs.run import Run

EXPECTED_AUROC = (1, 16, 8, 4, 2)
EXPECTED_LOSS = (16, 8, 4, 2)
"""Numbers of steps from low to high, by the caption of the paper's Fig. 3."""

MARKERS = 6


def draw_depth(
    runs: Mapping[int, Run], documents: Mapping[int, Mapping[str, Any]], title: str, notes: Sequence[str]
) -> Figure:
    """Draw (a) Kolmogorov-Smirnov statistic and mean square per unit, (b) pixel AUROC, (c) training loss.

    Args:
        runs: by the number of steps.
        documents: the ``normality.json`` of those runs that have one.
        title: title of the figure.
        notes: the contents that it lacks.
    """
    with titled_figure(PAGE, 2.75, title, notes, wspace=0.06) as figure:
        first, second, third = figure.subplots(1, 3, width_ratios=(1.1, 1, 1))
        draw_units(first, documents)
        draw_series(second, runs, "pixel_auroc")
        second.set(title="(b)", ylabel="pixel AUROC (%)")
        draw_series(third, runs, "loss")
        third.set(title="(c)", ylabel="loss (nats per dimension)")
        handles, labels = second.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower right", ncols=len(labels), title=None)
    return figure


def draw_units(axes: Axes, documents: Mapping[int, Mapping[str, Any]]) -> None:
    """Draw means over the units of the training images: KS statistic on the left axis, E[z²] on the right one."""
    axes.set(title="(a)", xlabel="flow steps")
    steps = sorted(documents)
    if not steps:
        leave_blank(axes)
        axes.set_xticks([])
        return
    units = [documents[step]["train"] for step in steps]
    statistics = percent(unit["ks_statistic"] for unit in units)
    squares = [unit["mean_square"] for unit in units]
    right = axes.twinx()
    right.spines.right.set_visible(True)
    dashed = (0, (4, 1.2))
    axes.plot(steps, statistics, color="#0072B2", linestyle="-", marker="o", label="KS statistic (%)")
    right.plot(steps, squares, color="#D55E00", linestyle=dashed, marker="s", label="mean square E[z²]")
    for side in (axes, right):
        (line,) = side.lines
        side.set_ylabel(str(line.get_label()), color=line.get_color())
        side.tick_params(axis="y", labelcolor=line.get_color())
        side.margins(y=0.15)
    right.axhline(1, color="#D55E00", linewidth=0.5, linestyle=":")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(steps))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0f}")


def draw_series(axes: Axes, runs: Mapping[int, Run], metric: str) -> None:
    """Draw one curve per number of steps; the axis shows the window, early epochs may lie outside."""
    visible: list[float] = []
    for number, (step, run) in enumerate(sorted(runs.items())):
        series = run.series.get(metric, {})
        values = percent(series.values()) if metric == "pixel_auroc" else list(series.values())
        axes.plot(
            list(series),
            values,
            color=STEPS[number % len(STEPS)],
            marker=STEP_MARKERS[number % len(STEP_MARKERS)],
            markevery=(number * max(1, len(series) // 30), max(1, len(series) // MARKERS)),
            linewidth=0.9,
            label=f"{step} step{'s' if step > 1 else ''}",
        )
        first, last = run.window
        shown = [value for epoch, value in zip(series, values, strict=True) if first / 2 <= epoch <= last]
        visible += [value for value in shown if np.isfinite(value)]
    for window in {run.window for run in runs.values()}:
        axes.axvspan(*window, color=WINDOW, linewidth=0, zorder=0)
    if visible:
        low, high = limits(visible) if metric == "pixel_auroc" else (min(visible), max(visible))
        margin = 0 if metric == "pixel_auroc" else 0.06 * (high - low) or 0.01
        axes.set_ylim(low - margin, high + margin)
    axes.set_xlabel("epoch")


def order(runs: Mapping[int, Run], metric: str) -> list[int]:
    """Return the numbers of steps from the lowest to the highest mean over the window, of those with a whole window."""
    means = {
        step: float(np.mean([run.series[metric][epoch] for epoch in run.due_epochs]))
        for step, run in runs.items()
        if run.due_epochs and not run.missing(metric)
    }
    return sorted(means, key=lambda step: means[step])


def comparison(name: str, ours: Sequence[int], expected: Sequence[int]) -> str:
    """Return a sentence on our order beside the paper's, over the steps that both have.

    >>> comparison("AUROC", [1, 2, 16], (1, 16, 2))
    "AUROC from low to high, the paper's 1 < 16 < 2, ours 1 < 2 < 16: it does not agree."
    >>> comparison("loss", [4], (16, 4))
    "loss from low to high, the paper's 16 < 4, ours 4: too few runs to compare."
    """
    common = [step for step in ours if step in expected]
    theirs = [step for step in expected if step in common]
    verdict = "too few runs to compare" if len(common) < 2 else "it agrees" if common == theirs else "it does not agree"
    if verdict == "it agrees" and len(common) < len(expected):
        verdict += f" in the {len(common)} that are there"
    text = " < ".join(map(str, common)) or "none"
    return f"{name} from low to high, the paper's {' < '.join(map(str, expected))}, ours {text}: {verdict}."
