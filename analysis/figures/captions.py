"""What figures say of settings, lines and runs: in titles, legends, captions and names of files."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

import numpy as np

from altub_exp.runs.folder import State
from analysis.figures.drawing import origin
from analysis.figures.style import BACKBONES, BASES, DATASETS, MODELS, Look
from analysis.runs.conditions import Line, Setting
from analysis.runs.records import Run

LEGEND_LETTERS = 54
"""In a row of the legend."""


def legend_text(line: Line, look: Look, metric: str) -> str:
    """What the legend says of a line, in rows that fit."""
    return textwrap.fill(f"{label(line, look)}: {statistics_text(line, metric)}", LEGEND_LETTERS)


def statistics_text(line: Line, metric: str) -> str:
    """``97.81 ± 0.12, best 98.30``: means over the seeds where there are several, of those with a whole window."""
    whole = [run for run in line.runs if run.due and not run.absent(metric)]
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


def suffix(setting: Setting) -> list[str]:
    """Parts of a file's name that tell a setting from others of the same place."""
    return [slug(f"{key.rpartition('.')[2]}={value}") for key, value in setting.short.items()]


def state(run: Run) -> str:
    """A sentence about a run that has not ended well, or not yet."""
    base, seed = run.tags.get("altub", "?"), run.tags.get("seed", "?")
    name = BASES[base].label if base in BASES else base
    diverged = " (its training diverged)" if run.state == State.crashed else ""
    missing = f", {run.missing} of {len(run.due)} evaluations in the window missing" if run.missing else ""
    return f"{name}, seed {seed}: {run.state} after epoch {run.last_epoch}{diverged}{missing}."


def explanation(setting: Setting, psi_only: bool) -> list[str]:
    """Sentences of a caption: what the plot shows, and from which runs."""
    texts = ["Shaded: the epochs of the statistics; beside: their mean ± standard deviation, ★ the best of all epochs."]
    if any(len(line.runs) > 1 for line in setting.lines):
        texts.append(
            "Several seeds: thin lines, their mean thick; in the legend means over the seeds of each run's mean, "
            "standard deviation over epochs, and best."
        )
    if psi_only:
        texts.append("Ticks at the bottom: epochs that update ψ alone.")
    if any(line.base == "none" for line in setting.lines):
        texts.append("original: the base distribution stays N(0, I).")
    if setting.differs:
        told = ", ".join(f"{key}={value}" for key, value in setting.differs.items())
        texts.append(f"There are other settings of these images, model and backbone; this one has {told}.")
    return [*texts, origin(setting.runs)]


def shortcomings(setting: Setting, notes: Sequence[str]) -> list[str]:
    """Sentences of a caption: what it does not show."""
    texts = [f"Not complete: {' '.join(notes)}"] if notes else []
    if setting.doubles:
        ids = ", ".join(run.run_id for run in setting.doubles)
        texts.append(f"Not drawn, since the same line and seed is there already: MLflow runs {ids}.")
    return texts
