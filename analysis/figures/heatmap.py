"""Heat map of what AltUB changes: mean and sd of the AUROC, category by backbone, ours beside the paper's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle

from analysis.figures.drawing import Drawing, Undrawn, origin
from analysis.figures.style import DIFFERENCES, PAGE, footnotes, head, new_figure, styled
from analysis.paper.cells import Cell
from analysis.paper.paper_cells import CFLOW_BACKBONE, PAIR, Source
from analysis.paper.protocol import command
from analysis.paper.values import Key, Value, categories, values
from analysis.runs.records import Run

COLUMNS = {"r18": "R18", "wrn50": "WRN50", "deit": "DeiT", "cait": "CaiT", "cflow": "CFLOW"}
"""FastFlow by backbone (Table A1), and CFLOW-AD (Table 2)."""

STATISTICS = {"mean": 2.0, "std": 1.0}
"""Where the colours end, in percentage points; what goes beyond has the last one."""

SWEEP = "table2"
"""Its runs and those of Table A1 are all that is shown."""

NAME = "heatmap"
TITLE = "What AltUB changes on MVTec AD: pixel AUROC with AltUB − without (percentage points)"
ROW = 0.2
SAME = 1e-9


@dataclass(frozen=True)
class Difference:
    """AltUB − the original in one category and column, percentage points; None where a value is missing.

    Attributes:
        category: a row.
        column: a key of :data:`COLUMNS`.
        ours: {statistic: difference}.
        paper: {statistic: difference}.
        cells: ours, without and with AltUB.
    """

    category: str
    column: str
    ours: Mapping[str, float | None]
    paper: Mapping[str, float | None]
    cells: tuple[Cell, Cell]


def differences(source: Source) -> list[Difference]:
    """Of every category and column, row by row."""
    return [_difference(source, category, column) for category in categories("table_a1") for column in COLUMNS]


def _difference(source: Source, category: str, column: str) -> Difference:
    cells, paper = [], []
    for altub in PAIR:
        if column == "cflow":
            key = Key(category, "cflow", CFLOW_BACKBONE, altub, "segmentation")
            paper.append(values("table2")[Key(category, "cflow", "", altub, "segmentation")])
        else:
            key = Key(category, "fastflow", column, altub, "segmentation")
            paper.append(values("table_a1")[key])
        cells.append(source.window("mvtec", key, SWEEP))
    return Difference(category, column, _minus(*cells), _minus(*paper), (cells[0], cells[1]))


def _minus(without: Cell | Value, altub: Cell | Value) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for statistic in STATISTICS:
        one, other = getattr(without, statistic), getattr(altub, statistic)
        found[statistic] = None if one is None or other is None else other - one
    return found


def heat_map(source: Source) -> Drawing | Undrawn:
    """Differences in mean and standard deviation, ours beside the paper's; hatched where a run is missing."""
    found = differences(source)
    shown = [one for one in found if one.ours["mean"] is not None]
    if not shown:
        return Undrawn(
            NAME,
            TITLE,
            "The heat map is not drawn: no category of MVTec AD has complete runs both without and with AltUB; compute "
            f"them with `{command(SWEEP)}`.",
        )
    runs = tuple(dict.fromkeys(run.run_id for one in shown for cell in one.cells for run in cell.runs))
    used: tuple[Run, ...] = tuple(source.records.by_id[run_id] for run_id in runs)
    notes = _notes(found)
    rows = list(categories("table_a1"))
    with styled():
        figure = new_figure(PAGE, ROW * len(rows) + 1.35)
        axes = figure.subplots(1, 4, sharey=True)
        for number, (statistic, limit) in enumerate(STATISTICS.items()):
            pair = axes[2 * number : 2 * number + 2]
            sign = 1 if statistic == "mean" else -1
            for one, side in zip(pair, ("ours", "paper"), strict=True):
                draw_grid(one, found, rows, statistic, side)
                one.set_title(f"{'mean' if statistic == 'mean' else 'sd'}: {side}")
            scale = ScalarMappable(Normalize(-limit, limit), DIFFERENCES if sign > 0 else DIFFERENCES.reversed())
            bar = figure.colorbar(
                scale, ax=list(pair), location="bottom", extend="both", aspect=35, fraction=0.03, pad=0.02
            )
            better = ("worse", "better") if sign > 0 else ("steadier", "less steady")
            bar.set_label(f"{better[0]} ←   difference (percentage points)   → {better[1]}", fontsize=7)
            bar.outline.set_visible(False)
        head(figure, TITLE)
        footnotes(figure, notes)
    caption = (
        "Pixel AUROC with AltUB minus without, in mean and standard deviation (sd) over the window, percentage points; "
        "FastFlow on four backbones (paper: Table A1) and CFLOW-AD (Table 2). Blue: AltUB is better or steadier, "
        "brown: worse or less steady; hatched: missing. "
        f"Of FastFlow, ours: {_count(found, 'ours')}; the paper's: {_count(found, 'paper')}. {origin(used)}"
    )
    if notes:
        caption += f" Not complete: {' '.join(notes)}"
    return Drawing(NAME, TITLE, caption, figure, used, tuple(notes))


