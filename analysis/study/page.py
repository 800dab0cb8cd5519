"""The study's page: docs/study.md and its figures, from the records by way of an MLflow store."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from rich.progress import track

from altub_exp.machine.disk import write_text
from altub_exp.machine.terminal import console
from altub_exp.runs.folder import run_folders
from altub_exp.tracking.store import prepare_store
from altub_exp.tracking.sweep_run import SweepRuns
from altub_exp.tracking.sync import sync_run
from altub_exp.tracking.tracker import Tracker
from analysis.figures.drawing import Drawing, Undrawn
from analysis.figures.reproductions import fig1, fig3
from analysis.figures.style import styled
from analysis.runs.artifacts import Artifacts
from analysis.runs.records import Records, read, tracking_uri
from analysis.study import figures, sheets
from analysis.study.answers import Answers, answers
from analysis.study.controls import directions
from analysis.study.foretelling import is_useful
from analysis.study.protocol import CHANGES, INDICATORS
from analysis.study.records import digest, exist, unpack
from analysis.study.table6 import findings

PAGE, IMAGES, PREFIX = "study.md", "images", "study-"
"""The page, the folder of its figures beside it, and the beginning of their names."""

PNG_DPI = 130

DEPTH_SWEEP = "study_f"

ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


def store_of(records: Path, work: Path) -> str:
    """Return the tracking URI of a store that holds the recorded runs; it is made once for the same records.

    Args:
        records: folder of the records.
        work: folder in which a folder for the restored runs and their store is made.

    Raises:
        UserError: the records are damaged, or the store cannot be written.
    """
    folder = work / digest(records)
    runs_dir, uri = folder / "runs", f"sqlite:///{(folder / 'mlflow.db').absolute()}"
    unpack(runs_dir, records)
    prepare_store(uri)
    sweeps = SweepRuns(runs_dir, uri, None)
    trackers = [tracker for run in run_folders(runs_dir) if (tracker := Tracker.from_record(run, uri))]
    missing = [tracker.folder for tracker in trackers if not tracker.complete()]
    for run in track(missing, "Sending the runs to MLflow", console=console, disable=not console.is_terminal):
        sweeps.prepare(run)
        sync_run(run, uri)
    for sweep, ended in sweeps.due():
        sweep.close(ended)
    return tracking_uri(uri)


def write_page(docs: Path, records: Path, work: Path) -> list[Path]:
    """Write the page and its figures; without records the page says so.

    Args:
        docs: folder of the page.
        records: folder of the records.
        work: folder for the restored runs and their store.

    Returns:
        The written files, the page first.

    Raises:
        UserError: the records are damaged, or the store cannot be written.
    """
    page, images = docs / PAGE, docs / IMAGES
    if not exist(records):
        write_text(page, text(None, [], {}))
        return [page]
    uri = store_of(records, work)
    recorded = read(uri)
    found = answers(recorded)
    images.mkdir(parents=True, exist_ok=True)
    for old in images.glob(f"{PREFIX}*.png"):
        old.unlink()
    drawn = list(drawings(found, recorded, Artifacts(uri)))
    files = []
    for drawing in drawn:
        if isinstance(drawing, Drawing):
            file = images / f"{PREFIX}{drawing.name}.png"
            with styled():
                drawing.figure.savefig(file, dpi=PNG_DPI, metadata={"Software": None, "Title": drawing.title})
            files.append(file)
    # MLflow draws its ids anew in every store
    names = {run.run_id: run.tags["run_key"] for run in recorded.runs}
    write_text(page, text(found, drawn, names))
    return [page, *files]


def drawings(found: Answers, recorded: Records, artifacts: Artifacts) -> Iterator[Drawing | Undrawn]:
    """Draw the study's figures, and those of the paper on this data."""
    yield figures.curves(found.grid)
    yield figures.effects(found.primary, found.grid)
    yield figures.replacements(found.replacements)
    yield figures.indicators(found.grid)
    subject = "FastFlow, EfficientNet-Lite0, MVTec AD screw, norm trainable, 100 epochs"
    latents = fig1(recorded.runs, artifacts, DEPTH_SWEEP, f"Fig. 1: latents of normal images, {subject}")
    depth = fig3(recorded.runs, artifacts, DEPTH_SWEEP, f"Fig. 3: depth of the flow, {subject}")
    yield replace(latents, name="fig1")
    yield replace(depth, name="fig3")


def text(found: Answers | None, drawn: Sequence[Drawing | Undrawn], names: Mapping[str, str]) -> str:
    """Return the page as Markdown.

    Args:
        found: the numbers; None without records.
        drawn: the figures.
        names: names of the runs by MLflow's ids.
    """

    def named(sentence: str) -> str:
        for run_id, name in names.items():
            sentence = sentence.replace(run_id, name)
        return sentence

    useful = []
    if found is not None:
        useful = [
            name
            for metric, name in INDICATORS.items()
            if is_useful([of_set for of_set in found.correlations if of_set.indicator == metric])
        ]
    rendered = ENVIRONMENT.get_template("page.md.j2").render(
        found=found,
        figures={drawing.name: drawing for drawing in drawn},
        images=f"{IMAGES}/{PREFIX}",
        drawn={drawing.name for drawing in drawn if isinstance(drawing, Drawing)},
        useful=useful,
        directions=directions,
        findings=findings,
        changes=CHANGES,
        sheets=sheets,
        named=named,
        zip=zip,
    )
    return re.sub(r"\n{3,}", "\n\n", rendered)
