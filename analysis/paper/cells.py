"""A cell of a table: its state, the runs that it is from, and its values."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from scipy import stats

from analysis.paper.protocol import measure_command
from analysis.paper.selection import SelectedRuns, short_name
from analysis.paper.values import Key, Value
from analysis.runs.run import Run

CONFIDENCE = 0.95


class CellState(StrEnum):
    """The states of a cell: those of a run, and those that only a cell can have."""

    finished = "finished"
    running = "running"
    failed = "failed"
    crashed = "crashed"
    unknown = "unknown"
    missing = "missing"  # there is no run
    incomplete = "incomplete"  # evaluations of the window never reached MLflow
    conflict = "conflict"  # several runs of one seed differ
    partial = "partial"  # an overall row lacks cells
    quoted = "quoted"  # only the paper gives a value


COMPLETE = (CellState.finished, CellState.conflict)
"""The states of a cell with a value of its own."""


@dataclass(frozen=True)
class Cell:
    """A value beside the paper's; percent, or milliseconds in Table 7; None if there is no value.

    Attributes:
        key: the experiment that it is about.
        state: ``finished``, or the reason why it has no value (or, with ``conflict``, a doubtful one).
        runs: the runs that its value is from, or that keep it from having one.
        mean: mean over the window; for several seeds, the mean of their means.
        std: standard deviation over the window; for several seeds, their mean.
        best: maximum over all epochs; for several seeds, their mean.
        best_epoch: the epoch of the best, for a single seed.
        seeds: number of complete runs that it is from.
        interval: half the width of the 95 % confidence interval of the mean over seeds; in Table 5 over channels and
            checkpoints.
        best_interval: the same for the best over seeds.
        notes: footnotes.
        paper: the paper's cell.
        parts: for an overall cell, the numbers of complete categories and of all.
        deviating: True if its runs do not follow the paper's protocol.
    """

    key: Key
    state: CellState = CellState.missing
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
        """True if it has a value."""
        return self.state in COMPLETE


def counts(values: Iterable[str]) -> str:
    """Return the number of occurrences of each value, in the order of their first ones.

    >>> counts(["missing", "running", "missing"])
    '2 missing, 1 running'
    """
    return ", ".join(f"{count} {value}" for value, count in Counter(values).items())


def run_state(run: Run, missing: int) -> tuple[CellState, str]:
    """Return the state that a run gives its cell, and the reason if it gives no value.

    Args:
        run: a run.
        missing: the number of its evaluations that are missing.
    """
    name, epoch, last = short_name(run), run.last_epoch, run.params.get("train.epochs", "?")
    state = CellState(run.state)
    if state == CellState.finished and missing:
        reason = f"{name} is finished, but {missing} of its evaluations are not in MLflow (altub_exp.sync)."
        return CellState.incomplete, _capitalised(reason)
    reason = {
        CellState.finished: "",
        CellState.crashed: f"{name} crashed in epoch {epoch}: its training diverged, which is its result.",
        CellState.running: f"{name} is running, epoch {epoch} of {last}, or its process is gone.",
        CellState.failed: f"{name} failed after epoch {epoch} of {last}; the same command completes it.",
        CellState.unknown: f"{name} has not recorded its state.",
    }[state]
    return state, _capitalised(reason)


def _capitalised(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def half_width(values: Sequence[float]) -> float | None:
    """Return half the width of a mean's 95 % confidence interval by Student's t; None for fewer than two values.

    >>> round(half_width([1.0, 2.0, 3.0]), 4)
    2.4841
    """
    if len(values) < 2:
        return None
    spread = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)
    return float(spread * np.std(values, ddof=1) / math.sqrt(len(values)))


def cell_without_values(
    key: Key, selected: SelectedRuns, missing: Callable[[Run], int], command: str
) -> tuple[Cell, list[Run]]:
    """Return a cell with its state and footnotes, but no values yet, and the runs that its values come from.

    Args:
        key: the experiment that it is about.
        selected: its runs.
        missing: counts the evaluations that a run should have and has not.
        command: the command that computes the runs.
    """
    if not selected.runs:
        return Cell(key, notes=(f"No run in MLflow; `{command}` computes it.",)), []
    complete, notes, states = [], list(selected.notes), []
    for run in selected.runs:
        state, reason = run_state(run, missing(run))
        if state == CellState.finished:
            complete.append(run)
        else:
            states.append(state)
            several = len(selected.runs) > 1
            notes.append(f"Seed {run.seed} left out: {reason[0].lower()}{reason[1:]}" if several else reason)
    state = (CellState.conflict if selected.conflict else CellState.finished) if complete else states[0]
    runs = tuple(complete) or selected.runs
    cell = Cell(key, state, runs, seeds=len(complete), notes=tuple(notes), deviating=selected.deviating)
    return cell, complete


def window_cell(key: Key, selected: SelectedRuns, metric: str, command: str) -> Cell:
    """Return mean, standard deviation and best of an AUROC (paper: section 5.1)."""
    cell, runs = cell_without_values(key, selected, lambda run: run.missing(metric), command)
    if not runs:
        if len(cell.runs) == 1 and cell.state != CellState.crashed and (part := cell.runs[0].statistics(metric)):
            due = len(cell.runs[0].due_epochs)
            note = f"Over {part.epochs} of {due} evaluations: ({100 * part.mean:.2f}, {100 * part.std:.2f})."
            return replace(cell, notes=(*cell.notes, note))
        return cell
    statistics = [found for run in runs if (found := run.statistics(metric)) is not None]
    means, stds, bests = ([100 * getattr(found, name) for found in statistics] for name in ("mean", "std", "best"))
    return replace(
        cell,
        mean=float(np.mean(means)),
        std=float(np.mean(stds)),
        best=float(np.mean(bests)),
        best_epoch=statistics[0].best_epoch if len(statistics) == 1 else None,
        interval=half_width(means),
        best_interval=half_width(bests),
    )


def normality_cell(key: Key, selected: SelectedRuns, command: str) -> Cell:
    """Return the Kolmogorov-Smirnov statistic over all channels and checkpoints: mean ± 1.96·s/√n.

    Paper: Eq. 8 and Table 5.
    """

    def missing(run: Run) -> int:
        every, last = int(run.params.get("eval.ks_every", 0)), int(run.params.get("train.epochs", 0))
        due = range(every, last + 1, every) if every else ()
        series = run.series.get("ks", {})
        return sum(epoch not in series for epoch in due) or (0 if series else 1)

    cell, runs = cell_without_values(key, selected, missing, command)
    if not runs:
        return cell
    means, spreads, channels = (
        np.array([run.series[name][epoch] for run in runs for epoch in sorted(run.series["ks"])])
        for name in ("ks", "ks_std", "ks_channels")
    )
    total = channels.sum()
    mean = float((channels * means).sum() / total)
    squares = ((channels - 1) * spreads**2).sum() + (channels * (means - mean) ** 2).sum()
    std = math.sqrt(squares / (total - 1))
    return replace(cell, mean=100 * mean, std=100 * std, interval=float(100 * 1.96 * std / math.sqrt(total)))


def time_cell(key: Key, selected: SelectedRuns, command: str) -> Cell:
    """Return milliseconds per image (paper: Table 7)."""
    cell, runs = cell_without_values(key, selected, lambda run: 0, command)
    if not runs:
        return cell
    timed = [run for run in runs if "inference_ms" in run.metrics]
    if not timed:
        measure = measure_command(runs[0], "--timing 100")
        note = f"{short_name(runs[0])} is finished, but its inference was not timed: `{measure}` does that."
        return replace(cell, state=CellState.missing, seeds=0, notes=(*cell.notes, _capitalised(note)))
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
    """Return the mean over the categories that are complete, with a note on their number if others are missing."""
    complete = [cell for cell in cells if cell.complete]
    parts = len(complete), len(cells)
    if not complete:
        return Cell(key, paper=paper, parts=parts, notes=("No category is complete.",))
    notes = []
    if len(complete) < len(cells):
        means = (_mean([cell.paper for cell in complete], name) for name in ("mean", "std", "best"))
        texts = [f"{value:.2f}" for value in means if value is not None]
        same = f"; the paper's over the same: ({', '.join(texts)})" if texts else ""
        notes.append(f"Over {parts[0]} of {parts[1]} categories: {_names(complete)}{same}.")
    deviating = [cell for cell in complete if cell.deviating]
    if deviating:
        notes.append(f"{len(deviating)} of its categories are not after the paper's protocol: {_names(deviating)}.")
    if paper is not None:
        notes += slips(paper, [cell.paper for cell in cells])
    return Cell(
        key,
        CellState.finished if len(complete) == len(cells) else CellState.partial,
        tuple(run for cell in complete for run in cell.runs),
        mean=_mean(complete, "mean"),
        std=_mean(complete, "std"),
        best=_mean(complete, "best"),
        seeds=min(cell.seeds for cell in complete),
        notes=tuple(notes),
        paper=paper,
        parts=parts,
        deviating=bool(deviating),
    )


def _names(cells: Sequence[Cell]) -> str:
    return ", ".join(cell.key.category for cell in cells)


def _mean(cells: Sequence[Cell | Value | None], name: str) -> float | None:
    """Return the mean of an attribute; None if a cell lacks it."""
    values: list[float | None] = [getattr(cell, name, None) for cell in cells]
    numbers = [value for value in values if value is not None]
    return float(np.mean(numbers)) if numbers and len(numbers) == len(values) else None


def slips(overall: Value, cells: Sequence[Value | None]) -> list[str]:
    """Return a note for each overall value of the paper that is not the mean of the cells that it prints."""
    notes = []
    for name, decimals in (("mean", 1), ("std", 2), ("best", overall.decimals)):
        printed = getattr(overall, name)
        exact = _mean([cell for cell in cells if cell is not None], name)
        if printed is None or exact is None or f"{exact:.{decimals}f}" == f"{printed:.{decimals}f}":
            continue
        word = {"std": "sd"}.get(name, name)
        notes.append(
            f"The paper prints {printed:.{decimals}f} as overall {word}; the mean of the cells that it prints is "
            f"{exact:.{decimals}f}."
        )
    return notes
