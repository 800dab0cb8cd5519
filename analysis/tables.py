"""The paper's tables from what MLflow holds, ours beside the paper's values.

python -m analysis.tables all
python -m analysis.tables table_a1 --tracking-uri http://127.0.0.1:5000 --experiment altub
python -m analysis.tables stability --experiment demo
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from altub_exp.errors import UserError
from analysis import cells, provenance, published, rendering
from analysis.benefit import benefit
from analysis.cells import Cell, overall_cell
from analysis.layout import BEST, NORMALITY, TIME, WINDOW, Place, Style, block, datum, label, quoted
from analysis.published import BACKBONES, OVERALL, Key, Value
from analysis.records import read, tracking_uri
from analysis.sheet import Datum, Line, Sheet
from analysis.source import CFLOW_BACKBONE, PAIR, Source
from analysis.stability import stability

QUOTES = {
    "sspcab_draem": "SSPCAB (DRAEM)",
    "patchcore": "PatchCore",
    "cs_flow": "CS-Flow",
    "differnet": "DifferNet",
    "patch_svdd": "P-SVDD",
    "vt_adl": "VT-ADL",
    "tsai_et_al": "Tsai et al.",
}
METHODS = {"cflow": "CFLOW-AD", "fastflow": "FastFlow"}
TASKS = {"detection": "det.", "segmentation": "seg."}

QUOTED_REMARK = "† Quoted by the paper from the original publications, not measured by it; such values are marked so."
CFLOW_SLIP = "99.3 in the paper's Table 1; CFLOW-AD's own publication has 98.73."
TOOTHBRUSH_SLIP = "The paper contradicts itself: the standard deviation is 0.06 in its Table 2, 0.35 in its Table A1."


def _sheet(
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


def _several(made: Sequence[Cell]) -> bool:
    return any(cell.seeds > 1 for cell in made)


def table1(source: Source) -> Sheet:
    """Best detection and segmentation AUROC on MVTec AD."""
    paper = published.values("table1")
    measured = [(model, altub, task) for altub in PAIR for model in METHODS for task in TASKS]
    quotes = [(model, task) for model in list(QUOTES)[:4] for task in TASKS if _prints("table1", model, task)]
    rows: dict[str, dict[tuple[str, str, str], Cell]] = {}
    backbones = {}
    for category in published.categories("table1"):
        chosen, notes = source.chosen(category, "table1")
        backbones[category] = chosen
        row = rows[category] = {}
        for model, altub, task in measured:
            backbone = chosen if model == "fastflow" else CFLOW_BACKBONE
            value = paper[Key(category, model, "", altub, task)]
            cell = source.window("mvtec", Key(category, model, backbone, altub, task), "table1", value)
            extra = notes if (model, task) == ("fastflow", "segmentation") else ()
            row[model, altub, task] = replace(cell, notes=(*cell.notes, *extra))
    rows[OVERALL] = {
        (model, altub, task): overall_cell(
            Key(OVERALL, model, "" if model == "fastflow" else CFLOW_BACKBONE, altub, task),
            [row[model, altub, task] for row in rows.values()],
            paper[Key(OVERALL, model, "", altub, task)],
        )
        for model, altub, task in measured
    }
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
        blocks.append(block(label(category), places, BEST, epochs=True, backbones=picks, seeds=_several(own)))
        data += [
            datum(place.cell, paper_backbone=picks[1] if place.cell.key.model == "fastflow" else "")
            for place in places
            if place.cell is not None
        ]
    names = dict.fromkeys(model for model, _ in quotes)
    groups = [("", 3)]
    groups += [(f"{QUOTES[name]} †", sum(model == name for model, _ in quotes)) for name in names]
    groups += [(METHODS[name] + (" †" if altub == "none" else " + AltUB"), 2) for altub in PAIR for name in METHODS]
    return _sheet(
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
    paper = published.values("table2")
    columns = [("fastflow", "segmentation"), ("cflow", "segmentation"), ("cflow", "detection")]
    wanted = [(model, altub, task) for model, task in columns for altub in PAIR]
    rows: dict[str, dict[tuple[str, str, str], Cell]] = {}
    backbones = {}
    for category in published.categories("table2"):
        backbones[category], notes = source.chosen(category, "table2")
        row = rows[category] = {}
        for model, altub, task in wanted:
            backbone = backbones[category] if model == "fastflow" else CFLOW_BACKBONE
            value = paper[Key(category, model, "", altub, task)]
            cell = source.window("mvtec", Key(category, model, backbone, altub, task), "table2", value)
            row[model, altub, task] = replace(cell, notes=(*cell.notes, *(notes if model == "fastflow" else ())))
    rows[OVERALL] = {
        (model, altub, task): overall_cell(
            Key(OVERALL, model, "" if model == "fastflow" else CFLOW_BACKBONE, altub, task),
            [row[model, altub, task] for row in rows.values()],
            paper[Key(OVERALL, model, "", altub, task)],
        )
        for model, altub, task in wanted
    }
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
        blocks.append(block(label(category), places, WINDOW, epochs=True, backbones=picks, seeds=_several(own)))
        data += [
            datum(cell, paper_backbone=picks[1] if model == "fastflow" else "") for (model, _, _), cell in row.items()
        ]
    return _sheet(
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


def _btad(source: Source, name: str) -> dict[str, dict[str, Cell]]:
    """{category: {base: cell}} of Tables 3 and 4, the overall row last."""
    paper = published.values(name)
    key = Key("", "fastflow", "wrn50", "", "segmentation")
    rows = {
        category: {
            altub: source.window("btad", one, name, paper[one])
            for altub in PAIR
            for one in [replace(key, category=category, altub=altub)]
        }
        for category in published.categories(name)
    }
    rows[OVERALL] = {
        altub: overall_cell(one, [row[altub] for row in rows.values()], paper[one])
        for altub in PAIR
        for one in [replace(key, category=OVERALL, altub=altub)]
    }
    return rows


def table3(source: Source) -> Sheet:
    """Best segmentation AUROC on BTAD."""
    paper = published.values("table3")
    rows = _btad(source, "table3")
    own = [cell for row in rows.values() for cell in row.values()]
    quotes = list(QUOTES)[4:]
    blocks, data = [], []
    for category, row in rows.items():
        keys = [Key(category, model, "", "", "segmentation") for model in quotes]
        places = [Place(quoted(key, paper[key])) for key in keys]
        places += [Place(row[altub], row[PAIR[altub == "none"]]) for altub in PAIR]
        blocks.append(block(label(category), places, BEST, epochs=True, seeds=_several(own)))
        data += [datum(place.cell, paper_backbone="wrn50") for place in places if place.cell is not None]
    return _sheet(
        source,
        "table3",
        "Best segmentation AUROC (%) of all epochs on BTAD, FastFlow on WRN50.",
        ["", "", *(f"{QUOTES[model]} †" for model in quotes), "FastFlow †", "FastFlow + AltUB"],
        blocks,
        own,
        data,
        remarks=[QUOTED_REMARK],
    )


def table4(source: Source) -> Sheet:
    """Mean and standard deviation of the segmentation AUROC on BTAD."""
    rows = _btad(source, "table4")
    own = [cell for row in rows.values() for cell in row.values()]
    return _sheet(
        source,
        "table4",
        "(mean, standard deviation) of the segmentation AUROC (%) over the window of epochs, FastFlow on WRN50, BTAD.",
        ["", "", "w/o AltUB", "with AltUB"],
        [
            block(
                label(category),
                [Place(row[altub], row[PAIR[altub == "none"]]) for altub in PAIR],
                WINDOW,
                epochs=True,
                seeds=_several(own),
            )
            for category, row in rows.items()
        ],
        own,
        [datum(cell, paper_backbone="wrn50") for cell in own],
    )


def _capsule(
    source: Source,
    name: str,
    caption: str,
    make: Callable[[Key, Value], Cell],
    style: Style,
    *,
    bases: Sequence[str] = PAIR,
    unit: str = "percent",
    task: str = "",
    remarks: Sequence[str] = (),
) -> Sheet:
    """Tables 5, 6 and 7: base distributions in the rows, backbones in the columns."""
    paper = published.values(name)
    rows = {
        altub: {
            backbone: make(key, paper[key])
            for backbone in BACKBONES
            for key in [Key("capsule", "fastflow", backbone, altub, task)]
        }
        for altub in bases
    }
    own = [cell for row in rows.values() for cell in row.values()]
    return _sheet(
        source,
        name,
        caption,
        ["", "", *map(label, BACKBONES)],
        [
            block(
                label(altub),
                [Place(row[one], rows[PAIR[altub == "none"]][one] if altub in PAIR else None) for one in BACKBONES],
                style,
                epochs=style is WINDOW,
                seeds=_several(own),
            )
            for altub, row in rows.items()
        ],
        own,
        [datum(cell, unit) for cell in own],
        remarks=remarks,
    )


def table5(source: Source) -> Sheet:
    """Kolmogorov-Smirnov statistics of the latents' channels."""
    return _capsule(
        source,
        "table5",
        "Kolmogorov-Smirnov statistic (%) of the latents of the normal training images of capsule against the base "
        "distribution: mean ± 1.96 s/√n over the n values of all channels at all checkpoints.",
        lambda key, paper: source.other(cells.normality_cell, key, "table5", paper),
        NORMALITY,
        remarks=["The paper names no category; the widths of its intervals fit capsule alone."],
    )


