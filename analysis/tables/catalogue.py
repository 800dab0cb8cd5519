"""All tables by their names, and those that belong together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from analysis.paper.paper_cells import Source
from analysis.tables.benefit import benefit
from analysis.tables.btad import table3, table4
from analysis.tables.capsule import table5, table6, table7
from analysis.tables.mvtec import table1, table2, table_a1
from analysis.tables.stability import stability
from analysis.tables.table import Sheet

PAPER: dict[str, Callable[[Source], Sheet]] = {
    "table1": table1,
    "table2": table2,
    "table3": table3,
    "table4": table4,
    "table5": table5,
    "table6": table6,
    "table7": table7,
    "table_a1": table_a1,
    "benefit": benefit,
}
"""What is made from the runs of the paper's grid."""

TABLES: dict[str, Callable[[Source], Sheet]] = {**PAPER, "stability": lambda source: stability(source.records)}


def build(source: Source) -> list[Sheet]:
    """All tables; that of stability holds the runs that belong to no table of the paper."""
    made = [make(source) for make in PAPER.values()]
    rest = [run for run in source.records.runs if run.run_id not in source.selection.used]
    return [*made, stability(replace(source.records, runs=tuple(rest)))]
