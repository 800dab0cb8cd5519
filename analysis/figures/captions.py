"""The texts of figures about conditions, variants and runs: titles, legends, captions and names of files."""

from __future__ import annotations

import textwrap

import numpy as np

from altub_exp.runs.states import RunState
from altub_exp.text import file_name
from analysis.figures.drawing import origin
from analysis.figures.style import BACKBONES, DATASETS, MODELS, Look, base_label
from analysis.runs.conditions import Condition, Variant
from analysis.runs.run import Run

LEGEND_LETTERS = 54
"""Letters in a row of the legend."""

LONGEST_NAME = 180
"""Bytes of a file's name, without its kind, its suffix and its hash; file systems allow 255."""


def legend_text(variant: Variant, look: Look, metric: str) -> str:
    """Return a variant's text in the legend, in rows that fit."""
    return textwrap.fill(f"{label(variant, look)}: {statistics_text(variant, metric)}", LEGEND_LETTERS)


def statistics_text(variant: Variant, metric: str) -> str:
    """Return a text such as ``97.81 ± 0.12, best 98.30``: means over the seeds that have a whole window."""
    whole = [run for run in variant.runs if run.due_epochs and not run.missing(metric)]
    if not whole:
        return "epochs of the window missing"
    found = [statistics for run in whole if (statistics := run.statistics(metric))]
    mean, std, best = (
        100 * float(np.mean([getattr(statistics, name) for statistics in found])) for name in ("mean", "std", "best")
    )
    fewer = f" ({len(whole)} of them)" if len(whole) < len(variant.runs) else ""
    return f"{mean:.2f} ± {std:.2f}, best {best:.2f}{fewer}"


def label(variant: Variant, look: Look) -> str:
    """Return a variant's name: base distribution, differences from others of this base, number of seeds if several."""
    parts = [look.label, *(f"{key.removeprefix('altub.')} {value}" for key, value in variant.differences.items())]
    return ", ".join(parts if len(variant.runs) == 1 else [*parts, f"{len(variant.runs)} seeds"])


def condition_text(condition: Condition) -> str:
    """Return a text such as ``MVTec AD capsule, FastFlow, ResNet-18``, with the label of the condition."""
    dataset, category, model, backbone = condition.subject
    parts = [
        f"{DATASETS.get(dataset, dataset)} {category}",
        MODELS.get(model, model),
        BACKBONES.get(backbone, backbone),
    ]
    return ", ".join([*parts, *(f"{key}={value}" for key, value in condition.label.items())])


def condition_slug(condition: Condition) -> str:
    """Return a condition's part of a file's name."""
    label = (f"{key.rpartition('.')[2]}={value}" for key, value in condition.label.items())
    return file_name("-".join(map(file_name, [*condition.subject, *label])), LONGEST_NAME)


def run_text(run: Run) -> str:
    """Return a sentence about a run that is not finished, or that lacks evaluations."""
    base = run.tags.get("altub", "?")
    diverged = " (its training diverged)" if run.state == RunState.crashed else ""
    missing = run.missing()
    gap = f", {missing} of {len(run.due_epochs)} evaluations in the window missing" if missing else ""
    return f"{base_label(base)}, seed {run.seed}: {run.state} after epoch {run.last_epoch}{diverged}{gap}."


def explanation(condition: Condition, psi_only: bool) -> list[str]:
    """Return the sentences of a caption on the content of a plot and its runs."""
    texts = ["Shaded: the epochs of the statistics; beside the curves: mean ± standard deviation, ★ best epoch."]
    if any(len(variant.runs) > 1 for variant in condition.variants):
        texts.append(
            "Several seeds: thin lines, their mean thick; in the legend means over the seeds of each run's mean, "
            "standard deviation over epochs, and best."
        )
    if psi_only:
        texts.append("Ticks at the bottom: epochs that update only ψ.")
    if any(variant.base == "none" for variant in condition.variants):
        texts.append("original: the base distribution stays N(0, I).")
    if condition.differences:
        differences = ", ".join(f"{key}={value}" for key, value in condition.differences.items())
        texts.append(f"There are other settings of these images, model and backbone; this one has {differences}.")
    if condition.duplicates:
        ids = ", ".join(run.run_id for run in condition.duplicates)
        texts.append(f"Not drawn, since another run of the same line and seed is drawn: MLflow runs {ids}.")
    return [*texts, origin(condition.runs)]
