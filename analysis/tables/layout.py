"""The paper's layout: ours, the paper's and the difference below one another; and the rows of the CSV."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from analysis.paper.cells import Cell, CellState
from analysis.paper.paper_cells import OTHER
from analysis.paper.values import Key, Value
from analysis.tables.table import Datum, Entry, Line, difference, number

LABELS = {
    "r18": "R18",
    "wrn50": "WRN50",
    "wrn50_tv": "WRN50 (torchvision)",
    "deit": "DeiT",
    "cait": "CaiT",
    "none": "none",
    "stereotype": "stereotype",
    "cnn": "CNN",
    "alternating": "AltUB",
}


def label(name: str) -> str:
    """Return a name of the program as it is written in a table.

    >>> label("carpet"), label("cait"), label("metal_nut")
    ('Carpet', 'CaiT', 'Metal nut')
    """
    return LABELS.get(name, name.replace("_", " ").capitalize())


@dataclass(frozen=True)
class PairedCell:
    """A cell and the one that it is compared with, in one column of a row.

    Attributes:
        cell: the cell.
        other: the cell that it competes with for bold letters.
        notes: footnotes to the paper's value.
        paper_backbone: the backbone that the paper's value is of, for the CSV.
    """

    cell: Cell
    other: Cell | None = None
    notes: tuple[str, ...] = ()
    paper_backbone: str = ""


def pair(key: Key, cells: Mapping[Key, Cell], notes: tuple[str, ...] = (), paper_backbone: str = "") -> PairedCell:
    """Return the cell of a key, with the one of the other base distribution that the paper compares it with."""
    other = cells.get(replace(key, altub=OTHER.get(key.altub, "")))
    return PairedCell(cells[key], other, notes, paper_backbone)


def quoted(key: Key, paper: Value, notes: tuple[str, ...] = (), paper_backbone: str = "") -> PairedCell:
    """Return a cell that only the paper has."""
    return PairedCell(Cell(key, CellState.quoted, paper=paper), None, notes, paper_backbone)


def datum(paired: PairedCell, unit: str) -> Datum:
    """Return a cell's row of the CSV; a value that does not exist is None."""
    cell, key, paper = paired.cell, paired.cell.key, paired.cell.paper or Value()

    def rounded(value: float | None) -> float | None:
        return None if value is None or math.isnan(value) else round(value, 6)

    def distinct(tag: str) -> str:
        return ";".join(dict.fromkeys(run.tags.get(tag, "") for run in cell.runs))

    return {
        **vars(key),
        **{name: rounded(getattr(cell, name)) for name in ("mean", "std", "best")},
        "best_epoch": cell.best_epoch,
        "ci95": rounded(cell.interval),
        "best_ci95": rounded(cell.best_interval),
        "seeds": cell.seeds,
        "state": cell.state,
        "run_ids": ";".join(run.run_id for run in cell.runs),
        **{f"paper_{name}": getattr(paper, name) for name in ("mean", "std", "best")},
        "paper_ci95": paper.interval,
        "paper_text": paper.text,
        "paper_backbone": paired.paper_backbone,
        "cells": "{}/{}".format(*cell.parts) if cell.parts else "",
        "unit": unit,
        "git_commit": distinct("git_commit"),
        "git_dirty": distinct("git_dirty"),
        "notes": " ".join(cell.notes),
    }


@dataclass(frozen=True)
class CellFormat:
    """The format of a table's cells.

    Attributes:
        value: text of a value, ours or the paper's.
        difference: text of ours minus the paper's.
        order: the key that is larger in the better of a pair; None if the value does not exist.
        epochs: True if best and best epoch get a line.
    """

    value: Callable[[Cell | Value], str]
    difference: Callable[[Cell, Value], str]
    order: Callable[[Cell | Value], tuple[float, ...] | None]
    epochs: bool = False


WINDOW = CellFormat(
    value=lambda cell: f"({number(cell.mean, 1)}, {number(cell.std, 2)})",
    difference=lambda cell, paper: f"({difference(cell.mean, paper.mean, 1)}, {difference(cell.std, paper.std, 2)})",
    order=lambda cell: None if cell.mean is None or cell.std is None else (round(cell.mean, 1), -round(cell.std, 2)),
    epochs=True,
)
"""(mean, standard deviation) in percent: the larger mean is better, of equal ones the smaller deviation."""

