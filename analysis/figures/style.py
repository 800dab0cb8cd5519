"""The style of the figures: sizes for print, colours that the colour-blind distinguish, lines that need no colour."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

COLUMN = 3.5
PAGE = 7.2
"""Widths of a journal's column and page in inches."""

PNG_DPI = 300

FOOTNOTE = 6.5
"""Size of the letters in points."""

INK = "0.15"
WINDOW = "0.91"
"""Grey levels of texts and of the shaded epochs."""


LineStyle = str | tuple[int, tuple[float, ...]]


@dataclass(frozen=True)
class Look:
    """The label, colour, line style and marker of one curve."""

    label: str
    colour: str
    line: LineStyle
    marker: str

    @property
    def options(self) -> dict[str, Any]:
        """The options of matplotlib's ``plot``."""
        return {"color": self.colour, "linestyle": self.line, "marker": self.marker}


BASES = {
    "none": Look("original", "#000000", (0, (4, 1.2)), "s"),
    "stereotype": Look("stereotype", "#E69F00", (0, (5, 1, 1, 1)), "^"),
    "cnn": Look("CNN", "#D55E00", (0, (1, 1)), "D"),
    "alternating": Look("AltUB", "#0072B2", "-", "o"),
}
"""Looks of the base distributions, in colours of Okabe and Ito (https://jfly.uni-koeln.de/color/)."""

OTHERS = (
    Look("", "#CC79A7", (0, (7, 1.5)), "v"),
    Look("", "#009E73", (0, (3, 1, 1, 1, 1, 1)), "P"),
    Look("", "#56B4E9", (0, (2, 0.8)), "X"),
    Look("", "#CC79A7", (0, (1, 0.6)), "<"),
    Look("", "#009E73", (0, (9, 1.5)), ">"),
    Look("", "#56B4E9", (0, (6, 1, 1, 1)), "p"),
)
"""Looks of base distributions that the paper does not have, and of further variants of one."""

CONTROLS = {
    "fitted": "fitted after training",
    "constant": "SGD in every epoch",
    "channelwise": "AltUB per channel",
    "mu_only": "AltUB, μ only",
    "sigma_only": "AltUB, σ only",
    "split_prior": "split prior (Glow)",
}
"""Labels of base distributions that the paper does not have."""

STEPS = tuple(to_hex(matplotlib.colormaps["viridis"](x)) for x in (0.8, 0.6, 0.4, 0.2, 0.0))
"""Colours of an ordered series, light to dark."""

STEP_MARKERS = ("o", "s", "^", "D", "v")

DIFFERENCES = LinearSegmentedColormap.from_list("differences", ["#B35806", "#F5F5F5", "#0072B2"])
"""Colours from worse over no difference to better."""

MODELS = {
    "fastflow": "FastFlow",
    "cflow": "CFLOW-AD",
    "csflow": "CS-Flow",
    "differnet": "DifferNet",
    "msflow": "MSFlow",
}
BACKBONES = {
    "r18": "ResNet-18",
    "wrn50": "WRN-50-2",
    "wrn50_tv": "WRN-50-2 (tv)",
    "deit": "DeiT",
    "cait": "CaiT",
    "dinov2_s": "DINOv2-S",
    "dinov2_b": "DINOv2-B",
    "dinov3_s": "DINOv3-S",
    "dinov3_b": "DINOv3-B",
}
DATASETS = {
    "mvtec": "MVTec AD",
    "mvtec2": "MVTec AD 2",
    "loco": "MVTec LOCO AD",
    "btad": "BTAD",
    "visa": "VisA",
    "realiad": "Real-IAD",
    "elpv": "ELPV",
    "synthetic": "built-in images",
    "folder": "own images",
}


def looks(bases: Sequence[str]) -> list[Look]:
    """Return one look for each name; a repeated name, or one that is not the paper's, gets one of :data:`OTHERS`.

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
        chosen.append(Look(base_label(base), look.colour, look.line, look.marker))
    return chosen


def base_label(base: str) -> str:
    """Return the label of a base distribution; one from a plug-in has its name.

    >>> base_label("alternating"), base_label("mu_only"), base_label("sinh_arcsinh")
    ('AltUB', 'AltUB, μ only', 'sinh_arcsinh')
    """
    return BASES[base].label if base in BASES else CONTROLS.get(base, base)


def styled() -> AbstractContextManager[None]:
    """Return the context in which figures are made and saved."""
    return matplotlib.style.context(Path(__file__).with_name("print.mplstyle"))


def new_figure(width: float, height: float, **pads: Any) -> Figure:
    """Return an empty figure of a size in inches, laid out so that nothing overlaps or is clipped."""
    return Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(**pads))


@contextmanager
def titled_figure(width: float, height: float, title: str, notes: Sequence[str], **pads: Any) -> Iterator[Figure]:
    """Provide an empty figure that gets its title and its footnotes when the context ends.

    Args:
        width: inches.
        height: inches, without the footnotes.
        title: written on top, in as many lines as it takes.
        notes: written below; the figure becomes taller by them.
        pads: spaces of matplotlib's constrained layout.
    """
    with styled():
        figure = new_figure(width, height, **pads)
        yield figure
        figure.suptitle(_wrapped(figure, title, matplotlib.rcParams["figure.titlesize"]))
        if notes:
            text = "\n".join(_wrapped(figure, note, FOOTNOTE) for note in notes)
            figure.set_size_inches(width, height + (text.count("\n") + 2) * 1.25 * FOOTNOTE / 72)
            figure.supxlabel(text, fontsize=FOOTNOTE, color=INK, style="italic", x=0.01, ha="left")


def leave_blank(axes: Axes) -> None:
    """Say in a panel that its data is missing, and draw no vertical scale."""
    axes.text(0.5, 0.5, "missing", transform=axes.transAxes, ha="center", va="center")
    axes.set_yticks([])


def _wrapped(figure: Figure, text: str, size: float) -> str:
    """Break a text into lines that fit into the figure: a letter is on average 0.55 of its size wide."""
    return textwrap.fill(text, int(figure.get_figwidth() * 72 / (0.55 * size)))
