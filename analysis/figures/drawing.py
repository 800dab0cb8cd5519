"""A figure with its caption and the origin of its numbers, and the folder that keeps it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from matplotlib.figure import Figure

from altub_exp.machine.disk import write_json
from analysis.figures.style import PNG_DPI, styled
from analysis.runs.provenance import commit
from analysis.runs.run import Run

T = TypeVar("T")

LONGEST_REASON = 300
"""Characters of an error that a sentence gives."""

CAPTIONS = "captions.json"
MANY_RUNS = 8
"""The ids of at most this many runs are printed in a caption; ``captions.json`` lists all of them."""


@dataclass(frozen=True)
class Drawing:
    """One figure.

    Attributes:
        name: stem of its files.
        title: one line.
        text: its content and its runs, in sentences.
        figure: to be saved.
        runs: the runs whose numbers it shows.
        missing: the contents that it lacks, one sentence each; the caption and the figure list them too.
    """

    name: str
    title: str
    text: str
    figure: Figure
    runs: tuple[Run, ...]
    missing: tuple[str, ...] = ()

    @property
    def caption(self) -> str:
        """The text, and what the figure lacks."""
        return f"{self.text} Not complete: {' '.join(self.missing)}" if self.missing else self.text


@dataclass(frozen=True)
class Undrawn:
    """A figure that is not drawn.

    Attributes:
        name: stem of the files that it would have.
        title: one line.
        sentence: the runs that are missing, and the command that computes them; or the error.
        failed: True if runs are there and an error has occurred.
    """

    name: str
    title: str
    sentence: str
    failed: bool = False


@dataclass(frozen=True)
class Sketch:
    """A figure that is still to be drawn.

    Attributes:
        name: stem of its files.
        title: one line.
        draw: the function that draws it.
    """

    name: str
    title: str
    draw: Callable[[], Drawing | Undrawn]

    def use(self, keep: Callable[[Drawing], T]) -> T | Undrawn:
        """Draw the figure and keep it; an error that concerns this figure only becomes an :class:`Undrawn`.

        Raises:
            OSError: no figure can be kept, since the disk is full or cannot be written.
        """
        try:
            drawing = self.draw()
            return drawing if isinstance(drawing, Undrawn) else keep(drawing)
        except Exception as error:  # whatever the numbers of its runs, or matplotlib, raise
            if isinstance(error, OSError) and error.errno is not None:
                raise
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:LONGEST_REASON]
            return Undrawn(self.name, self.title, f"{self.title} is not drawn ({reason}).", failed=True)


def origin(runs: Sequence[Run], windows: bool = True) -> str:
    """Return runs, commits, seeds and epochs of the statistics, as a sentence for a caption."""
    commits = sorted({commit(run) for run in runs})
    seeds = sorted({run.seed for run in runs}, key=lambda seed: (len(seed), seed))
    ids = ", ".join(run.run_id for run in runs) if len(runs) <= MANY_RUNS else f"ids: {CAPTIONS}"
    parts = [
        f"From {_plural(len(runs), 'MLflow run')} ({ids})",
        f"{'commit' if len(commits) == 1 else 'commits'} {', '.join(commits)}",
        f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(seeds)}",
    ]
    if windows:
        spans = sorted({run.window for run in runs})
        parts.append("statistics over epochs " + ", ".join(f"{first}–{last}" for first, last in spans))
    return f"{'; '.join(parts)}."


def _plural(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


class FigureFolder:
    """A folder of figures: PNG for screens, PDF for print, and ``captions.json`` with the caption of each.

    ``captions.json`` is {name: {title, caption, files, runs, missing}}; if a figure could not be drawn, ``files``
    is empty, and ``missing`` gives the reason.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    @property
    def entries(self) -> dict[str, dict[str, Any]]:
        """The content of ``captions.json``; empty before the first figure."""
        file = self.folder / CAPTIONS
        entries: dict[str, dict[str, Any]] = json.loads(file.read_text()) if file.is_file() else {}
        return entries

    def clear(self) -> None:
        """Remove the figures that ``captions.json`` names, so that none outlives the runs it was drawn from."""
        self._forget(self.entries)

    def save(self, drawing: Drawing) -> list[Path]:
        """Write a figure's files and its caption, and return the paths of the PNG and the PDF."""
        self.folder.mkdir(parents=True, exist_ok=True)
        files = [self.folder / f"{drawing.name}.{kind}" for kind in ("png", "pdf")]
        with styled():
            for file, key in zip(files, ("Description", "Subject"), strict=True):
                metadata = {"Title": drawing.title, key: drawing.caption}
                drawing.figure.savefig(file, dpi=PNG_DPI, metadata=metadata)
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
        """Record the reason why a figure could not be drawn, and remove an earlier one."""
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