def draw_grid(axes: Axes, found: Sequence[Difference], rows: Sequence[str], statistic: str, side: str) -> None:
    """One square per category and column, with its number; hatched where there is none."""
    limit = STATISTICS[statistic]
    scale = DIFFERENCES if statistic == "mean" else DIFFERENCES.reversed()
    columns = list(COLUMNS)
    table = np.full((len(rows), len(columns)), np.nan)
    for one in found:
        value = getattr(one, side)[statistic]
        table[rows.index(one.category), columns.index(one.column)] = np.nan if value is None else value
    axes.pcolormesh(np.ma.masked_invalid(table), cmap=scale, vmin=-limit, vmax=limit, edgecolors="white", linewidth=0.8)
    for (row, column), value in np.ndenumerate(table):
        if np.isnan(value):
            axes.add_patch(
                Rectangle((column, row), 1, 1, facecolor="white", edgecolor="0.55", hatch="////", linewidth=0)
            )
            continue
        dark = abs(value) > 0.6 * limit
        decimals = 1 if side == "paper" and statistic == "mean" else 2
        axes.text(
            column + 0.5,
            row + 0.5,
            f"{value + 0.0:+.{decimals}f}".replace("-", "−"),
            ha="center",
            va="center",
            fontsize=6.2,
            color="white" if dark else "black",
        )
    axes.set(xlim=(0, len(columns)), ylim=(len(rows), 0))
    axes.set_xticks(np.arange(len(columns)) + 0.5, [COLUMNS[column] for column in columns], fontsize=6.2)
    axes.set_yticks(np.arange(len(rows)) + 0.5, [row.replace("_", " ") for row in rows])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _count(found: Sequence[Difference], side: str) -> str:
    """In how many of FastFlow's cells AltUB is better or steadier: the paper's 54 and 53 of 60."""
    flows = [getattr(one, side) for one in found if one.column != "cflow" and getattr(one, side)["mean"] is not None]
    higher = sum(one["mean"] > -SAME for one in flows)
    smaller = sum(one["std"] < -SAME for one in flows)
    return f"the mean is at least the original's in {higher} of {len(flows)} cells, the sd smaller in {smaller}"


def _notes(found: Sequence[Difference]) -> list[str]:
    """What is hatched on our side, by why."""
    states: dict[str, int] = {}
    deviating = 0
    for one in found:
        deviating += one.ours["mean"] is not None and any(cell.deviating for cell in one.cells)
        if one.ours["mean"] is None:
            state = next(cell.state for cell in one.cells if not cell.complete)
            states[state] = states.get(state, 0) + 1
    notes = []
    if states:
        told = ", ".join(f"{count} {state}" for state, count in states.items())
        notes.append(f"Hatched in ours: {told}, of {len(found)}; compute with `{command(SWEEP)}`.")
    if deviating:
        notes.append(f"{deviating} of ours are not after the paper's protocol; see the tables.")
    return notes
