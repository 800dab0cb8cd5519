"""Tables 3 and 4: segmentation AUROC on BTAD."""

from __future__ import annotations

from analysis.paper.paper_cells import PAIR, PaperCells
from analysis.paper.values import Key, value
from analysis.tables.layout import BEST, WINDOW, pair, quoted
from analysis.tables.paper_table import QUOTED_REMARK, paper_table
from analysis.tables.table import Table

QUOTES = {"patch_svdd": "P-SVDD", "vt_adl": "VT-ADL", "tsai_et_al": "Tsai et al."}
BACKBONE = "wrn50"
COLUMNS = [Key("", "fastflow", BACKBONE, altub, "segmentation") for altub in PAIR]


def table3(source: PaperCells) -> Table:
    """Return the best segmentation AUROC on BTAD."""
    rows = {}
    for category, row in source.rows("btad", "table3", COLUMNS).items():
        keys = [Key(category, model, "", "", "segmentation") for model in QUOTES]
        quotes = [quoted(key, value("table3", key), paper_backbone=BACKBONE) for key in keys]
        rows[category] = quotes + [pair(column, row, paper_backbone=BACKBONE) for column in COLUMNS]
    return paper_table(
        source,
        "table3",
        "Best segmentation AUROC (%) of all epochs on BTAD, FastFlow on WRN50.",
        [*(f"{name} †" for name in QUOTES.values()), "FastFlow †", "FastFlow + AltUB"],
        rows,
        BEST,
        remarks=[QUOTED_REMARK],
    )


def table4(source: PaperCells) -> Table:
    """Return mean and standard deviation of the segmentation AUROC on BTAD."""
    rows = source.rows("btad", "table4", COLUMNS)
    return paper_table(
        source,
        "table4",
        "(mean, standard deviation) of the segmentation AUROC (%) over the window of epochs, FastFlow on WRN50, BTAD.",
        ["w/o AltUB", "with AltUB"],
        {name: [pair(column, row, paper_backbone=BACKBONE) for column in COLUMNS] for name, row in rows.items()},
        WINDOW,
    )
