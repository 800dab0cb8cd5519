"""The values of the paper's tables as they are printed, in percent (Table 7: milliseconds), from the CSV files here."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent
BACKBONES = ("r18", "wrn50", "deit", "cait")
OVERALL = "overall"

MEASURED = {
    "fastflow": ("fastflow", "none"),
    "fastflow_altub": ("fastflow", "alternating"),
    "cflow": ("cflow", "none"),
    "cflow_altub": ("cflow", "alternating"),
}
"""Model and base distribution of the methods in Tables 1 and 3 that this program computes; others are only quoted."""


@dataclass(frozen=True)
class Key:
    """The experiment that a cell of a table is about; a field is empty if the table does not distinguish by it."""

    category: str = ""
    model: str = ""
    backbone: str = ""
    altub: str = ""
    task: str = ""


@dataclass(frozen=True)
class Value:
    """A cell of the paper, in percent unless another unit is named.

    Attributes:
        mean: mean over epochs; in Table 7 milliseconds.
        std: standard deviation over epochs.
        best: maximum during the training.
        interval: half the width of the 95 % confidence interval (Table 5).
        text: a text that is printed instead of numbers.
        decimals: decimals of mean or best, as printed.
    """

    mean: float | None = None
    std: float | None = None
    best: float | None = None
    interval: float | None = None
    text: str = ""
    decimals: int = 1


@cache
def values(table: str) -> Mapping[Key, Value]:
    """Return all cells of a table (``table1`` … ``table7``, ``table_a1``) in the order of the paper."""
    read = {"table1": _bests, "table3": _bests, "table5": _normality, "table7": _times}.get(table, _window)
    with (FOLDER / f"{table}.csv").open(encoding="utf-8", newline="") as file:
        return dict(cell for row in csv.DictReader(file) for cell in read(row, CONSTANT.get(table, {})))


def value(table: str, key: Key) -> Value:
    """Return the cell of an experiment; a table that does not distinguish by backbone has one for all.

    Raises:
        KeyError: the table has no such cell.
    """
    cells = values(table)
    return cells.get(key) or cells[replace(key, backbone="")]


CONSTANT: Mapping[str, Mapping[str, str]] = {
    "table3": {"backbone": "wrn50"},
    "table4": {"model": "fastflow", "backbone": "wrn50", "task": "segmentation"},
    "table5": {"category": "capsule", "model": "fastflow"},
    "table6": {"category": "capsule", "model": "fastflow", "task": "segmentation"},
    "table7": {"category": "capsule", "model": "fastflow"},
    "table_a1": {"model": "fastflow", "task": "segmentation"},
}
"""The fields that all cells of a table share, which its CSV does not repeat."""


def _key(row: Mapping[str, str], constant: Mapping[str, str]) -> Key:
    altub = "alternating" if row["base"] == "altub" else row["base"]
    fields = {name: row[name] for name in ("category", "model", "backbone", "task") if name in row}
    return Key(**{"altub": altub, **fields, **constant})


Cells = Iterator[tuple[Key, Value]]


def _bests(row: Mapping[str, str], constant: Mapping[str, str]) -> Cells:
    model, altub = MEASURED.get(row["model"], (row["model"], ""))
    backbone = constant.get("backbone", "") if altub else ""
    for task in ("detection", "segmentation"):
        text = row.get(f"{task}_auroc")
        if text is not None:
            decimals = 0 if text.isdecimal() and text != "100" else 1
            best = float(text) if text else None
            yield Key(row["category"], model, backbone, altub, task), Value(best=best, decimals=decimals)


def _window(row: Mapping[str, str], constant: Mapping[str, str]) -> Cells:
    try:
        yield _key(row, constant), Value(float(row["mean"]), float(row["std"]))
    except ValueError:
        yield _key(row, constant), Value(text=row["mean"])


def _normality(row: Mapping[str, str], constant: Mapping[str, str]) -> Cells:
    yield _key(row, constant), Value(float(row["ks_percent"]), interval=float(row["ci95"]), decimals=2)


def _times(row: Mapping[str, str], constant: Mapping[str, str]) -> Cells:
    yield _key(row, constant), Value(float(row["ms_per_image"]), decimals=2)


@cache
def categories(table: str) -> tuple[str, ...]:
    """Return the categories of a table in its order, without the overall row."""
    return tuple(dict.fromkeys(key.category for key in values(table) if key.category != OVERALL))


@dataclass(frozen=True)
class BackboneChoice:
    """The backbones that the paper can have chosen for a category in Tables 1 and 2.

    Attributes:
        backbones: those whose cells of Table A1 are those of Table 2; several if that is ambiguous.
        differs: cells (base distribution) in which the two tables contradict each other.
    """

    backbones: tuple[str, ...]
    differs: tuple[str, ...]


@cache
def backbone_choice(category: str) -> BackboneChoice:
    """Return the backbone of FastFlow's cells of a category in Table 2: the one with the same cells in Table A1.

    The overall row has none.
    """
    if category == OVERALL:
        return BackboneChoice((), ())

    def cells(table: str, backbone: str) -> dict[str, Value]:
        keys = [Key(category, "fastflow", backbone, altub, "segmentation") for altub in ("none", "alternating")]
        return {key.altub: values(table)[key] for key in keys}

    chosen = cells("table2", "")
    full = {backbone: cells("table_a1", backbone) for backbone in BACKBONES}
    equal = {
        backbone: sum((cell.mean == of[altub].mean) + (cell.std == of[altub].std) for altub, cell in chosen.items())
        for backbone, of in full.items()
    }
    backbones = tuple(backbone for backbone in BACKBONES if equal[backbone] == max(equal.values()))
    return BackboneChoice(backbones, tuple(altub for altub in chosen if chosen[altub] != full[backbones[0]][altub]))
