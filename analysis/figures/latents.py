"""The paper's Fig. 1: how far from N(0, 1) the latent units of normal images are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from scipy.stats import norm

from altub_exp.metrics.normality import SIGNIFICANCE
from analysis.figures.style import BASES, INK, PAGE, footnotes, head, new_figure, styled

TESTS = {
    "shapiro_wilk": ("(a) Shapiro-Wilk: normal,\nof any mean and variance", "p-value"),
    "kolmogorov_smirnov": ("(b) Kolmogorov-Smirnov:\nN(0, 1)", "p-value"),
}
SAMPLES = {"train": "training images", "test_good": "normal test images"}
COLOURS = {"train": BASES["alternating"].colour, "test_good": BASES["cnn"].colour}

HEADROOM = 1.55
"""How much higher than its bars an axis is, for the legend."""


def draw_normality(document: Mapping[str, Any], title: str, notes: list[str]) -> Any:
    """Histograms of p-values over all units, and one unit's values beside N(0, 1).

    Args:
        document: a run's ``normality.json``.
        title: of the figure.
        notes: what it lacks.

    Returns:
        The figure.
    """
    with styled():
        figure = new_figure(PAGE, 2.5)
        axes = figure.subplots(1, 3)
        for one, (test, (heading, label)) in zip(axes, TESTS.items(), strict=False):
            for sample, found in document.items():
                draw_p_values(one, found[test], sample)
            one.axvline(SIGNIFICANCE, color=INK, linewidth=0.7, linestyle=":")
            one.set(title=heading, xlabel=label, ylabel="units (%)", xlim=(0, 1))
            one.set_ylim(0, HEADROOM * one.get_ylim()[1])
            one.set_yticks([tick for tick in one.get_yticks() if tick <= min(100, one.get_ylim()[1])])
            one.legend(loc="upper right")
        draw_unit(axes[2], next(iter(document.values()))["example"])
        head(figure, title)
        footnotes(figure, notes)
    return figure


def draw_p_values(axes: Axes, found: Mapping[str, Any], sample: str) -> None:
    """Percent of the units in each bin; filled for the training images, an outline for the test images."""
    counts = np.asarray(found["histogram"], float)
    edges = np.linspace(0, 1, len(counts) + 1)
    shares = 100 * counts / max(1, counts.sum())
    above = "none" if found["rejected"] is None else f"{100 * (1 - found['rejected']):.1f} %"
    axes.stairs(
        shares,
        edges,
        fill=sample == "train",
        color=COLOURS[sample],
        alpha=0.55 if sample == "train" else 1.0,
        linewidth=0.9,
        label=f"{SAMPLES[sample]}:\n{above} have p > {SIGNIFICANCE}",
    )


def draw_unit(axes: Axes, unit: Mapping[str, Any]) -> None:
    """The density of one unit's values, with N(0, 1) and the normal distribution of the values' mean and sd."""
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
    """Which unit it is, and its tests, as a clause."""
    shapiro = unit["shapiro_p"]
    place = f"scale {unit['scale'] + 1}, channel {unit['channel']}, row {unit['row']}, column {unit['column']}"
    return (
        f"{place}: KS statistic {unit['ks']:.3f}, Kolmogorov-Smirnov p {unit['ks_p']:.2g}, "
        f"Shapiro-Wilk p {'undefined' if shapiro is None else format(shapiro, '.2g')}"
    )
