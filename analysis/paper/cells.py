"""A cell of a table: how the runs that it is from stand, and what they come to."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from altub_exp.runs.folder import State
from analysis.paper.selection import Pick, short
from analysis.paper.values import Key, Value
from analysis.runs.records import Run

MISSING, INCOMPLETE, CONFLICT, PARTIAL, QUOTED = "missing", "incomplete", "conflict", "partial", "quoted"
"""States of a cell beside those of a run: no run; epochs of the window that never arrived; several different runs of
one seed; an overall row that lacks cells; a value that only the paper gives."""

COMPLETE = (State.finished.value, CONFLICT)

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Cell:
    """A value beside the paper's; percent, or milliseconds in Table 7; None where there is nothing to show.

    Attributes:
        key: what it stands for.
        state: ``finished``, or why there is no value (or, with ``conflict``, a doubtful one).
        runs: what it is from, or what keeps it from being there.
        mean: over the window; over several seeds their mean.
        std: over the window; over several seeds their mean.
        best: over all epochs; over several seeds their mean.
        best_epoch: of a single seed.
        seeds: how many complete runs it is from.
        interval: half of the width of the 95 % confidence interval of the mean over seeds; in Table 5 over channels and
            checkpoints.
        best_interval: the same of the best over seeds.
        notes: footnotes.
        paper: the paper's cell.
        parts: of an overall cell: how many categories are complete, and how many there are.
        deviating: whether its runs do not follow the paper's protocol.
    """

    key: Key
    state: str = MISSING
    runs: tuple[Run, ...] = ()
    mean: float | None = None
    std: float | None = None
    best: float | None = None
    best_epoch: int | None = None
    seeds: int = 0
    interval: float | None = None
    best_interval: float | None = None
    notes: tuple[str, ...] = ()
    paper: Value | None = None
    parts: tuple[int, int] | None = None
    deviating: bool = False

    @property
    def complete(self) -> bool:
        """Whether it has a value."""
        return self.state in COMPLETE


def standing(run: Run, absent: int) -> tuple[str, str]:
    """State of a run that should give a cell, and why it gives none, or nothing; ``absent`` evaluations are missing."""
    name, epoch, last = short(run), run.last_epoch, run.params.get("train.epochs", "?")
    if run.state == State.crashed:
        return run.state, f"{name} crashed in epoch {epoch}: its training diverged, which is its result."
    if run.state == State.running:
        return run.state, f"{name} is running, epoch {epoch} of {last}, or its process is gone."
    if run.state == State.failed:
        return run.state, f"{name} failed behind epoch {epoch} of {last}; the same command resumes it."
    if run.state != State.finished:
        return run.state, f"{name} does not say how it stands."
    if absent:
        return INCOMPLETE, f"{name} is finished, but {absent} of its evaluations are not in MLflow (altub_exp.sync)."
    return run.state, ""


def half_width(values: Sequence[float]) -> float | None:
    """Of the 95 % confidence interval of a mean by Student's t; None for fewer than two values.

    >>> round(half_width([1.0, 2.0, 3.0]), 4)
    2.4841
    """
    if len(values) < 2:
        return None
    spread = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)
    return float(spread * np.std(values, ddof=1) / math.sqrt(len(values)))


def settled(
    key: Key, pick: Pick, paper: Value | None, absent: Callable[[Run], int], command: str
) -> tuple[Cell, list[Run]]:
    """A cell without values yet, with its state and footnotes, and the runs that its values come from."""
    if not pick.runs:
        return Cell(key, paper=paper, notes=(f"No run in MLflow; `{command}` computes it.",)), []
    complete, notes, states = [], list(pick.notes), []
    for run in pick.runs:
        state, why = standing(run, absent(run))
        if state == State.finished:
            complete.append(run)
        else:
            states.append(state)
            several = len(pick.runs) > 1
            notes.append(f"Seed {run.tags.get('seed')} left out: {why}" if several else why[0].upper() + why[1:])
    state = (CONFLICT if pick.conflict else State.finished.value) if complete else states[0]
    runs = tuple(complete) or pick.runs
    cell = Cell(key, state, runs, seeds=len(complete), notes=tuple(notes), paper=paper, deviating=pick.deviating)
    return cell, complete


def window_cell(key: Key, pick: Pick, metric: str, paper: Value | None, command: str) -> Cell:
    """Mean, standard deviation and best of an AUROC (paper: section 5.1)."""
    cell, runs = settled(key, pick, paper, lambda run: run.absent(metric), command)
    if not runs:
        told = [found for run in cell.runs if (found := run.statistics(metric)) and run.state != State.crashed]
        if told and len(cell.runs) == 1:
            due = len(cell.runs[0].due)
            so_far = f"Over {told[0].epochs} of {due} evaluations: ({100 * told[0].mean:.2f}, {100 * told[0].std:.2f})."
            return replace(cell, notes=(*cell.notes, so_far))
        return cell
    found = [run.statistics(metric) for run in runs]
    means, stds, bests = (
        [100 * getattr(one, name) for one in found if one is not None] for name in ("mean", "std", "best")
    )
    return replace(
        cell,
        mean=float(np.mean(means)),
        std=float(np.mean(stds)),
        best=float(np.mean(bests)),
        best_epoch=found[0].best_epoch if len(found) == 1 and found[0] is not None else None,
        interval=half_width(means),
        best_interval=half_width(bests),
    )


def normality_cell(key: Key, pick: Pick, paper: Value | None, command: str) -> Cell:
    """Kolmogorov-Smirnov statistic over all channels and checkpoints: mean ± 1.96·s/√n (paper: Eq. 8 and Table 5)."""

    def absent(run: Run) -> int:
        every, last = int(run.params.get("eval.ks_every", 0)), int(run.params.get("train.epochs", 0))
        due = range(every, last + 1, every) if every else ()
        there = run.series.get("ks", {})
        return sum(epoch not in there for epoch in due) or (0 if there else 1)

    cell, runs = settled(key, pick, paper, absent, command)
    if not runs:
        return cell
    means, spreads, counts = (
        np.array([run.series[name][epoch] for run in runs for epoch in sorted(run.series["ks"])])
        for name in ("ks", "ks_std", "ks_channels")
    )
    total = counts.sum()
    mean = float((counts * means).sum() / total)
    squares = ((counts - 1) * spreads**2).sum() + (counts * (means - mean) ** 2).sum()
    std = math.sqrt(squares / (total - 1))
    return replace(cell, mean=100 * mean, std=100 * std, interval=float(100 * 1.96 * std / math.sqrt(total)))


def time_cell(key: Key, pick: Pick, paper: Value | None, command: str) -> Cell:
    """Milliseconds per image (paper: Table 7)."""
    cell, runs = settled(key, pick, paper, lambda run: 0, command)
    if not runs:
        return cell
    timed = [run for run in runs if "inference_ms" in run.metrics]
    if not timed:
        note = f"{short(runs[0])} is finished, but its inference was not timed: `{command}` does that."
        return replace(cell, state=MISSING, seeds=0, notes=(*cell.notes, note[0].upper() + note[1:]))
    means = [run.metrics["inference_ms"] for run in timed]
    device = " and ".join(sorted({run.tags.get("device", "an unknown device") for run in timed}))
    return replace(
        cell,
        runs=tuple(timed),
        seeds=len(timed),
        mean=float(np.mean(means)),
        std=float(np.mean([run.metrics.get("inference_ms_std", math.nan) for run in timed])),
        interval=half_width(means),
        notes=(*cell.notes, f"Ours measured on {device}; the paper's on an NVIDIA GeForce RTX 3060."),
    )


def overall_cell(key: Key, cells: Sequence[Cell], paper: Value | None) -> Cell:
    """The mean over the categories that are complete; the others are never averaged over, and it says how many."""
    complete = [cell for cell in cells if cell.complete]
    parts = len(complete), len(cells)
    runs = tuple(run for cell in complete for run in cell.runs)
    if not complete:
        return Cell(key, MISSING, paper=paper, parts=parts, notes=("No category is complete.",))

    def mean(of: Sequence[Cell | Value | None], name: str) -> float | None:
        values = [getattr(one, name) for one in of]
        return float(np.mean(values)) if values and None not in values else None

    notes = []
    state = State.finished.value
    if len(complete) < len(cells):
        state = PARTIAL
        same = [cell.paper for cell in complete]
        told = [f"{value:.2f}" for name in ("mean", "std", "best") if (value := mean(same, name)) is not None]
        over = f"; the paper's over the same: ({', '.join(told)})" if told else ""
        notes.append(f"Over {parts[0]} of {parts[1]} categories: " + _names(complete) + over + ".")
    deviating = [cell for cell in complete if cell.deviating]
    if deviating:
        notes.append(f"{len(deviating)} of its categories are not after the paper's protocol: {_names(deviating)}.")
    if paper is not None:
        notes += slips(paper, [cell.paper for cell in cells])
    values = {name: mean(complete, name) for name in ("mean", "std", "best")}
    fewest = min(cell.seeds for cell in complete)
    return Cell(
        key,
        state,
        runs,
        **values,
        seeds=fewest,
        notes=tuple(notes),
        paper=paper,
        parts=parts,
        deviating=bool(deviating),
    )


def _names(cells: Sequence[Cell]) -> str:
    return ", ".join(cell.key.category for cell in cells)


def slips(overall: Value, cells: Sequence[Value | None]) -> list[str]:
    """Where the paper's overall value is not the mean of the cells that it prints."""
    found = []
    for name, decimals in (("mean", 1), ("std", 2), ("best", overall.decimals)):
        printed = getattr(overall, name)
        parts = [getattr(cell, name) for cell in cells if cell is not None]
        if printed is None or not parts or None in parts:
            continue
        exact = float(np.mean(parts))
        if f"{exact:.{decimals}f}" != f"{printed:.{decimals}f}":
            word = {"std": "sd"}.get(name, name)
            found.append(
                f"The paper prints {printed:.{decimals}f} as overall {word}; the mean of the cells that it prints is "
                f"{exact:.{decimals}f}."
            )
    return found
