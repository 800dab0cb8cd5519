"""AUROC against the epoch: the stability plot of a setting, and the paper's Fig. 4."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes

from altub_exp.altub import Alternation
from altub_exp.runs import State
from analysis.drawing import Drawing, origin
from analysis.records import Run
from analysis.settings import Line, Setting
from analysis.style import (
    BACKBONES,
    BASES,
    COLUMN,
    DATASETS,
    METRICS,
    MODELS,
    WINDOW,
    Look,
    footnotes,
    head,
    looks,
    new_figure,
    styled,
)

PANEL_HEIGHT = 2.35
LEGEND_ROW = 0.15
HEAD = 0.45
"""Inches: of one metric's panel, of one line above it, of title and axis together."""

LEGEND_LETTERS = 54
"""In a row of the legend."""

MARKERS = 7
"""On one curve: enough to tell it from others in grey."""


def stability_plot(setting: Setting) -> Drawing:
    """AUROC of every base distribution against the epoch, mean ± sd and best beside it; pixels above images."""
    metrics = [metric for metric in METRICS if any(run.series.get(metric) for run in setting.runs)]
    where = place_text(setting)
    return _drawing(
        setting,
        metrics,
        name="-".join(["stability", *map(slug, setting.place), *_suffix(setting)]),
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
    notes = [*missing, *(_state(run) for run in setting.runs if run.state != "finished" or run.missing)]
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
    caption = " ".join([opening, *_explanation(setting), *_notes(setting, notes)])
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


def legend_text(line: Line, look: Look, metric: str) -> str:
    """What the legend says of a line, in rows that fit."""
    return textwrap.fill(f"{label(line, look)}: {statistics_text(line, metric)}", LEGEND_LETTERS)


def statistics_text(line: Line, metric: str) -> str:
    """``97.81 ± 0.12, best 98.30``: means over the seeds where there are several, of those with a whole window."""
    whole = [run for run in line.runs if not run.absent(metric)]
    if not whole:
        return "epochs of the window missing"
    found = [statistics for run in whole if (statistics := run.statistics(metric))]
    mean, std, best = (100 * float(np.mean([getattr(one, name) for one in found])) for name in ("mean", "std", "best"))
    fewer = f" ({len(whole)} of them)" if len(whole) < len(line.runs) else ""
    return f"{mean:.2f} ± {std:.2f}, best {best:.2f}{fewer}"


def label(line: Line, look: Look) -> str:
    """How a line is called: its base distribution, what tells it from others of the same, and the number of seeds."""
    parts = [look.label, *(f"{key.removeprefix('altub.')} {value}" for key, value in line.differs.items())]
    return ", ".join(parts if len(line.runs) == 1 else [*parts, f"{len(line.runs)} seeds"])


def percent(values: Iterable[float]) -> list[float]:
    """Fractions as percent."""
    return [100 * value for value in values]


def limits(seen: Sequence[float]) -> tuple[float, float]:
    """Of an axis that shows the window and the best at a good scale; what came before may lie outside, below."""
    low, high = min(seen), max(seen)
    margin = max(0.12 * (high - low), 0.05)
    return low - 2 * margin, min(high + margin, 100 + margin / 2)


def place_text(setting: Setting) -> str:
    """``MVTec AD capsule, FastFlow, ResNet-18``, with what tells it from other settings."""
    dataset, category, model, backbone = setting.place
    parts = [
        f"{DATASETS.get(dataset, dataset)} {category}",
        MODELS.get(model, model),
        BACKBONES.get(backbone, backbone),
    ]
    return ", ".join([*parts, *(f"{key}={value}" for key, value in setting.short.items())])


def slug(text: str) -> str:
    """Fit for a file's name."""
    return re.sub(r"[^\w.=]+", "_", text)


def _suffix(setting: Setting) -> list[str]:
    return [slug(f"{key.rpartition('.')[2]}={value}") for key, value in setting.short.items()]


def _worth_seeing(run: Run, metric: str) -> list[float]:
    """Percent that the axis must show: the window, or the later half of a run that does not reach it, and the best."""
    series = run.series.get(metric, {})
    first, last = run.window
    inside = [value for epoch, value in series.items() if first <= epoch <= last]
    inside = inside or [series[epoch] for epoch in sorted(series)[len(series) // 2 :]]
    return percent([*inside, max(series.values())] if series else [])


def _state(run: Run) -> str:
    base, seed = run.tags.get("altub", "?"), run.tags.get("seed", "?")
    name = BASES[base].label if base in BASES else base
    diverged = " (its training diverged)" if run.state == State.crashed else ""
    missing = f", {run.missing} of {len(run.due)} evaluations in the window missing" if run.missing else ""
    return f"{name}, seed {seed}: {run.state} after epoch {run.last_epoch}{diverged}{missing}."


def _explanation(setting: Setting) -> list[str]:
    texts = ["Shaded: the epochs of the statistics; beside: their mean ± standard deviation, ★ the best of all epochs."]
    if any(len(line.runs) > 1 for line in setting.lines):
        texts.append(
            "Several seeds: thin lines, their mean thick; in the legend means over the seeds of each run's mean, "
            "standard deviation over epochs, and best."
        )
    if any(psi_only_epochs(run) for run in setting.runs):
        texts.append("Ticks at the bottom: epochs that update ψ alone.")
    if any(line.base == "none" for line in setting.lines):
        texts.append("original: the base distribution stays N(0, I).")
    if setting.differs:
        told = ", ".join(f"{key}={value}" for key, value in setting.differs.items())
        texts.append(f"There are other settings of these images, model and backbone; this one has {told}.")
    return [*texts, origin(setting.runs)]


def _notes(setting: Setting, notes: Sequence[str]) -> list[str]:
    texts = [f"Not complete: {' '.join(notes)}"] if notes else []
    if setting.doubles:
        ids = ", ".join(run.run_id for run in setting.doubles)
        texts.append(f"Not drawn, since the same line and seed is there already: MLflow runs {ids}.")
    return texts
