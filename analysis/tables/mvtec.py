"""Tables 1, 2 and A1: AUROCs on MVTec AD."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from analysis.paper.cells import Cell, overall_cell, slips
from analysis.paper.paper_cells import CFLOW_BACKBONE, OTHER, PAIR, PaperCells
from analysis.paper.values import BACKBONES, OVERALL, Key, backbone_choice, categories, values
from analysis.tables.layout import BEST, WINDOW, PairedCell, block, datum, label, quoted
from analysis.tables.paper_table import QUOTED_REMARK, has_several_seeds, paper_table
from analysis.tables.table import Table

QUOTES = {
    "sspcab_draem": "SSPCAB (DRAEM)",
    "patchcore": "PatchCore",
    "cs_flow": "CS-Flow",
    "differnet": "DifferNet",
}
METHODS = {"cflow": "CFLOW-AD", "fastflow": "FastFlow"}
TASKS = {"detection": "det.", "segmentation": "seg."}

CFLOW_SLIP = "99.3 in the paper's Table 1; CFLOW-AD's own publication has 98.73."
TOOTHBRUSH_SLIP = "The paper contradicts itself: the standard deviation is 0.06 in its Table 2, 0.35 in its Table A1."

Column = tuple[str, str, str]
"""Model, base distribution and task."""


def _rows(
    source: PaperCells, table: str, columns: Sequence[Column]
) -> tuple[dict[str, dict[Column, Cell]], Mapping[str, tuple[str, str]]]:
    """Return {category: {column: cell}}, the overall row last; and the backbones of FastFlow, ours and the paper's."""
    paper = values(table)
    rows: dict[str, dict[Column, Cell]] = {}
    backbones = {OVERALL: ("", "")}
    for category in categories(table):
        backbone, notes = source.backbone(category, table)
        backbones[category] = backbone, " or ".join(backbone_choice(category).backbones)
        row = rows[category] = {}
        for model, altub, task in columns:
            value = paper[Key(category, model, "", altub, task)]
            key = Key(category, model, backbone if model == "fastflow" else CFLOW_BACKBONE, altub, task)
            cell = source.auroc("mvtec", key, table, value)
            extra = notes if (model, task) == ("fastflow", "segmentation") else ()
            row[model, altub, task] = replace(cell, notes=(*cell.notes, *extra))
    rows[OVERALL] = {
        (model, altub, task): overall_cell(
            Key(OVERALL, model, "" if model == "fastflow" else CFLOW_BACKBONE, altub, task),
            [row[model, altub, task] for row in rows.values()],
            paper[Key(OVERALL, model, "", altub, task)],
        )
        for model, altub, task in columns
    }
    return rows, backbones


def table1(source: PaperCells) -> Table:
    """Return the best detection and segmentation AUROC on MVTec AD."""
    paper = values("table1")
    measured = [(model, altub, task) for altub in PAIR for model in METHODS for task in TASKS]
    printed = {(key.model, key.task) for key, value in paper.items() if value.best}
    quotes = [(model, task) for model in QUOTES for task in TASKS if (model, task) in printed]
    rows, backbones = _rows(source, "table1", measured)
    own = [cell for row in rows.values() for cell in row.values()]
    blocks, data = [], []
    for category, row in rows.items():
        cells = []
        for model, task in quotes:
            key = Key(category, model, "", "", task)
            parts = [paper[replace(key, category=part)] for part in categories("table1")]
            notes = slips(paper[key], parts) if category == OVERALL else []
            cells.append(PairedCell(quoted(key, paper[key]), notes=tuple(notes)))
        for model, altub, task in measured:
            slip = (category, model, altub, task) == ("carpet", "cflow", "none", "detection")
            other = row[model, OTHER[altub], task]
            cells.append(PairedCell(row[model, altub, task], other, (CFLOW_SLIP,) if slip else ()))
        chosen = backbones[category]
        blocks.append(block(label(category), cells, BEST, epochs=True, backbones=chosen, seeds=has_several_seeds(own)))
        data += [
            datum(paired.cell, paper_backbone=chosen[1] if paired.cell.key.model == "fastflow" else "")
            for paired in cells
        ]
    names = [model for model, _ in quotes]
    groups = [("", 3), *((f"{QUOTES[name]} †", names.count(name)) for name in dict.fromkeys(names))]
    groups += [(METHODS[name] + (" †" if altub == "none" else " + AltUB"), 2) for altub in PAIR for name in METHODS]
    return paper_table(
        source,
        "table1",
        "Best detection and segmentation AUROC (%) of all epochs on MVTec AD. FastFlow on the backbone of four that "
        "has the best segmentation AUROC with AltUB; CFLOW-AD on its own.",
        ["", "", "backbone", *(TASKS[task] for _, task in quotes), *(TASKS[task] for *_, task in measured)],
        blocks,
        own,
        data,
        groups=groups,
        labels=3,
        remarks=[QUOTED_REMARK],
    )


