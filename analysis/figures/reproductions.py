"""The paper's Figures 1, 3 and 4, from those of their runs that are there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from altub_exp.metrics.normality import SIGNIFICANCE
from analysis.figures.curves import auroc_plot
from analysis.figures.depth import EXPECTED_AUROC, EXPECTED_LOSS, comparison, draw_depth, order
from analysis.figures.drawing import Drawing, Undrawn, origin
from analysis.figures.latents import SAMPLES, draw_normality, unit_text
from analysis.paper.paper_runs import Wanted, place_of, wanted
from analysis.paper.protocol import command
from analysis.runs.artifacts import Absent, Artifacts
from analysis.runs.conditions import Line, Setting
from analysis.runs.records import Run

NORMALITY = "normality.json"


def fig1(runs: Iterable[Run], artifacts: Artifacts) -> Drawing | Undrawn:
    """Normality of every latent unit of the original FastFlow, CaiT, capsule."""
    title = "Fig. 1: latents of normal images, FastFlow, CaiT, MVTec AD capsule"
    (one,) = wanted("fig1", runs)
    if one.run is None:
        return _undrawn("fig1", title, [one])
    try:
        document = _normality(one.run, artifacts)
    except Absent as absent:
        return _undrawn("fig1", title, [one], f"MLflow run {one.run.run_id} is there ({one.run.state}), but {absent}")
    notes = _deviations([one])
    notes += [f"No test of the {SAMPLES[name]} is recorded." for name in SAMPLES if name not in document]
    main = next(iter(document.values()))
    shapiro, kolmogorov = (_above(main[test]) for test in ("shapiro_wilk", "kolmogorov_smirnov"))
    caption = (
        f"Tests of each of {main['units']:,} latent units (channel, row, column) over {main['images']} normal images "
        f"after the last epoch, histograms of their p-values in percent of the units; dotted: p = {SIGNIFICANCE}. "
        f"(a) Shapiro-Wilk: p > {SIGNIFICANCE} ({shapiro} of the units) is usually considered normal, of any mean and "
        f"variance. (b) Kolmogorov-Smirnov: p > {SIGNIFICANCE} ({kolmogorov}) would be N(0, 1). (c) One unit, of those "
        f"that pass (a) the farthest from N(0, 1); {unit_text(main['example'])}. "
        f"{origin([one.run], windows=False)}"
    )
    return _drawing("fig1", title, caption, draw_normality(document, title, notes), [one], notes)


def fig3(runs: Iterable[Run], artifacts: Artifacts) -> Drawing | Undrawn:
    """Normality, AUROC and loss of the original FastFlow with 1 to 16 steps, ResNet-18, capsule."""
    title = "Fig. 3: depth of the flow, FastFlow, ResNet-18, MVTec AD capsule"
    sweep = wanted("fig3", runs)
    there = {int(one.values["model.steps"]): one.run for one in sweep if one.run is not None}
    if not there:
        return _undrawn("fig3", title, sweep)
    notes = _incomplete("fig3", sweep) + _deviations(sweep)
    documents: dict[int, Any] = {}
    for step, run in there.items():
        try:
            document = _normality(run, artifacts)
            if "train" not in document:
                raise Absent("its tests of normality are not of the training images")
            documents[step] = document
        except Absent as absent:
            notes.append(f"(a) lacks {step} steps: {absent}.")
    orders = (
        comparison("Mean AUROC over the window", order(there, "pixel_auroc"), EXPECTED_AUROC),
        comparison("Mean loss over the window", order(there, "loss"), EXPECTED_LOSS),
    )
    caption = (
        "(a) Means over the latent units (channel, row, column) of the Kolmogorov-Smirnov statistic against N(0, 1), "
        "in percent, and of the mean square, over the normal training images after the last epoch; dotted: a mean "
        "square of 1, as N(0, 1) has. (b) Pixel AUROC (%) after every epoch. (c) Mean training loss of every epoch "
        "(nats per dimension). Epochs are counted from 1; shaded: the window; earlier epochs may lie outside the axes. "
        f"{' '.join(orders)} {origin(list(there.values()))}"
    )
    return _drawing("fig3", title, caption, draw_depth(there, documents, title, notes), sweep, notes)


def fig4(runs: Iterable[Run], artifacts: Artifacts) -> Drawing | Undrawn:
    """Pixel AUROC while training, without and with AltUB, CaiT, pill."""
    title = "Fig. 4: MVTec AD pill, FastFlow, CaiT"
    sweep = wanted("fig4", runs)
    if all(one.run is None for one in sweep):
        return _undrawn("fig4", title, sweep)
    lines = tuple(Line(one.run.tags["altub"], {}, (one.run,), ()) for one in sweep if one.run is not None)
    notes = _incomplete("fig4", sweep) + _deviations(sweep)
    opening = "Pixel AUROC (%) after every epoch, epochs counted from 1, FastFlow on CaiT without and with AltUB."
    return auroc_plot(Setting(place_of(sweep), {}, {}, lines), "fig4", title, opening, notes)


def _normality(run: Run, artifacts: Artifacts) -> dict[str, Any]:
    """A run's tests of normality, those of the training images first.

    Raises:
        Absent: there are none.
    """
    found: dict[str, Any] = json.loads(artifacts.get(run, NORMALITY).read_text())
    if not found:
        raise Absent(f"its {NORMALITY} is empty: there were too few images")
    return {name: found[name] for name in SAMPLES if name in found}


def _above(test: dict[str, Any]) -> str:
    return "none" if test["rejected"] is None else f"{100 * (1 - test['rejected']):.1f} %"


def _drawing(
    name: str, title: str, caption: str, figure: Any, sweep: Sequence[Wanted], notes: Sequence[str]
) -> Drawing:
    runs = tuple(one.run for one in sweep if one.run is not None)
    return Drawing(
        name, title, f"{caption} Not complete: {' '.join(notes)}" if notes else caption, figure, runs, tuple(notes)
    )


def _undrawn(name: str, title: str, sweep: Sequence[Wanted], why: str = "") -> Undrawn:
    if not why:
        lacking = [one for one in sweep if one.run is None]
        why = f"{len(lacking)} runs are missing ({_names(lacking)})" if len(lacking) > 1 else "its run is missing"
    return Undrawn(name, title, f"{title} is not drawn: {why}; compute with `{command(name)}`.")


def _incomplete(name: str, sweep: Sequence[Wanted]) -> list[str]:
    lacking = [one for one in sweep if one.run is None]
    return [f"Missing: {_names(lacking)}; compute with `{command(name)}`."] if lacking else []


def _names(sweep: Sequence[Wanted]) -> str:
    return ", ".join(one.name for one in sweep)


def _deviations(sweep: Sequence[Wanted]) -> list[str]:
    """What was computed otherwise than the sweep says."""
    return [
        f"{one.name or 'The run'} deviates: "
        + ", ".join(f"{key}={ours} (not {theirs})" for key, (ours, theirs) in one.deviations.items())
        + "."
        for one in sweep
        if one.deviations
    ]
