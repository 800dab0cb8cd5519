"""A figure with its caption and where its numbers come from, and how it is kept in a folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from altub_exp.machine.disk import write_json
from analysis.figures.style import PNG_DPI, styled
from analysis.runs.provenance import commit
from analysis.runs.records import Run

CAPTIONS = "captions.json"
MANY_RUNS = 8
"""More run ids than these are not printed in a caption, but kept beside it."""


@dataclass(frozen=True)
class Drawing:
    """One figure.

    Attributes:
        name: stem of its files.
        title: one line.
        caption: what it shows and from which runs.
        figure: to be saved.
        runs: whose numbers are shown.
        missing: what could not be shown, one sentence each; the caption and the figure name it too.
    """

    name: str
    title: str
    caption: str
    figure: Figure
    runs: tuple[Run, ...]
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Undrawn:
    """A figure that nothing is there for.

    Attributes:
        name: stem of the files that it would have.
        title: one line.
        sentence: what is missing, and the command that computes it.
    """

    name: str
    title: str
    sentence: str


def origin(runs: Sequence[Run], windows: bool = True) -> str:
    """Runs, commits, seeds and epochs of the statistics, as a sentence for a caption."""
    commits = sorted({commit(run) for run in runs})
    seeds = sorted({run.tags.get("seed", "?") for run in runs}, key=lambda seed: (len(seed), seed))
    ids = ", ".join(run.run_id for run in runs) if len(runs) <= MANY_RUNS else f"ids: {CAPTIONS}"
    told = [
        f"From {_plural(len(runs), 'MLflow run')} ({ids})",
        f"{'commit' if len(commits) == 1 else 'commits'} {', '.join(commits)}",
        f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(seeds)}",
    ]
    if windows:
        spans = sorted({run.window for run in runs})
        told.append("statistics over epochs " + ", ".join(f"{first}–{last}" for first, last in spans))
    return f"{'; '.join(told)}."


def _plural(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


class Gallery:
    """A folder of figures: PNG for screens, PDF for print, and ``captions.json`` that says what each one is.

    ``captions.json`` is {name: {title, caption, files, runs, missing}}; of a figure that could not be drawn ``files``
    is empty and ``missing`` says why.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    @property
    def entries(self) -> dict[str, dict[str, Any]]:
        """What ``captions.json`` says; empty before the first figure."""
        file = self.folder / CAPTIONS
        found: dict[str, dict[str, Any]] = json.loads(file.read_text()) if file.is_file() else {}
        return found

    def clear(self) -> None:
        """Remove the figures that ``captions.json`` names, so that none outlives the runs it was drawn from."""
        self._forget(self.entries)

    def save(self, drawing: Drawing) -> list[Path]:
        """Write a figure's files and its caption.

        Returns:
            The PNG and the PDF.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        files = [self.folder / f"{drawing.name}.{kind}" for kind in ("png", "pdf")]
        with styled():
            for file, key in zip(files, ("Description", "Subject"), strict=True):
                about = {"Title": drawing.title, key: drawing.caption}
                drawing.figure.savefig(file, dpi=PNG_DPI, metadata=about)
        self._note(
            drawing.name,
            title=drawing.title,
            caption=drawing.caption,
            files=[file.name for file in files],
            runs=[run.run_id for run in drawing.runs],
            missing=list(drawing.missing),
        )
        return files

    def leave_out(self, undrawn: Undrawn) -> None:
        """Note why there is no such figure, and remove an earlier one."""
        self._forget([undrawn.name])
        self._note(undrawn.name, title=undrawn.title, caption="", files=[], runs=[], missing=[undrawn.sentence])

    def _note(self, name: str, **entry: object) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / CAPTIONS, self.entries | {name: entry})

    def _forget(self, names: Iterable[str]) -> None:
        entries = self.entries
        for name in list(names):
            for file in entries.pop(name, {}).get("files", ()):
                (self.folder / file).unlink(missing_ok=True)
        if (self.folder / CAPTIONS).is_file():
            write_json(self.folder / CAPTIONS, entries)
