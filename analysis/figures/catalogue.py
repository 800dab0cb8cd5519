"""All figures by their names on the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from analysis.figures.curves import stability_plot
from analysis.figures.drawing import Drawing, Undrawn
from analysis.figures.heatmap import heat_map
from analysis.figures.map_sheets import map_sheets
from analysis.figures.reproductions import fig1, fig3, fig4
from analysis.paper.paper_cells import PaperCells
from analysis.runs.artifacts import Artifacts
from analysis.runs.conditions import conditions
from analysis.runs.records import Records

Draw = Callable[[Records, Artifacts], Iterable[Drawing | Undrawn]]

FIGURES: dict[str, Draw] = {
    "fig1": lambda records, artifacts: [fig1(records.runs, artifacts)],
    "fig3": lambda records, artifacts: [fig3(records.runs, artifacts)],
    "fig4": lambda records, artifacts: [fig4(records.runs)],
    "heatmap": lambda records, artifacts: [heat_map(PaperCells(records))],
    "stability": lambda records, artifacts: map(stability_plot, conditions(records.runs)),
    "maps": lambda records, artifacts: map_sheets(conditions(records.runs), artifacts),
}
"""{name on the command line: function that draws}; one name may stand for several figures."""


def draw(records: Records, artifacts: Artifacts, names: Iterable[str]) -> Iterator[Drawing | Undrawn]:
    """Draw the figures that these names stand for, one by one."""
    for name in names:
        yield from FIGURES[name](records, artifacts)
