"""A table that is ready to be written: entries in rows and columns, footnotes, its origin, and its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from analysis.paper.cells import Cell, CellState, counts

MINUS = "−"
Datum = Mapping[str, object]
"""A row of the CSV."""


@dataclass(frozen=True)
class Entry:
    """One entry of a table.

    Attributes:
        text: plain, in any characters.
        bold: True for the better of a pair.
        notes: its footnotes, in full.
    """

    text: str = ""
    bold: bool = False
    notes: tuple[str, ...] = ()


Line = Sequence[Entry]


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        name: name of its files.
        title: such as ``Table A1``.
        caption: its content, units included.
        groups: texts above the columns, and the number of columns that each spans, labels included.
        columns: names of the columns.
        labels: number of columns at the left that are labels.
        blocks: rows of the paper's table, each of one or several lines (ours, the paper's, the difference).
        data: the rows of the CSV.
        remarks: sentences about the whole table.
        provenance: sentences about its origin.
        run_ids: ids of all runs that it is from.
        cells: the cells that the data are from, if the table is one of the paper's.
        count: the amount of its content, if it does not consist of cells.
    """

    name: str
    title: str
    caption: str
    columns: Sequence[str]
    blocks: Sequence[Sequence[Line]]
    data: Sequence[Datum]
    labels: int = 2
    groups: Sequence[tuple[str, int]] = ()
    remarks: Sequence[str] = ()
    provenance: Sequence[str] = ()
    run_ids: Sequence[str] = ()
    cells: Sequence[Cell] = field(default=(), repr=False)
    count: str = ""

    @property
    def lines(self) -> list[Line]:
        """The lines of all blocks."""
        return [line for block in self.blocks for line in block]

    @property
    def column_groups(self) -> list[str]:
        """The group above each column."""
        return [text for text, span in self.groups for _ in range(span)] or [""] * len(self.columns)

    @cached_property
    def footnotes(self) -> dict[str, int]:
        """All footnotes with their numbers, in the order in which they first appear."""
        notes = (note for line in self.lines for entry in line for note in entry.notes)
        return {note: number for number, note in enumerate(dict.fromkeys(notes), start=1)}

    def marks(self, entry: Entry) -> str:
        """Return the numbers of an entry's footnotes, such as ``1,3``."""
        return ",".join(str(self.footnotes[note]) for note in entry.notes)

    @property
    def own_cells(self) -> list[Cell]:
        """The cells without the overall ones."""
        return [cell for cell in self.cells if cell.parts is None]

    @property
    def summary(self) -> str:
        """The number of cells that are complete and the states of the others, in one line."""
        own = self.own_cells
        if not own:
            return self.count
        complete = sum(cell.complete for cell in own)
        states = [cell.state for cell in own if not cell.complete or cell.state == CellState.conflict]
        if not complete and set(states) == {CellState.missing}:
            return "nothing is there yet: all cells are missing"
        deviating = sum(cell.complete and cell.deviating for cell in own)
        rest = [counts(states)] if states else []
        rest += [f"{deviating} not after the paper's protocol"] if deviating else []
        return f"{complete} of {len(own)} cells" + (f" ({', '.join(rest)})" if rest else "")


def number(value: float | None, decimals: int) -> str:
    """Return a number as the paper prints it: 100 without decimals.

    >>> number(98.06, 1), number(99.96, 1), number(100, 2), number(None, 1)
    ('98.1', '100', '100', '—')
    """
    if value is None:
        return "—"
    text = f"{value:.{decimals}f}"
    return "100" if float(text) == 100 else text.replace("-", MINUS)


def difference(ours: float | None, paper: float | None, decimals: int) -> str:
    """Return ours minus the paper's, with its sign.

    >>> difference(98.0, 98.16, 1), difference(98.0, 98.01, 1), difference(1, None, 1)
    ('−0.2', '0.0', '—')
    """
    if ours is None or paper is None:
        return "—"
    text = f"{ours - paper:+.{decimals}f}"
    return text[1:] if float(text) == 0 else text.replace("-", MINUS)
