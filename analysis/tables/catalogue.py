"""All tables by their names on the command line."""

from __future__ import annotations

from collections.abc import Callable

from analysis.paper.paper_cells import PaperCells
from analysis.tables.benefit import benefit
from analysis.tables.btad import table3, table4
from analysis.tables.capsule import table5, table6, table7
from analysis.tables.mvtec import table1, table2, table_a1
from analysis.tables.stability import stability
from analysis.tables.systems import systems
from analysis.tables.table import Table

PAPER: dict[str, Callable[[PaperCells], Table]] = {
    make.__name__: make for make in (table1, table2, table3, table4, table5, table6, table7, table_a1, benefit)
}
"""The tables that are made from the runs of the paper's grid."""

TABLES: dict[str, Callable[[PaperCells], Table]] = {
    **PAPER,
    "systems": lambda cells: systems(cells.records),
    "stability": lambda cells: stability(cells.records),
}


def all_tables(cells: PaperCells) -> list[Table]:
    """Return all tables; the last, that of stability, holds the runs that belong to no table of the paper."""
    tables = [make(cells) for make in PAPER.values()]
    return [*tables, systems(cells.records), stability(cells.records.without(cells.selection.used))]
