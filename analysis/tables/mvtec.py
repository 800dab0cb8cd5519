"""Tables 1, 2 and A1: AUROCs on MVTec AD."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from analysis.paper import cells
from analysis.paper import values as published
from analysis.paper.cells import Cell, overall_cell
from analysis.paper.paper_cells import CFLOW_BACKBONE, PAIR, Source
from analysis.paper.values import BACKBONES, OVERALL, Key
from analysis.tables.layout import BEST, WINDOW, Place, block, datum, label, quoted
from analysis.tables.paper_table import QUOTED_REMARK, finished, several
from analysis.tables.table import Sheet

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


def _measured(
    source: Source, table: str, columns: Sequence[tuple[str, str, str]]
) -> tuple[dict[str, dict[tuple[str, str, str], Cell]], dict[str, str]]:
    """{category: {(model, base distribution, task): cell}}, the overall row last; and FastFlow's backbones."""
    paper = published.values(table)
    rows: dict[str, dict[tuple[str, str, str], Cell]] = {}
    backbones = {}
    for category in published.categories(table):
        backbones[category], notes = source.chosen(category, table)
        row = rows[category] = {}
        for model, altub, task in columns:
            backbone = backbones[category] if model == "fastflow" else CFLOW_BACKBONE
            value = paper[Key(category, model, "", altub, task)]
            cell = source.window("mvtec", Key(category, model, backbone, altub, task), table, value)
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


def table1(source: Source) -> Sheet:
    """Best detection and segmentation AUROC on MVTec AD."""
    paper = published.values("table1")
    measured = [(model, altub, task) for altub in PAIR for model in METHODS for task in TASKS]
    quotes = [(model, task) for model in QUOTES for task in TASKS if _prints("table1", model, task)]
    rows, backbones = _measured(source, "table1", measured)
    own = [cell for row in rows.values() for cell in row.values()]
    blocks, data = [], []
    for category, row in rows.items():
        places = []
        for model, task in quotes:
            key = Key(category, model, "", "", task)
            parts = [paper[replace(key, category=one)] for one in published.categories("table1")]
            slips = cells.slips(paper[key], parts) if category == OVERALL else []
            places.append(Place(quoted(key, paper[key]), notes=tuple(slips)))
        for model, altub, task in measured:
            slip = (category, model, altub, task) == ("carpet", "cflow", "none", "detection")
            pair = row[model, PAIR[altub == "none"], task]
            places.append(Place(row[model, altub, task], pair, (CFLOW_SLIP,) if slip else ()))
        picks = (backbones.get(category, ""), _paper_choice(category))
        blocks.append(block(label(category), places, BEST, epochs=True, backbones=picks, seeds=several(own)))
        data += [
            datum(place.cell, paper_backbone=picks[1] if place.cell.key.model == "fastflow" else "")
            for place in places
            if place.cell is not None
        ]
    names = dict.fromkeys(model for model, _ in quotes)
    groups = [("", 3)]
    groups += [(f"{QUOTES[name]} †", sum(model == name for model, _ in quotes)) for name in names]
    groups += [(METHODS[name] + (" †" if altub == "none" else " + AltUB"), 2) for altub in PAIR for name in METHODS]
    return finished(
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


def _prints(table: str, model: str, task: str) -> bool:
    return any(key.model == model and key.task == task and value.best for key, value in published.values(table).items())


def _paper_choice(category: str) -> str:
    return " or ".join(published.choice(category).backbones) if category != OVERALL else ""


def table2(source: Source) -> Sheet:
    """Mean and standard deviation of both AUROCs on MVTec AD, without and with AltUB."""
    columns = [("fastflow", "segmentation"), ("cflow", "segmentation"), ("cflow", "detection")]
    wanted = [(model, altub, task) for model, task in columns for altub in PAIR]
    rows, backbones = _measured(source, "table2", wanted)
    own = [cell for row in rows.values() for cell in row.values()]
    blocks, data = [], []
    for category, row in rows.items():
        places = [
            Place(
                row[model, altub, task],
                row[model, PAIR[altub == "none"], task],
                (TOOTHBRUSH_SLIP,) if model == "fastflow" and altub in _contradicts(category) else (),
            )
            for model, altub, task in wanted
        ]
        picks = (backbones.get(category, ""), _paper_choice(category))
        blocks.append(block(label(category), places, WINDOW, epochs=True, backbones=picks, seeds=several(own)))
        data += [
            datum(cell, paper_backbone=picks[1] if model == "fastflow" else "") for (model, _, _), cell in row.items()
        ]
    return finished(
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


def _contradicts(category: str) -> tuple[str, ...]:
    return published.choice(category).differs if category != OVERALL else ()


def table_a1(source: Source) -> Sheet:
    """Mean and standard deviation of the segmentation AUROC of FastFlow on all backbones, MVTec AD."""
    paper = published.values("table_a1")
    wanted = [(backbone, altub) for backbone in BACKBONES for altub in PAIR]

    def key(category: str, backbone: str, altub: str) -> Key:
        return Key(category, "fastflow", backbone, altub, "segmentation")

    rows: dict[str, dict[tuple[str, str], Cell]] = {}
    for category in published.categories("table_a1"):
        rows[category] = {
            one: source.window("mvtec", key(category, *one), "table_a1", paper[key(category, *one)]) for one in wanted
        }
    rows[OVERALL] = {
        one: overall_cell(key(OVERALL, *one), [row[one] for row in rows.values()], paper[key(OVERALL, *one)])
        for one in wanted
    }
    own = [cell for row in rows.values() for cell in row.values()]
    blocks = []
    for category, row in rows.items():
        places = [
            Place(
                row[backbone, altub],
                row[backbone, PAIR[altub == "none"]],
                (TOOTHBRUSH_SLIP,)
                if altub in _contradicts(category) and backbone in published.choice(category).backbones
                else (),
            )
            for backbone, altub in wanted
        ]
        blocks.append(block(label(category), places, WINDOW, epochs=True, seeds=several(own)))
    return finished(
        source,
        "table_a1",
        "(mean, standard deviation) of the segmentation AUROC (%) of FastFlow over the window of epochs on MVTec AD.",
        ["", "", *["w/o", "+ AltUB"] * 4],
        blocks,
        own,
        [datum(cell) for cell in own],
        groups=[("", 2), *((label(backbone), 2) for backbone in BACKBONES)],
    )