def table6(source: Source) -> Sheet:
    """Ways to update the base distribution."""
    return _capsule(
        source,
        "table6",
        "(mean, standard deviation) of the segmentation AUROC (%) over the window of epochs on capsule, by the way in "
        "which the base distribution of FastFlow is updated.",
        lambda key, paper: source.window("mvtec", key, "table6", paper),
        WINDOW,
        bases=("none", "stereotype", "cnn", "alternating"),
        task="segmentation",
        remarks=["Bold compares none with AltUB. A run that crashed has diverged, which is its result."],
    )


def table7(source: Source) -> Sheet:
    """Inference time."""
    return _capsule(
        source,
        "table7",
        "Inference time (milliseconds per image): backbone, flow and map, one image at a time.",
        lambda key, paper: source.other(cells.time_cell, key, "table7", paper),
        TIME,
        unit="ms",
    )


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
        blocks.append(block(label(category), places, WINDOW, epochs=True, seeds=_several(own)))
    return _sheet(
        source,
        "table_a1",
        "(mean, standard deviation) of the segmentation AUROC (%) of FastFlow over the window of epochs on MVTec AD.",
        ["", "", *["w/o", "+ AltUB"] * 4],
        blocks,
        own,
        [datum(cell) for cell in own],
        groups=[("", 2), *((label(backbone), 2) for backbone in BACKBONES)],
    )


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


