"""The contents of the report: tables with their figures, the answer in numbers, and a list of what is missing."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from rich.progress import track

from altub_exp.machine.terminal import console
from altub_exp.text import printable
from analysis.figures.catalogue import FIGURES, draw
from analysis.figures.drawing import Undrawn
from analysis.paper.cells import CellState, run_state
from analysis.paper.paper_cells import PaperCells
from analysis.paper.protocol import sweep_command
from analysis.report import page
from analysis.report.embedded import EmbeddedFigure, embedded
from analysis.runs.artifacts import Artifacts
from analysis.runs.records import Records
from analysis.runs.run import Run
from analysis.tables.benefit import ALL_BACKBONES
from analysis.tables.catalogue import PAPER
from analysis.tables.pairs import pairs
from analysis.tables.stability import stability
from analysis.tables.table import Datum, Table, difference

ARTEFACTS: Mapping[str, Sequence[str]] = {
    "benefit": ("heatmap",),
    "table1": (),
    "table2": ("fig4",),
    "table_a1": (),
    "table3": (),
    "table4": (),
    "table5": ("fig1", "fig3"),
    "table6": (),
    "table7": (),
}
"""The tables in the order of the page, each with the figures that show the same."""

SWEEPS = {"benefit": "table2", "heatmap": "table2"}
"""The sweep that computes the runs of an artefact, if it has another name."""

TITLES = {"heatmap": "Heat map of differences", "fig1": "Fig. 1", "fig3": "Fig. 3", "fig4": "Fig. 4"}
OTHERS = {
    "Curves of all runs": "figures stability",
    "Maps of all runs": "figures maps",
    "All runs": "tables stability",
    "This page": "report",
}
"""Titles of what any run gives, and the commands of the analysis that make it."""


@dataclass(frozen=True)
class Artefact:
    """A table of the paper with its figures.

    Attributes:
        table: the table.
        figures: those that were drawn.
        compute: the command that computes its runs.
        rebuild: the commands that make table and figures again.
    """

    table: Table
    figures: tuple[EmbeddedFigure, ...]
    compute: str
    rebuild: tuple[str, ...]

    @property
    def empty(self) -> bool:
        """True if the table has no run at all."""
        return not self.table.run_ids and not any(cell.runs for cell in self.table.cells)

    @property
    def incomplete(self) -> bool:
        """True if a cell of the table is missing; one that crashed is not: that is its result."""
        return any(not cell.complete and cell.state != CellState.crashed for cell in self.table.own_cells)


@dataclass(frozen=True)
class Fact:
    """One number that answers whether AltUB helps, beside the paper's."""

    question: str
    value: str
    beside: str


def facts(benefit: Table) -> list[Fact]:
    """Return the counts of improved cells and the differences over FastFlow's four backbones; none without pairs."""
    ours, paper = (
        next(row for row in benefit.data if row.get("group") == ALL_BACKBONES and row["row"] == kind)
        for kind in ("ours", "paper")
    )
    if not ours["pairs"]:
        return []
    counts = [
        Fact(question, f"{ours[key]} of {ours['pairs']} cells", f"paper: {paper[key]} of {paper['pairs']}")
        for key, question in (
            ("mean_at_least", "Mean with AltUB at least that without"),
            ("std_smaller", "Standard deviation smaller with AltUB"),
        )
    ]
    differences = [
        Fact(question, _points(ours, key), f"{_certainty(ours, key)}; paper: {_points(paper, key)}")
        for key, question in (("mean", "Mean, AltUB − without"), ("std", "Standard deviation, AltUB − without"))
    ]
    return [*counts, *differences]


def _points(row: Datum, key: str) -> str:
    return f"{difference(_float(row[f'{key}_difference']), 0, 2)} points"


