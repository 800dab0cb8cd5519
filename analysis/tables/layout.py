"""The paper's layout: ours, the paper's and the difference below one another, and the CSV's rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from analysis.paper.cells import QUOTED, Cell
from analysis.paper.values import Key, Value
from analysis.tables.table import Datum, Line, Text, difference, number

LABELS = {
    "overall": "Overall",
    "metal_nut": "Metal nut",
    "r18": "R18",
    "wrn50": "WRN50",
    "wrn50_tv": "WRN50 (torchvision)",
    "deit": "DeiT",
    "cait": "CaiT",
    "none": "none",
    "stereotype": "stereotype",
    "cnn": "CNN",
    "alternating": "AltUB",
}


def label(name: str) -> str:
    """How a name of the program is written in a table.

    >>> label("carpet"), label("cait"), label("metal_nut")
    ('Carpet', 'CaiT', 'Metal nut')
    """
    return LABELS.get(name, name.replace("_", " ").capitalize())


def datum(cell: Cell, unit: str = "percent", paper_backbone: str = "") -> Datum:
    """A row of the CSV; None where there is nothing."""
    paper = cell.paper or Value()
    key = cell.key

    def rounded(value: float | None) -> float | None:
        return None if value is None or math.isnan(value) else round(value, 6)

    return {
        "category": key.category,
        "model": key.model,
        "backbone": key.backbone,
        "altub": key.altub,
        "task": key.task,
        "mean": rounded(cell.mean),
        "std": rounded(cell.std),
        "best": rounded(cell.best),
        "best_epoch": cell.best_epoch,
        "ci95": rounded(cell.interval),
        "best_ci95": rounded(cell.best_interval),
        "seeds": cell.seeds,
        "state": cell.state,
        "run_ids": ";".join(run.run_id for run in cell.runs),
        "paper_mean": paper.mean,
        "paper_std": paper.std,
        "paper_best": paper.best,
        "paper_ci95": paper.interval,
        "paper_text": paper.text,
        "paper_backbone": paper_backbone,
        "cells": "{}/{}".format(*cell.parts) if cell.parts else "",
        "unit": unit,
        "git_commit": ";".join(dict.fromkeys(run.tags.get("git_commit", "") for run in cell.runs)),
        "git_dirty": ";".join(dict.fromkeys(run.tags.get("git_dirty", "") for run in cell.runs)),
        "notes": " ".join(cell.notes),
    }


@dataclass(frozen=True)
class Place:
    """One column of a row of the table.

    Attributes:
        cell: what stands there; None leaves the place empty.
        pair: the cell that it competes with for bold letters.
        notes: footnotes to the paper's value.
    """

    cell: Cell | None = None
    pair: Cell | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Style:
    """How cells of a table are written.

    Attributes:
        ours: a cell's value.
        paper: the paper's.
        difference: ours minus the paper's.
        order: what the better of a pair is the larger in; None for a value that is not there.
    """

    ours: Callable[[Cell], str]
    paper: Callable[[Value], str]
    difference: Callable[[Cell, Value], str]
    order: Callable[[Cell | Value], tuple[float, ...] | None]


def _window(one: Cell | Value) -> str:
    return f"({number(one.mean, 1)}, {number(one.std, 2)})"


WINDOW = Style(
    ours=_window,
    paper=_window,
    difference=lambda cell, paper: f"({difference(cell.mean, paper.mean, 1)}, {difference(cell.std, paper.std, 2)})",
    order=lambda one: None if one.mean is None or one.std is None else (round(one.mean, 1), -round(one.std, 2)),
)
"""(mean, standard deviation) in percent, the larger mean is better, of equal ones the smaller deviation."""

BEST = Style(
    ours=lambda cell: number(cell.best, 1),
    paper=lambda paper: number(paper.best, paper.decimals),
    difference=lambda cell, paper: difference(cell.best, paper.best, 1),
    order=lambda one: None if one.best is None else (round(one.best, 1),),
)
"""The best in percent."""

NORMALITY = Style(
    ours=lambda cell: f"{number(cell.mean, 2)} ± {number(cell.interval, 2)}",
    paper=lambda paper: f"{number(paper.mean, 2)} ± {number(paper.interval, 2)}",
    difference=lambda cell, paper: difference(cell.mean, paper.mean, 2),
    order=lambda one: None if one.mean is None else (-round(one.mean, 2),),
)
"""Mean ± 95 % confidence interval in percent, smaller is better."""

TIME = Style(
    ours=lambda cell: number(cell.mean, 2),
    paper=lambda paper: number(paper.mean, 2),
    difference=lambda cell, paper: difference(cell.mean, paper.mean, 2),
    order=lambda one: None if one.mean is None else (-round(one.mean, 2),),
)
"""Milliseconds, smaller is better."""


def _better(one: Cell | Value | None, other: Cell | Value | None, style: Style) -> bool:
    if one is None or other is None:
        return False
    ours, theirs = style.order(one), style.order(other)
    return ours is not None and theirs is not None and ours > theirs


def _count(cell: Cell) -> str:
    return f" ({cell.parts[0]} of {cell.parts[1]})" if cell.parts and 0 < cell.parts[0] < cell.parts[1] else ""


def block(
    name: str,
    places: Sequence[Place],
    style: Style,
    *,
    epochs: bool,
    backbones: tuple[str, str] | None = None,
    seeds: bool = False,
) -> list[Line]:
    """The lines of one row of the paper's table.

    Args:
        name: of the row.
        places: its columns.
        style: how values are written.
        epochs: whether best and best epoch get a line.
        backbones: ours and the paper's, where a column says them.
        seeds: whether the number of seeds gets a line.
    """

    def line(first: str, kind: str, backbone: str, texts: Iterable[Text]) -> Line:
        return [Text(first), Text(kind), *([Text(backbone)] if backbones else []), *texts]

    def ours(place: Place) -> Text:
        cell = place.cell
        if cell is None or cell.state == QUOTED:
            return Text()
        has = cell.mean is not None or cell.best is not None
        pair = place.pair if place.pair is not None and place.pair.state != QUOTED else None
        text = style.ours(cell) + _count(cell) if has else cell.state
        return Text(text, has and _better(cell, pair, style), cell.notes)

    def paper(place: Place) -> Text:
        value = place.cell.paper if place.cell else None
        if value is None:
            return Text()
        pair = place.pair.paper if place.pair else None
        return Text(value.text.capitalize() or style.paper(value), _better(value, pair, style), place.notes)

    def gap(place: Place) -> Text:
        cell = place.cell
        if cell is None or cell.state == QUOTED:
            return Text()
        comparable = cell.paper is not None and not cell.paper.text and not _count(cell) and cell.complete
        return Text(style.difference(cell, cell.paper) if comparable and cell.paper else "—")

    def best(place: Place) -> Text:
        cell = place.cell
        if cell is None or cell.best is None:
            return Text("" if cell is None or cell.state == QUOTED else "—")
        epoch = f" ({cell.best_epoch})" if cell.best_epoch is not None else ""
        return Text((epoch.strip(" ()") or "—") if style is BEST else number(cell.best, 1) + epoch)

    def several(place: Place) -> Text:
        cell = place.cell
        if cell is None or not cell.complete:
            return Text()
        width = cell.best_interval if style is BEST else cell.interval
        return Text(f"{cell.seeds}" + (f", ± {width:.2f}" if width is not None and cell.seeds > 1 else ""))

    own, their = backbones or ("", "")
    lines = [line(name, "ours", own, map(ours, places))]
    if epochs:
        lines.append(line("", "epoch" if style is BEST else "best (epoch)", "", map(best, places)))
    if seeds:
        lines.append(line("", "seeds, 95 % CI", "", map(several, places)))
    lines.append(line("", "paper", their, map(paper, places)))
    lines.append(line("", "difference", "", map(gap, places)))
    return lines


def quoted(key: Key, paper: Value) -> Cell:
    """A cell that only the paper has."""
    return Cell(key, QUOTED, paper=paper)
