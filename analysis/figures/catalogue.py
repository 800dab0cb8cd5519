"""All figures by their names on the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from analysis.figures.curves import stability_sketch
from analysis.figures.drawing import Drawing, Sketch, T, Undrawn
from analysis.figures.heatmap import TITLE, heat_map
from analysis.figures.map_sheets import map_sheets
from analysis.figures.reproductions import FIG1, FIG3, FIG4, fig1, fig3, fig4
from analysis.paper.paper_cells import PaperCells
from analysis.runs.artifacts import Artifacts
from analysis.runs.conditions import conditions
from analysis.runs.records import Records

Sketches = Callable[[Records, Artifacts], Iterable[Sketch]]

FIGURES: dict[str, Sketches] = {
    "fig1": lambda records, artifacts: [Sketch("fig1", FIG1, partial(fig1, records.runs, artifacts))],
    "fig3": lambda records, artifacts: [Sketch("fig3", FIG3, partial(fig3, records.runs, artifacts))],
    "fig4": lambda records, artifacts: [Sketch("fig4", FIG4, partial(fig4, records.runs))],
    "heatmap": lambda records, artifacts: [Sketch("heatmap", TITLE, lambda: heat_map(PaperCells(records)))],
    "stability": lambda records, artifacts: map(stability_sketch, conditions(records.runs)),
    "maps": lambda records, artifacts: map_sheets(conditions(records.runs), artifacts),
}
"""{name on the command line: function that sketches}; one name may stand for several figures."""


def draw(
    records: Records, artifacts: Artifacts, names: Iterable[str], keep: Callable[[Drawing], T]
) -> Iterator[T | Undrawn]:
    """Draw and keep the figures that these names stand for, one by one; one that fails does not stop the others."""
    for name in names:
        for sketch in FIGURES[name](records, artifacts):
            yield sketch.use(keep)
