"""The paper's Figures 1, 3 and 4, from those of their runs that are recorded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from altub_exp.metrics.normality import SIGNIFICANCE
from analysis.figures.curves import auroc_plot
from analysis.figures.depth import EXPECTED_AUROC, EXPECTED_LOSS, comparison, draw_depth, order
from analysis.figures.drawing import Drawing, Undrawn, origin
from analysis.figures.latents import SAMPLES, draw_normality, passed, unit_text
from analysis.paper.paper_runs import PaperRun, paper_runs
from analysis.paper.protocol import measure_command, sweep_command
from analysis.runs.artifacts import Artifacts, MissingArtifact
from analysis.runs.conditions import Condition, Subject, Variant
from analysis.runs.run import Run

NORMALITY = "normality.json"

FIG1 = "Fig. 1: latents of normal images, FastFlow, CaiT, MVTec AD capsule"
FIG3 = "Fig. 3: depth of the flow, FastFlow, ResNet-18, MVTec AD capsule"
FIG4 = "Fig. 4: MVTec AD pill, FastFlow, CaiT"


def fig1(runs: Iterable[Run], artifacts: Artifacts, name: str = "fig1", title: str = FIG1) -> Drawing | Undrawn:
    """Draw the normality of every latent unit of the first run of the sweep ``name``."""
    sweep = paper_runs(name, runs)[:1]
    run = sweep[0].run
    if run is None:
        return _undrawn(name, title, sweep)
    try:
        document = _normality(run, artifacts)
    except MissingArtifact as error:
        reason = f"MLflow run {run.run_id} is there ({run.state}), but {error}"
        return _undrawn(name, title, sweep, reason, measure_command(run, "--normality"))
    notes = _notes(name, sweep)
    notes += [f"No test of the {SAMPLES[name]} is recorded." for name in SAMPLES if name not in document]
    tests = next(iter(document.values()))
    text = (
        f"Tests of each of {tests['units']:,} latent units (channel, row, column) over {tests['images']} normal images "
        f"after the last epoch, histograms of their p-values in percent of the units; dotted: p = {SIGNIFICANCE}. "
        f"(a) Shapiro-Wilk: p > {SIGNIFICANCE} ({passed(tests['shapiro_wilk'])} of the units) is usually considered "
        f"normal, of any mean and variance. (b) Kolmogorov-Smirnov: p > {SIGNIFICANCE} "
        f"({passed(tests['kolmogorov_smirnov'])}) would be N(0, 1). (c) One unit, of those that pass (a) the farthest "
        f"from N(0, 1); {unit_text(tests['example'])}. {origin([run], windows=False)}"
    )
    return Drawing(name, title, text, draw_normality(document, title, notes), (run,), tuple(notes))


def fig3(runs: Iterable[Run], artifacts: Artifacts, name: str = "fig3", title: str = FIG3) -> Drawing | Undrawn:
    """Draw normality, AUROC and loss of the runs of the sweep ``name``, which have 1 to 16 steps."""
    sweep = paper_runs(name, runs)
    by_steps = {int(paper.values["model.steps"]): paper.run for paper in sweep if paper.run is not None}
    if not by_steps:
        return _undrawn(name, title, sweep)
    notes = _notes(name, sweep)
    documents: dict[int, Any] = {}
    for steps, run in by_steps.items():
        try:
            document = _normality(run, artifacts)
            if "train" not in document:
                raise MissingArtifact("its tests of normality are not of the training images")
            documents[steps] = document
        except MissingArtifact as error:
            notes.append(f"(a) lacks {steps} steps: {error}. `{measure_command(run, '--normality')}` adds it.")
    orders = (
        comparison("Mean AUROC over the window", order(by_steps, "pixel_auroc"), EXPECTED_AUROC),
        comparison("Mean loss over the window", order(by_steps, "loss"), EXPECTED_LOSS),
    )
    text = (
        "(a) Means over the latent units (channel, row, column) of the Kolmogorov-Smirnov statistic against N(0, 1), "
        "in percent, and of the mean square, over the normal training images after the last epoch; dotted: a mean "
        "square of 1, as N(0, 1) has. (b) Pixel AUROC (%) after every epoch. (c) Mean training loss of every epoch "
        "(nats per dimension). Epochs are counted from 1; shaded: the window; earlier epochs may lie outside the axes. "
        f"{' '.join(orders)} {origin(list(by_steps.values()))}"
    )
    figure = draw_depth(by_steps, documents, title, notes)
    return Drawing(name, title, text, figure, tuple(by_steps.values()), tuple(notes))


def fig4(runs: Iterable[Run]) -> Drawing | Undrawn:
    """Draw the pixel AUROC during the training, without and with AltUB, CaiT, pill."""
    sweep = paper_runs("fig4", runs)
    recorded = [paper.run for paper in sweep if paper.run is not None]
    if not recorded:
        return _undrawn("fig4", FIG4, sweep)
    variants = tuple(Variant(run.tags["altub"], {}, (run,)) for run in recorded)
    opening = "Pixel AUROC (%) after every epoch, epochs counted from 1, FastFlow on CaiT without and with AltUB."
    condition = Condition(Subject.of(recorded[0]), {}, {}, variants)
    return auroc_plot(condition, "fig4", FIG4, opening, _notes("fig4", sweep))


def _normality(run: Run, artifacts: Artifacts) -> dict[str, Any]:
    """Return a run's tests of normality, those of the training images first.

    Raises:
        MissingArtifact: it has none.
    """
    document: dict[str, Any] = json.loads(artifacts.get(run, NORMALITY).read_text())
    if not document:
        raise MissingArtifact(f"its {NORMALITY} is empty: there were too few images")
    return {name: document[name] for name in SAMPLES if name in document}


def _undrawn(name: str, title: str, sweep: Sequence[PaperRun], reason: str = "", command: str = "") -> Undrawn:
    if not reason:
        missing = _missing(sweep)
        reason = f"{len(missing)} runs are missing ({', '.join(missing)})" if len(missing) > 1 else "its run is missing"
    return Undrawn(name, title, f"{title} is not drawn: {reason}; compute with `{command or sweep_command(name)}`.")


def _missing(sweep: Sequence[PaperRun]) -> list[str]:
    return [paper.name for paper in sweep if paper.run is None]


def _notes(name: str, sweep: Sequence[PaperRun]) -> list[str]:
    """Return sentences on the runs that are missing, and on those that deviate from the sweep."""
    missing = _missing(sweep)
    notes = [f"Missing: {', '.join(missing)}; compute with `{sweep_command(name)}`."] if missing else []
    for paper in sweep:
        if paper.deviations:
            texts = [f"{key}={ours} (not {theirs})" for key, (ours, theirs) in paper.deviations.items()]
            notes.append(f"{paper.name or 'The run'} deviates: {', '.join(texts)}.")
    return notes
