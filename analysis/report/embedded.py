"""Figures as the report holds them: pictures inside the page, small enough for many of them."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from PIL import Image

from analysis.figures.catalogue import draw
from analysis.figures.drawing import CAPTIONS, Drawing, Undrawn
from analysis.figures.style import COLUMN, styled
from analysis.report.page import data_uri
from analysis.runs.artifacts import Artifacts
from analysis.runs.records import Records

DPI = 180
"""On the page a journal's column is 630 pixels wide."""

QUALITY = 85
"""Of JPEG, for pictures that are photographs."""

PHOTOGRAPHS = "maps-"
"""What the names of contact sheets begin with."""


@dataclass(frozen=True)
class Inlay:
    """One figure inside the page.

    Attributes:
        name: of the figure.
        title: one line.
        caption: what it shows and from which runs.
        source: the picture as a data URI.
        width: pixels.
        height: pixels.
        wide: whether it takes more than a journal's column.
        run_ids: of the runs whose numbers it shows.
        place: data set and category of these runs.
    """

    name: str
    title: str
    caption: str
    source: str
    width: int
    height: int
    wide: bool
    run_ids: tuple[str, ...]
    place: str


def inlays(records: Records, artifacts: Artifacts, names: Sequence[str]) -> Iterator[Inlay | Undrawn]:
    """The figures of these names, drawn from what was read, one by one."""
    for made in draw(records, artifacts, names):
        yield made if isinstance(made, Undrawn) else inlay(made)


def inlay(drawing: Drawing) -> Inlay:
    """A figure as PNG, of few colours where it is of lines; as JPEG where it is of photographs."""
    drawn = io.BytesIO()
    with styled():
        drawing.figure.savefig(drawn, format="png", dpi=DPI)
    picture = Image.open(drawn).convert("RGB")
    wide = drawing.figure.get_figwidth() > 1.5 * COLUMN
    kept = io.BytesIO()
    if drawing.name.startswith(PHOTOGRAPHS):
        media = "image/jpeg"
        picture.save(kept, "JPEG", quality=QUALITY, optimize=True)
    else:
        media = "image/png"
        if not wide:  # curves; the scale of a heat map would fall into steps
            picture = picture.quantize(256, dither=Image.Dither.NONE)
        picture.save(kept, "PNG", optimize=True)
    tags = drawing.runs[0].tags
    return Inlay(
        drawing.name,
        drawing.title,
        drawing.caption.replace(f"ids: {CAPTIONS}", "ids: see below"),
        data_uri(media, kept.getvalue()),
        *picture.size,
        wide=wide,
        run_ids=tuple(run.run_id for run in drawing.runs),
        place=f"{tags.get('dataset', '?')} {tags.get('category', '?')}",
    )
