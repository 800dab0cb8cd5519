"""The report of a sweep: the stability of its runs as a table, and their AUROC curves, one picture per category."""

from __future__ import annotations

import csv
import io
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from altub_exp.machine.disk import write_text
from altub_exp.metrics.stability import END_METRICS, METRICS
from altub_exp.runs.folder import RunFolder
from altub_exp.runs.overview import Row, read
from altub_exp.runs.states import RunState
from altub_exp.runs.sweep_folder import SweepFolder
from altub_exp.text import code_span, csv_cell, file_name, markdown, printable

SHOWN_RUNS = 40
"""Runs in the description, whose length MLflow limits; the files have all runs."""

MEASURES = ("mean", "std", "best")


@dataclass(frozen=True)
class Report:
    """The report of a sweep.

    Attributes:
        description: Markdown for the page of the sweep's run in MLflow.
        files: the table as Markdown and CSV, and the pictures.
    """

    description: str
    files: list[Path]


@dataclass(frozen=True)
class _Run:
    name: str
    row: Row | None  # None: not started
    summary: Mapping[str, float]
    window: tuple[int, int] | None

    @property
    def state(self) -> str:
        """The state, with the reason for it."""
        if self.row is None:
            return "not started"
        why = self.row.damage or self.row.reason
        return f"{self.row.state}: {' '.join(why.split())}" if why else self.row.state


def command_line(arguments: Sequence[str]) -> str:
    """Return the command line of a sweep as Markdown.

    >>> print(command_line(["altub=none,alternating", "dataset.root=my images"]))
    `python -m altub_exp.train -m altub=none,alternating 'dataset.root=my images'`
    """
    return code_span(f"python -m altub_exp.train -m {shlex.join(arguments)}")


def write_report(sweep: SweepFolder) -> Report:
    """Write the table and the pictures of a sweep, as its runs are now, into its folder.

    Raises:
        UserError: the record of the sweep is damaged; a damaged run is a row of the table.
        OSError: a file cannot be written.
    """
    record = sweep.record() or {"arguments": []}
    folders = sweep.runs()
    runs = {folder: _read(folder, name) for folder, name in folders.items()}
    table = list(runs.values())
    files = [sweep.path / "stability.md", sweep.path / "stability.csv"]
    write_text(files[0], _markdown(table))
    write_text(files[1], _csv(table))
    files += _pictures(runs, sweep.path)
    counts = Counter(run.row.state if run.row else "not started" for run in table)
    parts = [
        f"{len(table)} runs: {', '.join(f'{number} {state}' for state, number in counts.items())}",
        _markdown(table[:SHOWN_RUNS]),
    ]
    if len(table) > SHOWN_RUNS:
        parts.append(f"{len(table) - SHOWN_RUNS} more runs are in `stability.csv`.")
    parts.append("Mean ± standard deviation over the window of epochs. Table and curves are under *Artifacts*.")
    parts.append(command_line(record["arguments"]))
    return Report("\n\n".join(parts), files)


def _read(folder: RunFolder, name: str) -> _Run:
    if not folder.status_file.exists():
        return _Run(name, None, {}, None)
    row = read(folder)
    status: Mapping[str, Any] = {} if row.damage else folder.status() or {}
    window = status.get("window")
    return _Run(name, row, status.get("summary", {}), (window[0], window[1]) if window else None)


def _markdown(runs: Sequence[_Run]) -> str:
    known = [metric for metric in METRICS if any(f"{metric}_mean" in run.summary for run in runs)]
    at_end = [metric for metric in END_METRICS if any(metric in run.summary for run in runs)]
    head = ["run", "state", *(column for metric in known for column in (f"{METRICS[metric]} (%)", "best"))]
    head += [f"{END_METRICS[metric]} (%)" for metric in at_end]
    lines = [head, ["---", "---", *["--:"] * (len(head) - 2)]]
    for run in runs:
        cells = [run.name, run.state]
        absent = "—" if run.row and run.row.state == RunState.finished else ""
        for metric in known:
            if all(f"{metric}_{measure}" in run.summary for measure in MEASURES):
                mean, std, best = (100 * run.summary[f"{metric}_{measure}"] for measure in MEASURES)
                cells += [f"{mean:.2f} ± {std:.2f}", f"{best:.2f}"]
            else:
                cells += [absent, absent]
        cells += [f"{100 * run.summary[metric]:.2f}" if metric in run.summary else absent for metric in at_end]
        lines.append([markdown(cell) for cell in cells])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _csv(runs: Sequence[_Run]) -> str:
    """Return one line per run; AUROCs are fractions."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    keys = ("dataset", "category", "model", "backbone", "altub", "seed", "epoch", "epochs")
    measures = [*(f"{metric}_{measure}" for metric in METRICS for measure in MEASURES), *END_METRICS]
    writer.writerow(["run", "state", *keys, "first_epoch", "last_epoch", *measures])
    for run in runs:
        of_row = [getattr(run.row, key, None) for key in keys]
        cells = [run.name, run.state, *of_row, *(run.window or ("", "")), *map(run.summary.get, measures)]
        writer.writerow([csv_cell(printable(cell) if isinstance(cell, str) else cell) for cell in cells])
    return text.getvalue()


def _pictures(runs: Mapping[RunFolder, _Run], target: Path) -> list[Path]:
    """Draw the AUROC curves of each category's runs, and return the files."""
    from altub_exp.runs.pictures import sweep_curves  # only here: importing matplotlib takes a second

    categories: dict[tuple[str, str], dict[RunFolder, _Run]] = {}
    for folder, run in runs.items():
        if run.row is not None and run.row.damage is None:
            categories.setdefault((str(run.row.dataset), str(run.row.category)), {})[folder] = run
    files = []
    for category, members in categories.items():
        curves = {}
        for folder, run in members.items():
            rows = folder.journal.rows()
            series = {key: {int(row["epoch"]): row[key] for row in rows if key in row} for key in METRICS}
            if any(series.values()):
                curves[run.name] = series
        windows = {run.window for run in members.values()}
        if curves:
            files.append(target / f"auroc-{'-'.join(map(file_name, category))}.png")
            sweep_curves(curves, windows.pop() if len(windows) == 1 else None, "/".join(category), files[-1])
    return files
