"""Tables 3 and 4: segmentation AUROC on BTAD."""

from __future__ import annotations

from dataclasses import replace

from analysis.paper import values as published
from analysis.paper.cells import Cell, overall_cell
from analysis.paper.paper_cells import PAIR, Source
from analysis.paper.values import OVERALL, Key
from analysis.tables.layout import BEST, WINDOW, Place, block, datum, label, quoted
from analysis.tables.paper_table import QUOTED_REMARK, finished, several
from analysis.tables.table import Sheet

QUOTES = {"patch_svdd": "P-SVDD", "vt_adl": "VT-ADL", "tsai_et_al": "Tsai et al."}


def _rows(source: Source, name: str) -> dict[str, dict[str, Cell]]:
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
    rows = _rows(source, "table3")
    own = [cell for row in rows.values() for cell in row.values()]
    blocks, data = [], []
    for category, row in rows.items():
        keys = [Key(category, model, "", "", "segmentation") for model in QUOTES]
        places = [Place(quoted(key, paper[key])) for key in keys]
        places += [Place(row[altub], row[PAIR[altub == "none"]]) for altub in PAIR]
        blocks.append(block(label(category), places, BEST, epochs=True, seeds=several(own)))
        data += [datum(place.cell, paper_backbone="wrn50") for place in places if place.cell is not None]
    return finished(
        source,
        "table3",
        "Best segmentation AUROC (%) of all epochs on BTAD, FastFlow on WRN50.",
        ["", "", *(f"{QUOTES[model]} †" for model in QUOTES), "FastFlow †", "FastFlow + AltUB"],
        blocks,
        own,
        data,
        remarks=[QUOTED_REMARK],
    )


def table4(source: Source) -> Sheet:
    """Mean and standard deviation of the segmentation AUROC on BTAD."""
    rows = _rows(source, "table4")
    own = [cell for row in rows.values() for cell in row.values()]
    return finished(
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
                seeds=several(own),
            )
            for category, row in rows.items()
        ],
        own,
        [datum(cell, paper_backbone="wrn50") for cell in own],
    )