def _certainty(row: Datum, key: str) -> str:
    low, high, p = (_float(row[f"{key}_{name}"]) for name in ("low", "high", "p"))
    if low is None or high is None:
        return "a single pair: no interval, no p"
    interval = f"95 % interval {difference(low, 0, 2)} to {difference(high, 0, 2)}"
    return f"{interval}, " + ("no p: all pairs are equal" if p is None else f"Wilcoxon p = {p:.2g}")


def _float(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def unfinished(runs: Iterable[Run]) -> list[tuple[Run, str]]:
    """Return every run that is not finished, or lacks evaluations in MLflow, with the reason."""
    reasons = ((run, run_state(run, run.missing())[1]) for run in runs)
    return [(run, reason) for run, reason in reasons if reason]


def states(runs: Iterable[Run]) -> str:
    """Return the number of runs by state, such as ``118 finished, 2 crashed``."""
    return ", ".join(f"{count} {state}" for state, count in Counter(run.state for run in runs).most_common())


def report(
    records: Records, artifacts: Artifacts, options: Sequence[str] = (), problems: Sequence[str] = ()
) -> tuple[str, list[str]]:
    """Return the page as HTML, and a sentence for each figure that an error has kept from it.

    Args:
        records: the runs that were read.
        artifacts: the runs' files.
        options: options of the commands that rebuild tables and figures, such as ``--tracking-uri``.
        problems: sentences on the runs that were left out.
    """
    cells = PaperCells(records)
    tables = {name: make(cells) for name, make in PAPER.items()}
    rest = records.without(cells.selection.used)
    figures: list[EmbeddedFigure] = []
    undrawn: list[Undrawn] = []
    drawn = draw(records, artifacts, FIGURES, embedded)
    for figure in track(drawn, "Drawing", console=console, transient=True, disable=not console.is_terminal):
        if isinstance(figure, Undrawn):
            undrawn.append(figure)
        else:
            figures.append(figure)
    by_name = {figure.name: figure for figure in figures}
    more = printable("".join(f" {shlex.quote(option)}" for option in options))
    artefacts = [
        Artefact(
            tables[name],
            tuple(by_name[figure] for figure in of_table if figure in by_name),
            sweep_command(SWEEPS.get(name, name)),
            (
                f"python -m analysis.tables {name}{more}",
                *(f"python -m analysis.figures {figure}{more}" for figure in of_table),
            ),
        )
        for name, of_table in ARTEFACTS.items()
    ]
    papers = {figure for of_table in ARTEFACTS.values() for figure in of_table}
    galleries: dict[str, list[EmbeddedFigure]] = {}
    for figure in figures:
        if figure.name not in papers:
            galleries.setdefault(figure.subject, []).append(figure)
    html = page.render(
        {
            "problems": problems,
            "records": records,
            "states": states(records.runs),
            "facts": facts(tables["benefit"]),
            "artefacts": artefacts,
            "own": [table for table in (pairs(rest), stability(rest)) if table.data],
            "galleries": galleries,
            "lacking": [figure for figure in undrawn if figure.name in papers],
            "undrawn": [figure for figure in undrawn if figure.name not in papers],
            "unfinished": unfinished(records.runs),
            "runs": replace(stability(records), name="runs", remarks=()) if rest != records else None,
            "recipes": recipes(artefacts, more),
            "provenance": tables["benefit"].provenance[-1],
        }
    )
    return html, [figure.sentence for figure in undrawn if figure.failed]


def recipes(artefacts: Iterable[Artefact], more: str) -> list[tuple[str, str, str]]:
    """Return for every table and figure its title, the command that computes its runs, and the one that makes it."""
    rows = [(artefact.table.title, artefact.compute, artefact.rebuild[0]) for artefact in artefacts]
    rows += [
        (TITLES[name], sweep_command(SWEEPS.get(name, name)), f"python -m analysis.figures {name}{more}")
        for of_table in ARTEFACTS.values()
        for name in sorted(of_table)
    ]
    return rows + [(title, "", f"python -m analysis.{command}{more}") for title, command in OTHERS.items()]
