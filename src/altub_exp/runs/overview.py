"""An overview of runs: one row per run, read from its folder, and a table of the rows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from rich import box
from rich.table import Table
from rich.text import Text

from altub_exp.errors import UserError
from altub_exp.machine.terminal import duration
from altub_exp.metrics.stability import END_METRICS
from altub_exp.runs.folder import RunFolder
from altub_exp.runs.journal import now_ms
from altub_exp.runs.states import RunState

__all__ = ["DAMAGED", "STATES", "Row", "counts", "read", "table"]

DAMAGED = "damaged"
STYLES = {"running": "cyan", "finished": "green", "failed": "red", "crashed": "yellow", DAMAGED: "bold red"}
STATES = tuple(STYLES)
"""The values of :attr:`Row.state`, in the order of :func:`counts`."""

RECENT = 40
"""Epochs whose mean duration predicts the next ones: whole cycles of evaluations, statistics and freezing."""

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml is ten times as fast

T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """One run. A value that is unknown, not reached yet or damaged is None.

    Attributes:
        folder: path of the run's folder.
        backbone: the group's name, or timm's.
        sweep: the sweep that the run belongs to.
        state: one of :data:`STATES`.
        epoch: the last epoch in the journal, from 1; 0 before the first.
        epochs: number of epochs of the training.
        pixel_auroc: pixel AUROC of the last evaluated epoch, a fraction.
        image_auroc: image AUROC of the last evaluated epoch, a fraction.
        end_metrics: metrics after the last epoch, see :data:`~altub_exp.metrics.stability.END_METRICS`.
        seconds_left: estimated seconds until a running run ends.
        started: Unix milliseconds, like ``ended``.
        reason: the reason why the run failed or crashed.
        damage: the errors of files that cannot be read.
    """

    folder: str
    dataset: str | None
    category: str | None
    model: str | None
    backbone: str | None
    altub: str | None
    seed: int | None
    sweep: str | None
    state: str
    epoch: int | None
    epochs: int | None
    pixel_auroc: float | None
    image_auroc: float | None
    end_metrics: Mapping[str, float]
    seconds_left: float | None
    host: str | None
    started: int | None
    ended: int | None
    reason: str | None
    damage: str | None


def read(folder: RunFolder) -> Row:
    """Read the row of a run from its files; damaged files are reported in ``damage``."""
    damage: list[str] = []

    def readable(content: Callable[[], T]) -> T | None:
        try:
            return content()
        except (UserError, OSError) as error:
            damage.append(str(error))
            return None

    status = readable(folder.status) or {}
    config = readable(lambda: _configuration(folder.config)) or {}
    journal = readable(folder.journal.rows)
    state = status.get("state")
    if state not in tuple(RunState):
        if not damage:
            damage.append(f"{folder.status_file} names no state.")
        state = DAMAGED
    model, key = _at(config, "model.name", str), _at(config, "backbone.key", str)
    named_by_key = folder.path.absolute().parent.parent.name == f"{model}-{key}"  # or by timm's, see run_path
    epochs = _at(config, "train.epochs", int)
    epoch = None
    if journal is not None:
        epoch = journal[-1]["epoch"] if journal else 0
    return Row(
        folder=str(folder.path),
        dataset=_at(config, "dataset.name", str),
        category=_at(config, "dataset.category", str),
        model=model,
        backbone=key if named_by_key else _at(config, "backbone.name", str),
        altub=_at(config, "altub.name", str),
        seed=_at(config, "seed", int),
        sweep=_at(config, "tracking.sweep", str),
        state=state,
        epoch=epoch,
        epochs=epochs,
        pixel_auroc=_last(journal or (), "pixel_auroc"),
        image_auroc=_last(journal or (), "image_auroc"),
        end_metrics={
            name: value for name in END_METRICS if (value := _at(status, f"summary.{name}", float)) is not None
        },
        seconds_left=_left(journal, epochs) if state == RunState.running and journal and epochs else None,
        host=_at(status, "host", str),
        started=_at(status, "started", int),
        ended=_at(status, "ended", int),
        reason=_at(status, "reason", str),
        damage=" ".join(damage) or None,
    )


def _configuration(file: Path) -> Mapping[str, Any]:
    # without the schema and its types, so that runs of other versions of the program have a row too
    try:
        config = yaml.load(file.read_bytes(), LOADER)
    except yaml.YAMLError:
        config = None
    if not isinstance(config, dict):
        raise UserError(f"{file} is damaged.")
    return config


def _at(node: Any, key: str, kind: type[T]) -> T | None:
    """Return the value at a dotted key if it exists and has this type, otherwise None."""
    for part in key.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node if isinstance(node, kind) else None


def _last(journal: Sequence[Mapping[str, Any]], metric: str) -> float | None:
    value = next((row[metric] for row in reversed(journal) if metric in row), None)
    return value if isinstance(value, float) and math.isfinite(value) else None


def _left(journal: Sequence[Mapping[str, Any]], epochs: int) -> float | None:
    """Estimate the seconds until the last epoch ends."""
    seconds = [row["seconds"] for row in journal[-RECENT:] if isinstance(row.get("seconds"), int | float)]
    if not seconds:
        return None
    last = journal[-1]
    since = (now_ms() - last["time"]) / 1000 if isinstance(last.get("time"), int) else 0.0
    return float(max(0.0, sum(seconds) / len(seconds) * (epochs - last["epoch"]) - since))


def table(rows: Sequence[Row]) -> Table:
    """Make a table with one line per run; AUROC in percent."""
    columns = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for name in ("run", "model", "base", "seed", "state", "epoch", "pixel", "image", "left", "host", "why"):
        number = name in ("seed", "epoch", "pixel", "image", "left")
        columns.add_column(
            name, justify="right" if number else "left", no_wrap=number or name == "state", overflow="fold"
        )
    for row in rows:
        absent = "—" if row.state == RunState.finished else ""
        columns.add_row(
            _joined("/", row.dataset, row.category) or row.folder,
            _joined("-", row.model, row.backbone),
            row.altub,
            _shown(row.seed),
            Text(row.state, style=STYLES[row.state]),
            f"{_shown(row.epoch)}/{_shown(row.epochs)}",
            *(absent if auroc is None else f"{100 * auroc:.2f}" for auroc in (row.pixel_auroc, row.image_auroc)),
            "" if row.seconds_left is None else duration(row.seconds_left),
            row.host,
            " ".join(_joined("; ", row.reason, row.damage).split()),
        )
    return columns


def counts(rows: Sequence[Row]) -> str:
    """Return one line with the number of runs in each state."""
    number = Counter(row.state for row in rows)
    states = ", ".join(f"{number[state]} {state}" for state in STATES if number[state])
    return f"{len(rows)} {'run' if len(rows) == 1 else 'runs'}: {states}"


def _joined(between: str, *parts: str | None) -> str:
    return between.join(part for part in parts if part)


def _shown(value: int | None) -> str:
    return "?" if value is None else str(value)
