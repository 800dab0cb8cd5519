"""Tables 5, 6 and 7: measurements on the category capsule."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from analysis.paper.cells import Cell, normality_cell, time_cell
from analysis.paper.paper_cells import PAIR, PaperCells
from analysis.paper.values import BACKBONES, Key, Value, value
from analysis.tables.layout import NORMALITY, TIME, WINDOW, CellFormat, label, pair
from analysis.tables.paper_table import paper_table
from analysis.tables.table import Table


def _capsule(
    source: PaperCells,
    name: str,
    caption: str,
    make: Callable[[Key, Value], Cell],
    form: CellFormat,
    *,
    bases: Sequence[str] = PAIR,
    task: str = "",
    unit: str = "percent",
    remarks: Sequence[str] = (),
) -> Table:
    """Return a table with the base distributions in the rows and the backbones in the columns."""
    keys = {base: [Key("capsule", "fastflow", backbone, base, task) for backbone in BACKBONES] for base in bases}
    cells = {key: make(key, value(name, key)) for row in keys.values() for key in row}
    rows = {base: [pair(key, cells) for key in row] for base, row in keys.items()}
    columns = [label(backbone) for backbone in BACKBONES]
    return paper_table(source, name, caption, columns, rows, form, remarks=remarks, unit=unit)


def table5(source: PaperCells) -> Table:
    """Return the Kolmogorov-Smirnov statistics of the latents' channels."""
    return _capsule(
        source,
        "table5",
        "Kolmogorov-Smirnov statistic (%) of the latents of the normal training images of capsule against the base "
        "distribution: mean ± 1.96 s/√n over the n values of all channels at all checkpoints.",
        lambda key, paper: source.other(normality_cell, key, "table5", paper),
        NORMALITY,
        remarks=["The paper names no category; the widths of its intervals fit only capsule."],
    )


def table6(source: PaperCells) -> Table:
    """Return the comparison of the ways to update the base distribution."""
    return _capsule(
        source,
        "table6",
        "(mean, standard deviation) of the segmentation AUROC (%) over the window of epochs on capsule, by the way in "
        "which the base distribution of FastFlow is updated.",
        lambda key, paper: source.auroc("mvtec", key, "table6", paper),
        WINDOW,
        bases=("none", "stereotype", "cnn", "alternating"),
        task="segmentation",
        remarks=["Bold compares none with AltUB. A run that crashed has diverged, which is its result."],
    )


def table7(source: PaperCells) -> Table:
    """Return the inference time."""
    return _capsule(
        source,
        "table7",
        "Inference time (milliseconds per image): backbone, flow and map, one image at a time.",
        lambda key, paper: source.other(time_cell, key, "table7", paper),
        TIME,
        unit="ms",
    )
