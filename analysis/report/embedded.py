"""Figures as the report holds them: pictures inside the page, small enough for many of them."""

from __future__ import annotations

import io
from dataclasses import dataclass

from PIL import Image

from analysis.figures.drawing import CAPTIONS, Drawing
from analysis.figures.style import COLUMN, styled
from analysis.report.page import data_uri

DPI = 180
"""Dots per inch: a journal's column has 630 pixels on the page."""

QUALITY = 85
"""Quality of JPEG, for pictures that are photographs."""

PHOTOGRAPHS = "maps-"
"""The beginning of the names of figures that consist of photographs."""


@dataclass(frozen=True)
class EmbeddedFigure:
    """One figure inside the page.

    Attributes:
        name: stem of the figure's files.
        title: one line.
        caption: its content and its runs.
        source: the picture as a data URI.
        width: pixels.
        height: pixels.
        wide: True if it takes more than a journal's column.
        run_ids: ids of the runs whose numbers it shows.
        subject: data set and category of these runs.
    """

    name: str
    title: str
    caption: str
    source: str
    width: int
    height: int
    wide: bool
    run_ids: tuple[str, ...]
    subject: str


def embedded(drawing: Drawing) -> EmbeddedFigure:
    """Return a figure as PNG, with few colours if it consists of lines; as JPEG if it consists of photographs."""
    png = io.BytesIO()
    with styled():
        drawing.figure.savefig(png, format="png", dpi=DPI)
    picture = Image.open(png).convert("RGB")
    wide = drawing.figure.get_figwidth() > 1.5 * COLUMN
    compressed = io.BytesIO()
    if drawing.name.startswith(PHOTOGRAPHS):
        media = "image/jpeg"
        picture.save(compressed, "JPEG", quality=QUALITY, optimize=True)
    else:
        media = "image/png"
        if not wide:  # curves; the scale of a heat map would fall into steps
            picture = picture.quantize(256, dither=Image.Dither.NONE)
        picture.save(compressed, "PNG", optimize=True)
    tags = drawing.runs[0].tags
    return EmbeddedFigure(
        drawing.name,
        drawing.title,
        drawing.caption.replace(f"ids: {CAPTIONS}", "ids: see below"),
        data_uri(media, compressed.getvalue()),
        *picture.size,
        wide=wide,
        run_ids=tuple(run.run_id for run in drawing.runs),
        subject=f"{tags.get('dataset', '?')} {tags.get('category', '?')}",
    )
