"""A table of the paper: its cells, with the remarks on their seeds and origin that all these tables share."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.paper.cells import Cell
from analysis.paper.paper_cells import PaperCells
from analysis.runs import provenance
from analysis.tables.table import Datum, Line, Table

QUOTED_REMARK = "† Quoted by the paper from the original publications, not measured by it; such values are marked so."


def paper_table(
    source: PaperCells,
    name: str,
    caption: str,
    columns: Sequence[str],
    blocks: Sequence[Sequence[Line]],
    cells: Sequence[Cell],
    data: Sequence[Datum],
    *,
    groups: Sequence[tuple[str, int]] = (),
    labels: int = 2,
    remarks: Sequence[str] = (),
) -> Table:
    """Return a table of the paper, with the seeds and the provenance of its cells."""
    runs = {run.run_id: run for cell in cells for run in cell.runs}
    seeds = {cell.seeds for cell in cells if cell.complete and cell.parts is None}
    if seeds == {1}:
        names = sorted({run.seed for run in runs.values()})
        remarks = [*remarks, f"One seed in every cell ({', '.join(names)})."]
    return Table(
        name=name,
        title="Table " + name.removeprefix("table").strip("_").upper(),
        caption=caption,
        columns=columns,
        blocks=blocks,
        data=data,
        labels=labels,
        groups=groups,
        remarks=remarks,
        provenance=provenance.sentences(source.records, runs.values()),
        run_ids=list(runs),
        cells=cells,
    )


def has_several_seeds(cells: Sequence[Cell]) -> bool:
    """True if any cell is from more than one seed."""
    return any(cell.seeds > 1 for cell in cells)
