"""Tables 5, 6 and 7: what was measured on the category capsule."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from analysis.paper import cells
from analysis.paper import values as published
from analysis.paper.cells import Cell
from analysis.paper.paper_cells import PAIR, Source
from analysis.paper.values import BACKBONES, Key, Value
from analysis.tables.layout import NORMALITY, TIME, WINDOW, Place, Style, block, datum, label
from analysis.tables.paper_table import finished, several
from analysis.tables.table import Sheet


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
    return finished(
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
                seeds=several(own),
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
