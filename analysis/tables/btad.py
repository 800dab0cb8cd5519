"""Tables 3 and 4: segmentation AUROC on BTAD."""

from __future__ import annotations

from dataclasses import replace

from analysis.paper.cells import Cell, overall_cell
from analysis.paper.paper_cells import OTHER, PAIR, PaperCells
from analysis.paper.values import OVERALL, Key, categories, values
from analysis.tables.layout import BEST, WINDOW, PairedCell, block, datum, label, quoted
from analysis.tables.paper_table import QUOTED_REMARK, has_several_seeds, paper_table
from analysis.tables.table import Table

QUOTES = {"patch_svdd": "P-SVDD", "vt_adl": "VT-ADL", "tsai_et_al": "Tsai et al."}


def _rows(source: PaperCells, name: str) -> dict[str, dict[str, Cell]]:
    """Return {category: {base: cell}} of Tables 3 and 4, the overall row last."""
    paper = values(name)
    keys = {altub: Key("", "fastflow", "wrn50", altub, "segmentation") for altub in PAIR}
    rows: dict[str, dict[str, Cell]] = {}
    for category in categories(name):
        of_category = {altub: replace(key, category=category) for altub, key in keys.items()}
        rows[category] = {altub: source.auroc("btad", key, name, paper[key]) for altub, key in of_category.items()}
    overall = {altub: replace(key, category=OVERALL) for altub, key in keys.items()}
    parts = {altub: [row[altub] for row in rows.values()] for altub in PAIR}
    return rows | {OVERALL: {altub: overall_cell(key, parts[altub], paper[key]) for altub, key in overall.items()}}


def _pairs(row: dict[str, Cell]) -> list[PairedCell]:
    return [PairedCell(row[altub], row[OTHER[altub]]) for altub in PAIR]


def table3(source: PaperCells) -> Table:
    """Return the best segmentation AUROC on BTAD."""
    paper = values("table3")
    rows = _rows(source, "table3")
    own = [cell for row in rows.values() for cell in row.values()]
    blocks, data = [], []
    for category, row in rows.items():
        keys = [Key(category, model, "", "", "segmentation") for model in QUOTES]
        cells = [PairedCell(quoted(key, paper[key])) for key in keys] + _pairs(row)
        blocks.append(block(label(category), cells, BEST, epochs=True, seeds=has_several_seeds(own)))
        data += [datum(paired.cell, paper_backbone="wrn50") for paired in cells]
    return paper_table(
        source,
        "table3",
        "Best segmentation AUROC (%) of all epochs on BTAD, FastFlow on WRN50.",
        ["", "", *(f"{name} †" for name in QUOTES.values()), "FastFlow †", "FastFlow + AltUB"],
        blocks,
        own,
        data,
        remarks=[QUOTED_REMARK],
    )


def table4(source: PaperCells) -> Table:
    """Return mean and standard deviation of the segmentation AUROC on BTAD."""
    rows = _rows(source, "table4")
    own = [cell for row in rows.values() for cell in row.values()]
    seeds = has_several_seeds(own)
    return paper_table(
        source,
        "table4",
        "(mean, standard deviation) of the segmentation AUROC (%) over the window of epochs, FastFlow on WRN50, BTAD.",
        ["", "", "w/o AltUB", "with AltUB"],
        [block(label(category), _pairs(row), WINDOW, epochs=True, seeds=seeds) for category, row in rows.items()],
        own,
        [datum(cell, paper_backbone="wrn50") for cell in own],
    )
