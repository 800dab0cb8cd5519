"""Tables 1, 2 and A1: AUROCs on MVTec AD."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from analysis.paper.cells import Cell, overall_cell, slips
from analysis.paper.paper_cells import CFLOW_BACKBONE, PAIR, PaperCells
from analysis.paper.values import BACKBONES, OVERALL, Key, backbone_choice, categories, values
from analysis.tables.layout import BEST, WINDOW, PairedCell, label, pair, quoted
from analysis.tables.paper_table import QUOTED_REMARK, paper_table
from analysis.tables.table import Table

QUOTES = {"sspcab_draem": "SSPCAB (DRAEM)", "patchcore": "PatchCore", "cs_flow": "CS-Flow", "differnet": "DifferNet"}
RIVALS = {"sspcab_draem": "draem", "patchcore": "patchcore", "cs_flow": "csflow", "differnet": "differnet"}
"""The quoted methods that this program measures too, and their models."""

METHODS = {"cflow": "CFLOW-AD", "fastflow": "FastFlow"}
OWN_BACKBONES = {"cflow": CFLOW_BACKBONE, "fastflow": ""}
"""FastFlow's is another one in each category, see :meth:`analysis.paper.paper_cells.PaperCells.backbone`."""

TASKS = {"detection": "det.", "segmentation": "seg."}

CFLOW_SLIP = "99.3 in the paper's Table 1; CFLOW-AD's own publication has 98.73."
TOOTHBRUSH_SLIP = "The paper contradicts itself: the standard deviation is 0.06 in its Table 2, 0.35 in its Table A1."


def _column(model: str, altub: str, task: str) -> Key:
    return Key("", model, OWN_BACKBONES[model], altub, task)


def _backbones(source: PaperCells, table: str) -> dict[str, tuple[str, str]]:
    """Return FastFlow's backbone of each category, ours and the paper's."""
    chosen = {
        category: (source.backbone(category, table)[0], " or ".join(backbone_choice(category).backbones))
        for category in categories(table)
    }
    return chosen | {OVERALL: ("", "")}


def table1(source: PaperCells) -> Table:
    """Return the best detection and segmentation AUROC on MVTec AD."""
    paper = values("table1")
    columns = [_column(model, altub, task) for altub in PAIR for model in METHODS for task in TASKS]
    printed = {(key.model, key.task) for key, value in paper.items() if value.best}
    quotes = [Key("", model, "", "", task) for model in QUOTES for task in TASKS if (model, task) in printed]
    backbones = _backbones(source, "table1")
    measured = {quote: _measured(source, quote) for quote in quotes if quote.model in RIVALS}
    rows: dict[str, list[PairedCell]] = {}
    for category, row in source.rows("mvtec", "table1", columns).items():
        rows[category] = []
        for quote in quotes:
            key = replace(quote, category=category)
            parts = [paper[replace(key, category=part)] for part in categories("table1")]
            notes = slips(paper[key], parts) if category == OVERALL else []
            if cell := measured.get(quote, {}).get(category):
                rows[category].append(PairedCell(cell))
            else:
                rows[category].append(quoted(key, paper[key], tuple(notes)))
        for column in columns:
            slip = (category, column) == ("carpet", _column("cflow", "none", "detection"))
            backbone = backbones[category][1] if column.model == "fastflow" else ""
            rows[category].append(pair(column, row, (CFLOW_SLIP,) if slip else (), backbone))
    names = [key.model for key in quotes]
    groups = [(f"{QUOTES[name]} †", names.count(name)) for name in dict.fromkeys(names)]
    groups += [(METHODS[name] + (" †" if altub == "none" else " + AltUB"), 2) for altub in PAIR for name in METHODS]
    return paper_table(
        source,
        "table1",
        "Best detection and segmentation AUROC (%) of all epochs on MVTec AD. FastFlow on the backbone of four that "
        "has the best segmentation AUROC with AltUB; CFLOW-AD on its own.",
        [TASKS[key.task] for key in (*quotes, *columns)],
        rows,
        BEST,
        backbones=backbones,
        groups=groups,
        remarks=[QUOTED_REMARK, *_rivals_remark(measured.values())],
    )


def _measured(source: PaperCells, quote: Key) -> dict[str, Cell]:
    """Return the measured cells of a quoted method by category, with the overall one; {} without any run of it."""
    paper, model = values("table1"), RIVALS[quote.model]
    keys = {category: replace(quote, category=category) for category in categories("table1")}
    cells = {category: source.rival(key, model, paper[key]) for category, key in keys.items()}
    if not any(cells.values()):
        return {}
    every = [cell or Cell(keys[category], paper=paper[keys[category]]) for category, cell in cells.items()]
    overall = overall_cell(Key(OVERALL, model, "", "none", quote.task), every, paper[replace(quote, category=OVERALL)])
    return {category: cell for category, cell in cells.items() if cell} | {OVERALL: overall}


def _rivals_remark(measured: Iterable[Mapping[str, Cell]]) -> list[str]:
    """Return a sentence about the origin of measured cells of quoted methods; none without such cells."""
    runs = [run for cells in measured for cell in cells.values() for run in cell.runs]
    sources = sorted({run.tags.get("source", "this program") for run in runs})
    if not sources:
        return []
    return [
        f"Ours of a quoted method is measured by {' and '.join(sources)}, on images read by this program and with its "
        "metrics; it and the quoted value are never mixed."
    ]


def table2(source: PaperCells) -> Table:
    """Return mean and standard deviation of both AUROCs on MVTec AD, without and with AltUB."""
    methods = [("fastflow", "segmentation"), ("cflow", "segmentation"), ("cflow", "detection")]
    columns = [_column(model, altub, task) for model, task in methods for altub in PAIR]
    backbones = _backbones(source, "table2")
    rows: dict[str, list[PairedCell]] = {}
    for category, row in source.rows("mvtec", "table2", columns).items():
        rows[category] = []
        for column in columns:
            slip = column.model == "fastflow" and column.altub in backbone_choice(category).differs
            backbone = backbones[category][1] if column.model == "fastflow" else ""
            rows[category].append(pair(column, row, (TOOTHBRUSH_SLIP,) if slip else (), backbone))
    return paper_table(
        source,
        "table2",
        "(mean, standard deviation) of the AUROC (%) over the window of epochs on MVTec AD. FastFlow on the backbones "
        "chosen in Table 1.",
        ["w/o", "+ AltUB"] * 3,
        rows,
        WINDOW,
        backbones=backbones,
        groups=[("FastFlow, seg.", 2), ("CFLOW-AD, seg.", 2), ("CFLOW-AD, det.", 2)],
    )


def table_a1(source: PaperCells) -> Table:
    """Return mean and standard deviation of the segmentation AUROC of FastFlow on all backbones, MVTec AD."""
    columns = [Key("", "fastflow", backbone, altub, "segmentation") for backbone in BACKBONES for altub in PAIR]
    rows: dict[str, list[PairedCell]] = {}
    for category, row in source.rows("mvtec", "table_a1", columns).items():
        rows[category] = []
        for column in columns:
            choice = backbone_choice(category)
            slip = column.altub in choice.differs and column.backbone in choice.backbones
            rows[category].append(pair(column, row, (TOOTHBRUSH_SLIP,) if slip else ()))
    return paper_table(
        source,
        "table_a1",
        "(mean, standard deviation) of the segmentation AUROC (%) of FastFlow over the window of epochs on MVTec AD.",
        ["w/o", "+ AltUB"] * 4,
        rows,
        WINDOW,
        groups=[(label(backbone), 2) for backbone in BACKBONES],
    )
