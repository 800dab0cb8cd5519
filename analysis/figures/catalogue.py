"""All figures by their names on the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from analysis.figures.curves import stability_plot
from analysis.figures.drawing import Drawing, Undrawn
from analysis.figures.heatmap import heat_map
from analysis.figures.map_sheets import contact_sheets
from analysis.figures.reproductions import fig1, fig3, fig4
from analysis.paper.paper_cells import Source
from analysis.runs.artifacts import Artifacts
from analysis.runs.conditions import settings
from analysis.runs.records import Records

Draw = Callable[[Records, Artifacts], Iterable[Drawing | Undrawn]]


def _stability(records: Records, artifacts: Artifacts) -> Iterator[Drawing | Undrawn]:
    for setting in settings(records.runs):
        yield stability_plot(setting)


FIGURES: dict[str, Draw] = {
    "fig1": lambda records, artifacts: [fig1(records.runs, artifacts)],
    "fig3": lambda records, artifacts: [fig3(records.runs, artifacts)],
    "fig4": lambda records, artifacts: [fig4(records.runs, artifacts)],
    "heatmap": lambda records, artifacts: [heat_map(Source(records))],
    "stability": _stability,
    "maps": lambda records, artifacts: contact_sheets(settings(records.runs), artifacts),
}
"""{name on the command line: what draws it}; one name may stand for several figures."""


def draw(records: Records, artifacts: Artifacts, names: Iterable[str]) -> Iterator[Drawing | Undrawn]:
    """The figures that these names stand for, one by one."""
    for name in names:
        yield from FIGURES[name](records, artifacts)
