"""A table that is ready to be shown: texts in rows and columns, footnotes, where it comes from, and its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from analysis.paper.cells import Cell

MINUS = "−"
Datum = Mapping[str, object]


@dataclass(frozen=True)
class Text:
    """What stands in one place of a table.

    Attributes:
        text: plain, in any characters.
        bold: the better of a pair.
        notes: its footnotes, in full.
    """

    text: str = ""
    bold: bool = False
    notes: tuple[str, ...] = ()


Line = Sequence[Text]


@dataclass(frozen=True)
class Sheet:
    """One table.

    Attributes:
        name: of its files.
        title: such as ``Table A1``.
        caption: what it shows, units included.
        groups: a line above the columns: texts and how many columns each spans, the labels' columns included.
        columns: names of the columns.
        labels: how many columns at the left are labels.
        blocks: rows of the paper's table, each of one or several lines (ours, the paper's, the difference).
        data: what the CSV holds: one mapping per cell, the same keys in all.
        remarks: what holds for the whole table.
        provenance: where it comes from, a sentence each.
        run_ids: of all runs that it is from.
        cells: the cells behind the data, where the table is one of the paper's.
        count: how much there is, where it does not consist of cells.
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

    @cached_property
    def footnotes(self) -> dict[str, int]:
        """All footnotes with their numbers, in the order in which they first appear."""
        notes = (note for line in self.lines for text in line for note in text.notes)
        return {note: number for number, note in enumerate(dict.fromkeys(notes), start=1)}

    @property
    def lines(self) -> list[Line]:
        """The lines of all blocks."""
        return [line for block in self.blocks for line in block]

    @property
    def column_groups(self) -> list[str]:
        """The group above each column."""
        return [text for text, span in self.groups for _ in range(span)] or [""] * len(self.columns)

    def marks(self, text: Text) -> str:
        """The numbers of a text's footnotes, such as ``1,3``."""
        return ",".join(str(self.footnotes[note]) for note in text.notes)

    @property
    def summary(self) -> str:
        """How much of it is there, in one line."""
        own = [cell for cell in self.cells if cell.parts is None]
        if not own:
            return self.count
        there = sum(cell.complete for cell in own)
        states: dict[str, int] = {}
        for cell in own:
            if not cell.complete or cell.state == "conflict":
                states[cell.state] = states.get(cell.state, 0) + 1
        rest = ", ".join(f"{count} {state}" for state, count in states.items())
        deviating = sum(cell.complete and cell.deviating for cell in own)
        rest += f"{', ' if rest else ''}{deviating} not after the paper's protocol" if deviating else ""
        if not there and set(states) == {"missing"}:
            return "nothing is there yet: all cells are missing"
        return f"{there} of {len(own)} cells" + (f" ({rest})" if rest else "")


def number(value: float | None, decimals: int) -> str:
    """As the paper prints it: 100 without decimals.

    >>> number(98.06, 1), number(99.96, 1), number(100, 2), number(None, 1)
    ('98.1', '100', '100', '—')
    """
    if value is None:
        return "—"
    text = f"{value:.{decimals}f}"
    return "100" if float(text) == 100 else text.replace("-", MINUS)


def difference(ours: float | None, paper: float | None, decimals: int) -> str:
    """Ours minus the paper's, with its sign.

    >>> difference(98.0, 98.16, 1), difference(98.0, 98.01, 1), difference(1, None, 1)
    ('−0.2', '0.0', '—')
    """
    if ours is None or paper is None:
        return "—"
    text = f"{ours - paper:+.{decimals}f}"
    return text[1:] if float(text) == 0 else text.replace("-", MINUS)
