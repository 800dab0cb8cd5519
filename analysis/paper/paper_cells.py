"""The cells of the paper's tables, made from the runs that were read; each is made once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from analysis.paper.cells import Cell, overall_cell, window_cell
from analysis.paper.protocol import RECIPES, deviations, sweep_command
from analysis.paper.selection import Selection
from analysis.paper.values import BACKBONES, OVERALL, Key, Value, backbone_choice, categories, value
from analysis.runs.records import Records

METRICS = {"segmentation": "pixel_auroc", "detection": "image_auroc"}
PAIR = ("none", "alternating")
OTHER = {"none": "alternating", "alternating": "none"}
"""The base distributions that the paper compares, and for each the other one."""

CFLOW_BACKBONE = "wrn50_tv"


@dataclass
class PaperCells:
    """The cells that all tables of the paper are made from.

    Args:
        records: the runs that were read.
        reading: the reading of the paper (``conf/reading/``) that the runs follow; None for the defaults.

    Attributes:
        selection: the runs of each cell.
    """

    records: Records
    reading: str | None = None

    def __post_init__(self) -> None:
        self.selection = Selection(self.records, partial(deviations, reading=self.reading))
        self._aurocs: dict[tuple[str, Key, str], Cell] = {}

    def auroc(self, dataset: str, key: Key, sweep: str, paper: Value | None = None) -> Cell:
        """Return mean, standard deviation and best of the AUROC that the key's task names.

        Args:
            dataset: the data set.
            key: the rest of the experiment.
            sweep: the sweep that computes its runs.
            paper: the paper's cell.
        """
        place = dataset, key, sweep
        if place not in self._aurocs:
            selected = self.selection.runs_of(dataset, key)
            self._aurocs[place] = window_cell(key, selected, METRICS[key.task], sweep_command(sweep, self.reading))
        return replace(self._aurocs[place], paper=paper)

    def rows(self, dataset: str, table: str, columns: Sequence[Key]) -> dict[str, dict[Key, Cell]]:
        """Return the AUROCs of a table as {category: {column: cell}}, the overall row last.

        Args:
            dataset: the data set.
            table: the table, which is also the sweep that computes its runs.
            columns: keys without category; one of FastFlow without backbone is of the backbone chosen by the paper's
                rule.
        """
        rows: dict[str, dict[Key, Cell]] = {}
        for category in categories(table):
            row = rows[category] = {}
            for column in columns:
                key = replace(column, category=category)
                notes: tuple[str, ...] = ()
                if not column.backbone:
                    backbone, remarks = self.backbone(category, table)
                    key = replace(key, backbone=backbone)
                    notes = remarks if column.task == "segmentation" else ()
                cell = self.auroc(dataset, key, table, value(table, key))
                row[column] = replace(cell, notes=(*cell.notes, *notes))
        rows[OVERALL] = {
            column: overall_cell(key, [row[column] for row in rows.values()], value(table, key))
            for column in columns
            for key in [replace(column, category=OVERALL)]
        }
        return rows

    def rival(self, key: Key, model: str, paper: Value) -> Cell | None:
        """Return the measured cell of a system that Table 1 only quotes; None if there is no run of it.

        Without a run on the published backbone it is of another one, which a footnote names.

        Args:
            key: category and task.
            model: its model here.
            paper: the quoted value.
        """
        backbones = self.selection.backbones("mvtec", key.category, model)
        if not backbones:
            return None
        recipe, published = RECIPES[model]
        backbone = published if published in backbones else backbones[0]
        sweep = f"table1 experiment={recipe} altub=none"
        cell = self.auroc("mvtec", Key(key.category, model, backbone, "none", key.task), sweep, paper)
        notes = list(cell.notes)
        if backbone != published:
            notes.append(f"Ours is on the backbone {backbone}, the publication's on {published}.")
        if any(run.params.get("model.textures") == "None" for run in cell.runs):
            notes.append("Ours makes its defects of Perlin noise, the publication's of the textures of DTD.")
        return replace(cell, notes=tuple(notes))

    def pair(
        self, category: str, model: str, backbone: str, task: str = "segmentation"
    ) -> tuple[tuple[Cell, Value], tuple[Cell, Value]]:
        """Return an AUROC on MVTec AD without and with AltUB: each our cell and the paper's, of Table A1 or Table 2."""
        table = "table_a1" if model == "fastflow" else "table2"
        without, altub = (Key(category, model, backbone, altub, task) for altub in PAIR)
        cells = (self.auroc("mvtec", key, "table2") for key in (without, altub))
        return (next(cells), value(table, without)), (next(cells), value(table, altub))

    def other(self, make: Callable[..., Cell], key: Key, sweep: str, paper: Value) -> Cell:
        """Return a cell of MVTec AD that is not an AUROC, made by a function of :mod:`analysis.paper.cells`."""
        return replace(make(key, self.selection.runs_of("mvtec", key), sweep_command(sweep, self.reading)), paper=paper)

    def backbone(self, category: str, sweep: str) -> tuple[str, tuple[str, ...]]:
        """Return the backbone of FastFlow for a category by the paper's rule, and footnotes.

        The rule: the one with the best segmentation AUROC of all epochs with AltUB (paper: Table 1). If no backbone is
        complete, it is the paper's own.
        """
        paper = backbone_choice(category).backbones
        cells = {
            backbone: self.auroc("mvtec", Key(category, "fastflow", backbone, "alternating", "segmentation"), sweep)
            for backbone in BACKBONES
        }
        complete = {backbone: cell for backbone, cell in cells.items() if cell.complete and cell.best is not None}
        if not complete:
            return paper[0], ()
        ours = max(complete, key=lambda backbone: complete[backbone].best or 0.0)
        notes = []
        if len(complete) < len(cells):
            others = ", ".join(f"{backbone} {cell.state}" for backbone, cell in cells.items() if not cell.complete)
            notes.append(f"Backbone chosen among {', '.join(complete)} only ({others}).")
        if ours not in paper and paper[0] in complete:
            theirs = complete[paper[0]]
            notes.append(
                f"Backbone: ours {ours}, the paper's {paper[0]}; with AltUB ours on {paper[0]} has mean, sd and best "
                f"({theirs.mean:.2f}, {theirs.std:.2f}, {theirs.best:.2f})."
            )
        return ours, tuple(notes)
