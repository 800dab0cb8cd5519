"""Heat map of the changes by AltUB: mean and sd of the AUROC, category by backbone, ours beside the paper's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.patches import Rectangle

from analysis.figures.drawing import Drawing, Undrawn, origin
from analysis.figures.style import DIFFERENCES, PAGE, titled_figure
from analysis.paper.cells import Cell, counts
from analysis.paper.paper_cells import CFLOW_BACKBONE, PaperCells
from analysis.paper.protocol import sweep_command
from analysis.paper.values import Value, categories

COLUMNS = {"r18": "R18", "wrn50": "WRN50", "deit": "DeiT", "cait": "CaiT", "cflow": "CFLOW"}
"""FastFlow by backbone (Table A1), and CFLOW-AD (Table 2)."""

STATISTICS = {"mean": 2.0, "std": 1.0}
"""Limits of the colours in percentage points; larger differences have the last colour."""

SWEEP = "table2"
"""The sweep whose runs, with those of Table A1, are all that is shown."""

NAME = "heatmap"
TITLE = "What AltUB changes on MVTec AD: pixel AUROC with AltUB − without (percentage points)"
ROW = 0.2
SAME = 1e-9


@dataclass(frozen=True)
class Difference:
    """AltUB − the original in one category and column, percentage points; None if a value is missing.

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


def differences(source: PaperCells) -> list[Difference]:
    """Return the differences of every category and column, row by row."""
    return [
        Difference(category, column, _minus(without, altub), _minus(paper_without, paper_altub), (without, altub))
        for category in categories("table_a1")
        for column in COLUMNS
        for model, backbone in [("cflow", CFLOW_BACKBONE) if column == "cflow" else ("fastflow", column)]
        for (without, paper_without), (altub, paper_altub) in [source.pair(category, model, backbone)]
    ]


def _minus(without: Cell | Value, altub: Cell | Value) -> dict[str, float | None]:
    pairs = {name: (getattr(without, name), getattr(altub, name)) for name in STATISTICS}
    return {name: None if None in pair else pair[1] - pair[0] for name, pair in pairs.items()}


def heat_map(source: PaperCells) -> Drawing | Undrawn:
    """Draw differences in mean and standard deviation, ours beside the paper's; hatched if a run is missing."""
    grid = differences(source)
    used = {
        run.run_id: run for cell in grid if cell.ours["mean"] is not None for ours in cell.cells for run in ours.runs
    }
    if not used:
        return Undrawn(
            NAME,
            TITLE,
            "The heat map is not drawn: no category of MVTec AD has complete runs both without and with AltUB; compute "
            f"them with `{sweep_command(SWEEP)}`.",
        )
    notes = _notes(grid)
    rows = categories("table_a1")
    with titled_figure(PAGE, ROW * len(rows) + 1.35, TITLE, notes) as figure:
        axes = figure.subplots(1, 4, sharey=True)
        for pair, (statistic, limit) in zip((axes[:2], axes[2:]), STATISTICS.items(), strict=True):
            for panel, side in zip(pair, ("ours", "paper"), strict=True):
                draw_grid(panel, grid, rows, statistic, side)
                panel.set_title(f"{'mean' if statistic == 'mean' else 'sd'}: {side}")
            scale = ScalarMappable(Normalize(-limit, limit), _colours(statistic))
            bar = figure.colorbar(
                scale, ax=list(pair), location="bottom", extend="both", aspect=35, fraction=0.03, pad=0.02
            )
            left, right = ("worse", "better") if statistic == "mean" else ("steadier", "less steady")
            bar.set_label(f"{left} ←   difference (percentage points)   → {right}", fontsize=7)
            bar.outline.set_visible(False)
    runs = tuple(used.values())
    text = (
        "Pixel AUROC with AltUB minus without, in mean and standard deviation (sd) over the window, percentage points; "
        "FastFlow on four backbones (paper: Table A1) and CFLOW-AD (Table 2). Blue: AltUB is better or steadier, "
        "brown: worse or less steady; hatched: missing. "
        f"Of FastFlow, ours: {_count(grid, 'ours')}; the paper's: {_count(grid, 'paper')}. {origin(runs)}"
    )
    return Drawing(NAME, TITLE, text, figure, runs, tuple(notes))


def _colours(statistic: str) -> Colormap:
    """Return the colours of a statistic: a larger mean is better, a larger standard deviation worse."""
    return DIFFERENCES if statistic == "mean" else DIFFERENCES.reversed()


def draw_grid(axes: Axes, grid: Sequence[Difference], rows: Sequence[str], statistic: str, side: str) -> None:
    """Draw one square per category and column, with its number; hatched if there is none."""
    limit = STATISTICS[statistic]
    columns = list(COLUMNS)
    table = np.full((len(rows), len(columns)), np.nan)
    for cell in grid:
        value = getattr(cell, side)[statistic]
        table[rows.index(cell.category), columns.index(cell.column)] = np.nan if value is None else value
    axes.pcolormesh(
        np.ma.masked_invalid(table),
        cmap=_colours(statistic),
        vmin=-limit,
        vmax=limit,
        edgecolors="white",
        linewidth=0.8,
    )
    decimals = 1 if side == "paper" and statistic == "mean" else 2
    for (row, column), value in np.ndenumerate(table):
        if np.isnan(value):
            axes.add_patch(
                Rectangle((column, row), 1, 1, facecolor="white", edgecolor="0.55", hatch="////", linewidth=0)
            )
            continue
        axes.text(
            column + 0.5,
            row + 0.5,
            f"{value + 0.0:+.{decimals}f}".replace("-", "−"),
            ha="center",
            va="center",
            fontsize=6.2,
            color="white" if abs(value) > 0.6 * limit else "black",
        )
    axes.set(xlim=(0, len(columns)), ylim=(len(rows), 0))
    axes.set_xticks(np.arange(len(columns)) + 0.5, list(COLUMNS.values()), fontsize=6.2)
    axes.set_yticks(np.arange(len(rows)) + 0.5, [row.replace("_", " ") for row in rows])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _count(grid: Sequence[Difference], side: str) -> str:
    """Return the number of FastFlow's cells in which AltUB is better or steadier: in the paper 54 and 53 of 60."""
    flows = [found for cell in grid if cell.column != "cflow" and (found := getattr(cell, side))["mean"] is not None]
    higher = sum(found["mean"] > -SAME for found in flows)
    smaller = sum(found["std"] < -SAME for found in flows)
    return f"the mean is at least the original's in {higher} of {len(flows)} cells, the sd smaller in {smaller}"


def _notes(grid: Sequence[Difference]) -> list[str]:
    """Return sentences on the squares that are hatched on our side, and on those that deviate from the protocol."""
    drawn = [cell for cell in grid if cell.ours["mean"] is not None]
    hatched = [cell for cell in grid if cell.ours["mean"] is None]
    states = [next(ours.state for ours in cell.cells if not ours.complete) for cell in hatched]
    deviating = sum(any(ours.deviating for ours in cell.cells) for cell in drawn)
    notes = []
    if states:
        notes.append(f"Hatched in ours: {counts(states)}, of {len(grid)}; compute with `{sweep_command(SWEEP)}`.")
    if deviating:
        notes.append(f"{deviating} of ours are not after the paper's protocol; see the tables.")
    return notes
