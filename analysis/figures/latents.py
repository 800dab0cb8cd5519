"""The paper's Fig. 1: the distance of the latent units of normal images from N(0, 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import norm

from altub_exp.metrics.normality import SIGNIFICANCE
from analysis.figures.style import BASES, INK, PAGE, titled_figure

TESTS = {
    "shapiro_wilk": ("(a) Shapiro-Wilk: normal,\nof any mean and variance", "p-value"),
    "kolmogorov_smirnov": ("(b) Kolmogorov-Smirnov:\nN(0, 1)", "p-value"),
}
SAMPLES = {"train": "training images", "test_good": "normal test images"}
COLOURS = {"train": BASES["alternating"].colour, "test_good": BASES["cnn"].colour}

HEADROOM = 1.55
"""Height of an axis in units of its highest bar: the rest is for the legend."""


def draw_normality(document: Mapping[str, Any], title: str, notes: Sequence[str]) -> Figure:
    """Draw histograms of p-values over all units, and one unit's values beside N(0, 1).

    Args:
        document: a run's ``normality.json``.
        title: title of the figure.
        notes: the contents that it lacks.
    """
    with titled_figure(PAGE, 2.5, title, notes) as figure:
        *of_tests, of_unit = figure.subplots(1, 3)
        for axes, (test, (heading, label)) in zip(of_tests, TESTS.items(), strict=True):
            for sample, results in document.items():
                draw_p_values(axes, results[test], sample)
            axes.axvline(SIGNIFICANCE, color=INK, linewidth=0.7, linestyle=":")
            axes.set(title=heading, xlabel=label, ylabel="units (%)", xlim=(0, 1))
            axes.set_ylim(0, HEADROOM * axes.get_ylim()[1])
            axes.set_yticks([tick for tick in axes.get_yticks() if tick <= min(100, axes.get_ylim()[1])])
            axes.legend(loc="upper right")
        draw_unit(of_unit, next(iter(document.values()))["example"])
    return figure


def passed(test: Mapping[str, Any]) -> str:
    """Return the share of the units whose p-value is above the level of significance."""
    return "none" if test["rejected"] is None else f"{100 * (1 - test['rejected']):.1f} %"


def draw_p_values(axes: Axes, test: Mapping[str, Any], sample: str) -> None:
    """Draw the percent of the units in each bin; filled for the training images, an outline for the test images."""
    counts = np.asarray(test["histogram"], float)
    edges = np.linspace(0, 1, len(counts) + 1)
    axes.stairs(
        100 * counts / max(1, counts.sum()),
        edges,
        fill=sample == "train",
        color=COLOURS[sample],
        alpha=0.55 if sample == "train" else 1.0,
        linewidth=0.9,
        label=f"{SAMPLES[sample]}:\n{passed(test)} have p > {SIGNIFICANCE}",
    )


def draw_unit(axes: Axes, unit: Mapping[str, Any]) -> None:
    """Draw the density of one unit's values, with N(0, 1) and the normal distribution of the values' mean and sd."""
    values = np.asarray(unit["values"], float)
    mean, sd = float(values.mean()), float(values.std(ddof=1))
    axes.hist(
        values, bins="auto", density=True, color=COLOURS["train"], alpha=0.55, label=f"one unit, n = {len(values)}"
    )
    x = np.linspace(min(-3.5, values.min() - sd), max(3.5, values.max() + sd), 400)
    axes.plot(x, norm.pdf(x), color="black", linestyle=(0, (4, 1.2)), label="N(0, 1)")
    if sd > 0:
        axes.plot(x, norm.pdf(x, mean, sd), color=COLOURS["test_good"], label=f"N({mean:.2f}, {sd:.2f}²)")
    axes.set(title="(c) one unit that is normal,\nbut not N(0, 1)", xlabel="latent value z", ylabel="density")
    axes.set_ylim(0, HEADROOM * axes.get_ylim()[1])
    axes.legend(loc="upper left", ncols=1)


def unit_text(unit: Mapping[str, Any]) -> str:
    """Return the place of a unit, and its tests, as a clause."""
    shapiro = unit["shapiro_p"]
    place = f"scale {unit['scale'] + 1}, channel {unit['channel']}, row {unit['row']}, column {unit['column']}"
    return (
        f"{place}: KS statistic {unit['ks']:.3f}, Kolmogorov-Smirnov p {unit['ks_p']:.2g}, "
        f"Shapiro-Wilk p {'undefined' if shapiro is None else format(shapiro, '.2g')}"
    )
