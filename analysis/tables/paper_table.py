"""A table of the paper: its cells in the paper's layout, with remarks on their seeds and their origin."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from analysis.paper.cells import CellState
from analysis.paper.paper_cells import PaperCells
from analysis.paper.values import Key
from analysis.runs import provenance
from analysis.runs.run import Run
from analysis.tables.layout import CellFormat, PairedCell, block, datum, label
from analysis.tables.table import Table

QUOTED_REMARK = "† Quoted by the paper from the original publications, not measured by it; such values are marked so."


NORM_BACKBONES = ("r18", "deit")
"""The backbones for which the paper names no layer normalization, but the published code of FastFlow has a norm."""


def norm_remarks(runs: Iterable[tuple[Key, Run]]) -> list[str]:
    """Return the remark on the feature norm of FastFlow's runs on R18 and DeiT; none without such runs."""
    norms: dict[str, set[str]] = {}
    for key, run in runs:
        if key.model == "fastflow" and key.backbone in NORM_BACKBONES:
            norms.setdefault(label(key.backbone), set()).add(run.params.get("model.feature_norm", "?"))
    if not norms:
        return []
    shown = ", ".join(f"{backbone} {' and '.join(sorted(values))}" for backbone, values in norms.items())
    return [
        "The paper (section 5.6) names layer normalization for WRN50 and CaiT only; FastFlow's published code has a "
        f"norm on every backbone. model.feature_norm of the runs shown: {shown}."
    ]


def paper_table(
    source: PaperCells,
    name: str,
    caption: str,
    columns: Sequence[str],
    rows: Mapping[str, Sequence[PairedCell]],
    form: CellFormat,
    *,
    backbones: Mapping[str, tuple[str, str]] | None = None,
    groups: Sequence[tuple[str, int]] = (),
    remarks: Sequence[str] = (),
    unit: str = "percent",
) -> Table:
    """Return a table of the paper.

    Args:
        source: the cells of all tables.
        name: name of the table's files.
        caption: its content, units included.
        columns: names of the columns, without those of the labels.
        rows: {name of a row: its cells}.
        form: format of the cells.
        backbones: {name of a row: ours and the paper's}, if they get a column.
        groups: texts above the columns, and the number of columns that each spans.
        remarks: sentences about the whole table.
        unit: unit of the values, for the CSV.
    """
    paired = [cell for row in rows.values() for cell in row]
    cells = [one.cell for one in paired if one.cell.state != CellState.quoted]
    runs = {run.run_id: run for cell in cells for run in cell.runs}
    if {cell.seeds for cell in cells if cell.complete and cell.parts is None} == {1}:
        seeds = sorted({run.seed for run in runs.values()})
        remarks = [*remarks, f"One seed in every cell ({', '.join(seeds)})."]
    remarks = [*remarks, *norm_remarks((cell.key, run) for cell in cells if cell.parts is None for run in cell.runs)]
    several = any(cell.seeds > 1 for cell in cells)
    labels = ["", "", "backbone"] if backbones else ["", ""]
    return Table(
        name=name,
        title="Table " + name.removeprefix("table").strip("_").upper(),
        caption=caption,
        columns=[*labels, *columns],
        blocks=[
            block(label(name), row, form, seeds=several, backbones=backbones[name] if backbones else None)
            for name, row in rows.items()
        ],
        data=[datum(cell, unit) for cell in paired],
        labels=len(labels),
        groups=[("", len(labels)), *groups] if groups else (),
        remarks=remarks,
        provenance=provenance.sentences(source.records, runs.values()),
        run_ids=list(runs),
        cells=cells,
    )
