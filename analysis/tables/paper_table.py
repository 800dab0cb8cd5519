"""What all tables of the paper share: who quotes whom, seeds, provenance."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.paper.cells import Cell
from analysis.paper.paper_cells import Source
from analysis.runs import provenance
from analysis.tables.table import Datum, Line, Sheet

QUOTED_REMARK = "† Quoted by the paper from the original publications, not measured by it; such values are marked so."


def finished(
    source: Source,
    name: str,
    caption: str,
    columns: Sequence[str],
    blocks: Sequence[Sequence[Line]],
    made: Sequence[Cell],
    data: Sequence[Datum],
    *,
    groups: Sequence[tuple[str, int]] = (),
    labels: int = 2,
    remarks: Sequence[str] = (),
) -> Sheet:
    """A table of the paper with what is said of all its cells: their seeds, their provenance."""
    runs = list({run.run_id: run for cell in made for run in cell.runs}.values())
    seeds = {cell.seeds for cell in made if cell.complete and cell.parts is None}
    if seeds == {1}:
        named = sorted({run.tags.get("seed", "?") for run in runs})
        remarks = [*remarks, f"One seed in every cell ({', '.join(named)})."]
    return Sheet(
        name=name,
        title="Table " + name.removeprefix("table").strip("_").upper(),
        caption=caption,
        columns=columns,
        blocks=blocks,
        data=data,
        labels=labels,
        groups=groups,
        remarks=remarks,
        provenance=provenance.sentences(source.records, runs),
        run_ids=[run.run_id for run in runs],
        cells=made,
    )


def several(made: Sequence[Cell]) -> bool:
    """Whether any cell is from more than one seed."""
    return any(cell.seeds > 1 for cell in made)