def table2(source: PaperCells) -> Table:
    """Return mean and standard deviation of both AUROCs on MVTec AD, without and with AltUB."""
    methods = [("fastflow", "segmentation"), ("cflow", "segmentation"), ("cflow", "detection")]
    columns = [(model, altub, task) for model, task in methods for altub in PAIR]
    rows, backbones = _rows(source, "table2", columns)
    own = [cell for row in rows.values() for cell in row.values()]
    blocks, data = [], []
    for category, row in rows.items():
        differs = backbone_choice(category).differs
        cells = [
            PairedCell(
                row[model, altub, task],
                row[model, OTHER[altub], task],
                (TOOTHBRUSH_SLIP,) if model == "fastflow" and altub in differs else (),
            )
            for model, altub, task in columns
        ]
        chosen = backbones[category]
        blocks.append(
            block(label(category), cells, WINDOW, epochs=True, backbones=chosen, seeds=has_several_seeds(own))
        )
        data += [
            datum(cell, paper_backbone=chosen[1] if model == "fastflow" else "") for (model, _, _), cell in row.items()
        ]
    return paper_table(
        source,
        "table2",
        "(mean, standard deviation) of the AUROC (%) over the window of epochs on MVTec AD. FastFlow on the backbones "
        "chosen in Table 1.",
        ["", "", "backbone", *["w/o", "+ AltUB"] * 3],
        blocks,
        own,
        data,
        groups=[("", 3), ("FastFlow, seg.", 2), ("CFLOW-AD, seg.", 2), ("CFLOW-AD, det.", 2)],
        labels=3,
    )


def table_a1(source: PaperCells) -> Table:
    """Return mean and standard deviation of the segmentation AUROC of FastFlow on all backbones, MVTec AD."""
    paper = values("table_a1")
    columns = [(backbone, altub) for backbone in BACKBONES for altub in PAIR]

    def key(category: str, backbone: str, altub: str) -> Key:
        return Key(category, "fastflow", backbone, altub, "segmentation")

    rows: dict[str, dict[tuple[str, str], Cell]] = {}
    for category in categories("table_a1"):
        keys = {column: key(category, *column) for column in columns}
        rows[category] = {column: source.auroc("mvtec", of, "table_a1", paper[of]) for column, of in keys.items()}
    rows[OVERALL] = {
        column: overall_cell(
            key(OVERALL, *column), [row[column] for row in rows.values()], paper[key(OVERALL, *column)]
        )
        for column in columns
    }
    own = [cell for row in rows.values() for cell in row.values()]
    blocks = []
    for category, row in rows.items():
        choice = backbone_choice(category)
        cells = [
            PairedCell(
                row[backbone, altub],
                row[backbone, OTHER[altub]],
                (TOOTHBRUSH_SLIP,) if altub in choice.differs and backbone in choice.backbones else (),
            )
            for backbone, altub in columns
        ]
        blocks.append(block(label(category), cells, WINDOW, epochs=True, seeds=has_several_seeds(own)))
    return paper_table(
        source,
        "table_a1",
        "(mean, standard deviation) of the segmentation AUROC (%) of FastFlow over the window of epochs on MVTec AD.",
        ["", "", *["w/o", "+ AltUB"] * 4],
        blocks,
        own,
        [datum(cell) for cell in own],
        groups=[("", 2), *((label(backbone), 2) for backbone in BACKBONES)],
    )