def main(arguments: list[str] | None = None) -> None:
    """Print the table that the command names, and write it as CSV, Markdown and LaTeX."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.tables",
        description="The paper's tables from what MLflow holds, ours beside the paper's values; written as CSV, "
        "Markdown and LaTeX.",
        epilog="example: python -m analysis.tables table_a1 --tracking-uri http://127.0.0.1:5000 --experiment altub",
    )
    parser.add_argument(
        "table",
        choices=[*TABLES, "all"],
        help="which table; benefit: does AltUB help?; stability: every run; all: writes all, and prints what is there",
    )
    parser.add_argument("--tracking-uri", help="default: MLFLOW_TRACKING_URI, else sqlite:///mlflow.db")
    parser.add_argument(
        "--experiment",
        action="append",
        metavar="NAME",
        help="MLflow experiment; may be given several times (default: all that hold runs of this program)",
    )
    parser.add_argument(
        "--window",
        nargs=2,
        type=int,
        metavar=("FIRST", "LAST"),
        help="epochs of the statistics (default: each run's own)",
    )
    parser.add_argument("--output", type=Path, default=Path("results/tables"), help="default: %(default)s")
    chosen = parser.parse_args(arguments)
    console = Console(highlight=False)
    try:
        records = read(tracking_uri(chosen.tracking_uri), chosen.experiment)
        if chosen.window is not None:
            records = records.windowed(*chosen.window)
        source = Source(records)
        sheets = build(source) if chosen.table == "all" else [TABLES[chosen.table](source)]
        for sheet in sheets:
            rendering.write(sheet, chosen.output)
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {chosen.output} cannot be written ({error.strerror}): choose another folder by --output.")
    if chosen.table == "all":
        stable = sheets[-1]
        if stable.data:
            rendering.show(stable, console)
            console.print()
        for sheet in sheets:
            console.print(f"{sheet.name:9}  {sheet.summary}", soft_wrap=True)
        console.print(f"Written to {chosen.output}/: NAME.csv, NAME.md, NAME.tex", soft_wrap=True)
    else:
        rendering.show(sheets[0], console)


if __name__ == "__main__":
    main()
