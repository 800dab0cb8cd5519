"""How the figures look: sizes for print, colours that the colour-blind tell apart, and lines that do without colour."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure

COLUMN = 3.5
PAGE = 7.2
"""Widths of a journal's column and page in inches."""

PNG_DPI = 300

RC: dict[str, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 2.4,
    "legend.borderaxespad": 0.2,
    "legend.labelspacing": 0.25,
    "figure.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.formatter.useoffset": False,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.1,
    "lines.markersize": 3.5,
    "hatch.linewidth": 0.5,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",  # opaque: a transparent figure is unreadable on a dark page
    "pdf.fonttype": 42,  # TrueType, as journals ask for
}

FOOTNOTE = 6.5
"""Points."""

INK = "0.15"
WINDOW = "0.91"
"""Greys of texts and of the shaded epochs."""


@dataclass(frozen=True)
class Look:
    """How one line is drawn."""

    label: str
    colour: str
    line: Any
    marker: str


BASES = {
    "none": Look("original", "#000000", (0, (4, 1.2)), "s"),
    "stereotype": Look("stereotype", "#E69F00", (0, (5, 1, 1, 1)), "^"),
    "cnn": Look("CNN", "#D55E00", (0, (1, 1)), "D"),
    "alternating": Look("AltUB", "#0072B2", "-", "o"),
}
"""Of the base distributions: colours of Okabe and Ito that also differ in grey where their lines look alike."""

OTHERS = (
    Look("", "#CC79A7", (0, (7, 1.5)), "v"),
    Look("", "#009E73", (0, (3, 1, 1, 1, 1, 1)), "P"),
    Look("", "#56B4E9", (0, (2, 0.8)), "X"),
)
"""Of base distributions from plug-ins, and of further variants of one."""

STEPS = tuple(to_hex(matplotlib.colormaps["viridis"](x)) for x in (0.8, 0.6, 0.4, 0.2, 0.0))
"""Of an ordered series, light to dark."""

STEP_MARKERS = ("o", "s", "^", "D", "v")

DIFFERENCES = LinearSegmentedColormap.from_list("differences", ["#B35806", "#F5F5F5", "#0072B2"])
"""From worse over no difference to better."""

MODELS = {"fastflow": "FastFlow", "cflow": "CFLOW-AD", "csflow": "CS-Flow"}
BACKBONES = {"r18": "ResNet-18", "wrn50": "WRN-50-2", "wrn50_tv": "WRN-50-2 (tv)", "deit": "DeiT", "cait": "CaiT"}
DATASETS = {"mvtec": "MVTec AD", "btad": "BTAD", "visa": "VisA", "synthetic": "built-in images", "folder": "own images"}
METRICS = {"pixel_auroc": "pixel AUROC", "image_auroc": "image AUROC"}


def looks(bases: Sequence[str]) -> list[Look]:
    """One look for each name, in the order given; a name that comes again, or is not the paper's, gets one of the rest.

    >>> [look.label for look in looks(["none", "alternating", "alternating"])]
    ['original', 'AltUB', 'AltUB']
    >>> len({look.colour for look in looks(["none", "alternating", "alternating"])})
    3
    """
    chosen: list[Look] = []
    further = 0
    for number, base in enumerate(bases):
        own = BASES.get(base)
        if own is not None and base not in bases[:number]:
            chosen.append(own)
            continue
        look = OTHERS[further % len(OTHERS)]
        further += 1
        chosen.append(Look(own.label if own else base, look.colour, look.line, look.marker))
    return chosen


def styled() -> Any:
    """The context in which figures are made and saved."""
    return matplotlib.rc_context(RC)


def new_figure(width: float, height: float, **options: Any) -> Figure:
    """An empty figure of a size in inches, laid out so that nothing overlaps or is clipped."""
    return Figure(figsize=(width, height), layout="constrained", **options)


def head(figure: Figure, title: str) -> None:
    """Put a title on top, in as many lines as it takes."""
    figure.suptitle(_wrapped(figure, title, RC["figure.titlesize"]))


def footnotes(figure: Figure, notes: Sequence[str]) -> None:
    """Write below what the figure lacks, and make it so much taller."""
    if not notes:
        return
    text = "\n".join(_wrapped(figure, note, FOOTNOTE) for note in notes)
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + (text.count("\n") + 2) * 1.25 * FOOTNOTE / 72)
    figure.supxlabel(text, fontsize=FOOTNOTE, color=INK, style="italic", x=0.01, ha="left")


def _wrapped(figure: Figure, text: str, size: float) -> str:
    """In lines that fit into the figure's width: a letter is on average 0.55 of its size wide."""
    return textwrap.fill(text, int(figure.get_figwidth() * 72 / (0.55 * size)))
