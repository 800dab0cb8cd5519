"""The cells of the paper's tables, found among the runs that were read; each is made once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from analysis.paper import cells
from analysis.paper.cells import Cell
from analysis.paper.protocol import command
from analysis.paper.selection import Selection
from analysis.paper.values import BACKBONES, Key, Value, choice
from analysis.runs.records import Records

METRICS = {"segmentation": "pixel_auroc", "detection": "image_auroc"}
PAIR = ("none", "alternating")
CFLOW_BACKBONE = "wrn50_tv"


@dataclass
class Source:
    """What all tables are made from.

    Args:
        records: what was read.
    """

    records: Records
    selection: Selection = field(init=False)
    _windows: dict[tuple[str, Key, str], Cell] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.selection = Selection(self.records)

    def window(self, dataset: str, key: Key, sweep: str, paper: Value | None = None) -> Cell:
        """Mean, standard deviation and best of the AUROC that the key's task names."""
        place = dataset, key, sweep
        if place not in self._windows:
            pick = self.selection.pick(dataset, key)
            self._windows[place] = cells.window_cell(key, pick, METRICS[key.task], None, command(sweep))
        return replace(self._windows[place], paper=paper)

    def other(self, make: Callable[..., Cell], key: Key, sweep: str, paper: Value) -> Cell:
        """A cell of MVTec AD that is no AUROC, made by one of the functions of :mod:`analysis.paper.cells`."""
        return make(key, self.selection.pick("mvtec", key), paper, command(sweep))

    def chosen(self, category: str, sweep: str) -> tuple[str, tuple[str, ...]]:
        """The backbone of FastFlow for a category by the paper's rule, and footnotes.

        The rule: the one with the best segmentation AUROC of all epochs with AltUB (paper: Table 1). Where no backbone
        is complete, the paper's own.
        """
        paper = choice(category).backbones
        found = {
            backbone: self.window("mvtec", Key(category, "fastflow", backbone, "alternating", "segmentation"), sweep)
            for backbone in BACKBONES
        }
        complete = {backbone: cell for backbone, cell in found.items() if cell.complete and cell.best is not None}
        if not complete:
            return paper[0], ()
        ours = max(complete, key=lambda backbone: complete[backbone].best or 0.0)
        notes = []
        if len(complete) < len(found):
            others = ", ".join(f"{backbone} {cell.state}" for backbone, cell in found.items() if not cell.complete)
            notes.append(f"Backbone chosen among {', '.join(complete)} alone ({others}).")
        if ours not in paper and paper[0] in complete:
            there = complete[paper[0]]
            notes.append(
                f"Backbone: ours {ours}, the paper's {paper[0]}; with AltUB ours on {paper[0]} has mean, sd and best "
                f"({there.mean:.2f}, {there.std:.2f}, {there.best:.2f})."
            )
        return ours, tuple(notes)