BEST = CellFormat(
    value=lambda cell: number(cell.best, cell.decimals if isinstance(cell, Value) else 1),
    difference=lambda cell, paper: difference(cell.best, paper.best, 1),
    order=lambda cell: None if cell.best is None else (round(cell.best, 1),),
    epochs=True,
)
"""The best in percent."""

NORMALITY = CellFormat(
    value=lambda cell: f"{number(cell.mean, 2)} ± {number(cell.interval, 2)}",
    difference=lambda cell, paper: difference(cell.mean, paper.mean, 2),
    order=lambda cell: None if cell.mean is None else (-round(cell.mean, 2),),
)
"""Mean ± 95 % confidence interval in percent: smaller is better."""

TIME = CellFormat(value=lambda cell: number(cell.mean, 2), difference=NORMALITY.difference, order=NORMALITY.order)
"""Milliseconds: smaller is better."""


def _better(cell: Cell | Value | None, other: Cell | Value | None, form: CellFormat) -> bool:
    if cell is None or other is None:
        return False
    order, others = form.order(cell), form.order(other)
    return order is not None and others is not None and order > others


def _parts(cell: Cell) -> str:
    return f" ({cell.parts[0]} of {cell.parts[1]})" if cell.parts and 0 < cell.parts[0] < cell.parts[1] else ""


def block(
    name: str,
    cells: Sequence[PairedCell],
    form: CellFormat,
    *,
    seeds: bool,
    backbones: tuple[str, str] | None,
) -> list[Line]:
    """Return the lines of one row of the paper's table.

    Args:
        name: name of the row.
        cells: its columns.
        form: format of the values.
        seeds: True if the number of seeds gets a line.
        backbones: ours and the paper's, if the table has a column for them.
    """

    def line(kind: str, entry: Callable[[PairedCell], Entry], first: str = "", backbone: str = "") -> Line:
        labels = [Entry(first), Entry(kind), *([Entry(backbone)] if backbones else [])]
        empty = [paired.cell.state == CellState.quoted and kind != "paper" for paired in cells]
        return labels + [Entry() if blank else entry(paired) for blank, paired in zip(empty, cells, strict=True)]

    def ours(paired: PairedCell) -> Entry:
        cell = paired.cell
        if cell.mean is None and cell.best is None:
            return Entry(cell.state, notes=cell.notes)
        return Entry(form.value(cell) + _parts(cell), _better(cell, paired.other, form), cell.notes)

    def best(paired: PairedCell) -> Entry:
        cell = paired.cell
        if cell.best is None:
            return Entry("—")
        if form is BEST:
            return Entry("—" if cell.best_epoch is None else str(cell.best_epoch))
        return Entry(number(cell.best, 1) + (f" ({cell.best_epoch})" if cell.best_epoch is not None else ""))

    def several(paired: PairedCell) -> Entry:
        cell = paired.cell
        width = cell.best_interval if form is BEST else cell.interval
        text = f"{cell.seeds}" + (f", ± {width:.2f}" if width is not None and cell.seeds > 1 else "")
        return Entry(text if cell.complete else "")

    def paper(paired: PairedCell) -> Entry:
        value = paired.cell.paper
        if value is None:
            return Entry()
        other = paired.other.paper if paired.other else None
        return Entry(value.text.capitalize() or form.value(value), _better(value, other, form), paired.notes)

    def gap(paired: PairedCell) -> Entry:
        cell = paired.cell
        if cell.paper is None or cell.paper.text or not cell.complete:
            return Entry("—")
        return Entry(form.difference(cell, cell.paper))

    own, their = backbones or ("", "")
    lines = [line("ours", ours, name, own)]
    if form.epochs:
        lines.append(line("epoch" if form is BEST else "best (epoch)", best))
    if seeds:
        lines.append(line("seeds, 95 % CI", several))
    return [*lines, line("paper", paper, backbone=their), line("difference", gap)]
