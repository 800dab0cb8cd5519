"""What the report holds: tables with their figures, the answer in numbers, and what is missing."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from altub_exp.runs.folder import State
from analysis.figures.catalogue import FIGURES
from analysis.figures.drawing import Undrawn
from analysis.paper.cells import standing
from analysis.paper.paper_cells import Source
from analysis.paper.protocol import command
from analysis.report import page
from analysis.report.embedded import Inlay, inlays
from analysis.runs.artifacts import Artifacts
from analysis.runs.records import Records, Run
from analysis.tables.catalogue import PAPER
from analysis.tables.pairs import pairs
from analysis.tables.stability import stability
from analysis.tables.table import Sheet, difference

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
"""What computes the runs of an artefact whose sweep is not called as it is."""

TITLES = {"heatmap": "Heat map of differences", "fig1": "Fig. 1", "fig3": "Fig. 3", "fig4": "Fig. 4"}

ALL_PAIRS = "FastFlow, all four"
QUIET_SECONDS = 10.0


@dataclass(frozen=True)
class Artefact:
    """A table of the paper with its figures.

    Attributes:
        sheet: the table.
        figures: those that were drawn.
        compute: the command that computes its runs.
        rebuild: the commands that make table and figures again.
    """

    sheet: Sheet
    figures: tuple[Inlay, ...]
    compute: str
    rebuild: tuple[str, ...]

    @property
    def empty(self) -> bool:
        """Whether no run at all is there for the table."""
        return not self.sheet.run_ids and not any(cell.runs for cell in self.sheet.cells)

    @property
    def incomplete(self) -> bool:
        """Whether a cell of the table is not there; one that crashed is: that is its result."""
        own = (cell for cell in self.sheet.cells if cell.parts is None)
        return any(not cell.complete and cell.state != State.crashed for cell in own)


@dataclass(frozen=True)
class Fact:
    """One number that answers whether AltUB helps, beside the paper's."""

    question: str
    value: str
    beside: str


def facts(benefit: Sheet) -> list[Fact]:
    """The counts of cells improved and the paired differences over FastFlow's four backbones; none without pairs."""
    ours, paper = (
        next(row for row in benefit.data if row.get("group") == ALL_PAIRS and row["row"] == kind)
        for kind in ("ours", "paper")
    )
    if not ours["pairs"]:
        return []
    return [
        *(
            Fact(question, f"{ours[key]} of {ours['pairs']} cells", f"paper: {paper[key]} of {paper['pairs']}")
            for key, question in (
                ("mean_at_least", "Mean with AltUB at least that without"),
                ("std_smaller", "Standard deviation smaller with AltUB"),
            )
        ),
        *(
            Fact(question, _points(ours, key), f"{_certainty(ours, key)}; paper: {_points(paper, key)}")
            for key, question in (("mean", "Mean, AltUB − without"), ("std", "Standard deviation, AltUB − without"))
        ),
    ]


def _points(row: Mapping[str, object], key: str) -> str:
    return f"{difference(_float(row[f'{key}_difference']), 0, 2)} points"


def _certainty(row: Mapping[str, object], key: str) -> str:
    low, high, p = (_float(row[f"{key}_{name}"]) for name in ("low", "high", "p"))
    if low is None or high is None:
        return "a single pair: no interval, no p"
    told = f"95 % interval {difference(low, 0, 2)} to {difference(high, 0, 2)}"
    return f"{told}, " + ("no p: all pairs are equal" if p is None else f"Wilcoxon p = {p:.2g}")


def _float(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def unfinished(runs: Iterable[Run]) -> list[tuple[Run, str]]:
    """Every run that is not finished, or lacks evaluations in MLflow, and how it stands."""
    told = ((run, standing(run, run.missing)[1]) for run in runs)
    return [(run, why[0].upper() + why[1:]) for run, why in told if why]


def states(runs: Iterable[Run]) -> str:
    """``118 finished, 2 crashed``."""
    counts: dict[str, int] = {}
    for run in runs:
        counts[run.state] = counts.get(run.state, 0) + 1
    return ", ".join(f"{count} {state}" for state, count in sorted(counts.items(), key=lambda one: -one[1]))


def drawn(records: Records, artifacts: Artifacts) -> tuple[list[Inlay], list[Undrawn]]:
    """All figures; on stderr how far it is, where that takes more than a few seconds."""
    there: list[Inlay] = []
    lacking: list[Undrawn] = []
    told = time.monotonic()
    for made in inlays(records, artifacts, list(FIGURES)):
        if isinstance(made, Undrawn):
            lacking.append(made)
        else:
            there.append(made)
        if time.monotonic() - told >= QUIET_SECONDS:
            told = time.monotonic()
            print(f"figures: {len(there)} drawn …", file=sys.stderr, flush=True)
    return there, lacking


def report(records: Records, artifacts: Artifacts, options: Sequence[str] = ()) -> str:
    """The page.

    Args:
        records: what was read.
        artifacts: the runs' files.
        options: of the commands that rebuild tables and figures, such as ``--tracking-uri``.
    """
    source = Source(records)
    sheets = {name: make(source) for name, make in PAPER.items()}
    rest = replace(records, runs=tuple(run for run in records.runs if run.run_id not in source.selection.used))
    figures, lacking = drawn(records, artifacts)
    by_name = {figure.name: figure for figure in figures}
    more = "".join(f" {shlex.quote(option)}" for option in options)
    artefacts = [
        Artefact(
            sheets[name],
            tuple(by_name[figure] for figure in shown if figure in by_name),
            command(SWEEPS.get(name, name)),
            (
                f"python -m analysis.tables {name}{more}",
                *(f"python -m analysis.figures {figure}{more}" for figure in shown),
            ),
        )
        for name, shown in ARTEFACTS.items()
    ]
    placed = {figure for shown in ARTEFACTS.values() for figure in shown}
    return page.render(
        {
            "records": records,
            "states": states(records.runs),
            "facts": facts(sheets["benefit"]),
            "artefacts": artefacts,
            "own": [sheet for sheet in (pairs(rest), stability(rest)) if sheet.data],
            "galleries": _grouped(figure for figure in figures if figure.name not in placed),
            "lacking": [one for one in lacking if one.name in placed],
            "undrawn": [one for one in lacking if one.name not in placed],
            "unfinished": unfinished(records.runs),
            "runs": replace(stability(records), name="runs", remarks=()) if rest != records else None,
            "recipes": recipes(artefacts, more),
            "provenance": sheets["benefit"].provenance[-1],
        }
    )


def recipes(artefacts: Iterable[Artefact], more: str) -> list[tuple[str, str, str]]:
    """Of every table and figure its title, what computes its runs, and what makes it from them."""
    tables = [(one.sheet.title, one.compute, f"python -m analysis.tables {one.sheet.name}{more}") for one in artefacts]
    figures = [
        (TITLES[name], command(SWEEPS.get(name, name)), f"python -m analysis.figures {name}{more}")
        for shown in ARTEFACTS.values()
        for name in sorted(shown)
    ]
    every = [
        (title, "", f"python -m analysis.{name}{more}")
        for title, name in (
            ("Curves of all runs", "figures stability"),
            ("Maps of all runs", "figures maps"),
            ("All runs", "tables stability"),
            ("This page", "report"),
        )
    ]
    return [*tables, *figures, *every]


def _grouped(figures: Iterable[Inlay]) -> dict[str, list[Inlay]]:
    """By what they are of."""
    groups: dict[str, list[Inlay]] = {}
    for figure in figures:
        groups.setdefault(figure.place, []).append(figure)
    return groups
