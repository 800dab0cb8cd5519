"""The paper's values: its tables as they are printed, in percent (Table 7: milliseconds), from ``analysis/paper/``."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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
"""The methods of Tables 1 and 3 that this program computes: model and base distribution. All others are only quoted."""


@dataclass(frozen=True)
class Key:
    """What a cell of a table stands for; empty where a table does not tell it apart."""

    category: str = ""
    model: str = ""
    backbone: str = ""
    altub: str = ""
    task: str = ""


@dataclass(frozen=True)
class Value:
    """A cell of the paper, in percent unless said otherwise.

    Attributes:
        mean: over epochs; in Table 7 milliseconds.
        std: over epochs.
        best: during the training.
        interval: half of the width of the 95 % confidence interval (Table 5).
        text: what is printed instead of numbers.
        decimals: of mean or best, as printed.
    """

    mean: float | None = None
    std: float | None = None
    best: float | None = None
    interval: float | None = None
    text: str = ""
    decimals: int = 1


@cache
def rows(table: str) -> tuple[Mapping[str, str], ...]:
    """The lines of a table's CSV."""
    with (FOLDER / f"{table}.csv").open(encoding="utf-8", newline="") as file:
        return tuple(csv.DictReader(file))


@cache
def values(table: str) -> Mapping[Key, Value]:
    """All cells of a table (``table1`` … ``table7``, ``table_a1``) in the order of the paper."""
    read = {"table1": _bests, "table3": _bests, "table5": _normality, "table7": _times}.get(table, _window)
    return {key: value for row in rows(table) for key, value in read(row, CONSTANT.get(table, {}))}


CONSTANT: Mapping[str, Mapping[str, str]] = {
    "table3": {"backbone": "wrn50"},
    "table4": {"model": "fastflow", "backbone": "wrn50", "task": "segmentation"},
    "table5": {"category": "capsule", "model": "fastflow"},
    "table6": {"category": "capsule", "model": "fastflow", "task": "segmentation"},
    "table7": {"category": "capsule", "model": "fastflow"},
    "table_a1": {"model": "fastflow", "task": "segmentation"},
}
"""What all cells of a table share, which its CSV does not repeat."""


def _key(row: Mapping[str, str], constant: Mapping[str, str]) -> Key:
    altub = "alternating" if row["base"] == "altub" else row["base"]
    told = {name: row[name] for name in ("category", "model", "backbone", "task") if name in row}
    return Key(**{"altub": altub, **told, **constant})


Cells = Iterator[tuple[Key, Value]]


def _bests(row: Mapping[str, str], constant: Mapping[str, str]) -> Cells:
    model, altub = MEASURED.get(row["model"], (row["model"], ""))
    backbone = constant.get("backbone", "") if altub else ""
    for task in ("detection", "segmentation"):
        text = row.get(f"{task}_auroc")
        if text is not None:
            decimals = 0 if text.isdecimal() and text != "100" else 1
            value = Value(best=float(text) if text else None, decimals=decimals)
            yield Key(row["category"], model, backbone, altub, task), value


def _window(row: Mapping[str, str], constant: Mapping[str, str]) -> Cells:
    try:
        value = Value(float(row["mean"]), float(row["std"]))
    except ValueError:
        value = Value(text=row["mean"])
    yield _key(row, constant), value


def _normality(row: Mapping[str, str], constant: Mapping[str, str]) -> Cells:
    yield _key(row, constant), Value(float(row["ks_percent"]), interval=float(row["ci95"]), decimals=2)


def _times(row: Mapping[str, str], constant: Mapping[str, str]) -> Cells:
    yield _key(row, constant), Value(float(row["ms_per_image"]), decimals=2)


@cache
def categories(table: str) -> tuple[str, ...]:
    """The categories of a table in its order, without the overall row."""
    return tuple(dict.fromkeys(key.category for key in values(table) if key.category != OVERALL))


@dataclass(frozen=True)
class Choice:
    """The backbones that the paper can have chosen for a category in Tables 1 and 2.

    Attributes:
        backbones: those whose cells of Table A1 are those of Table 2; several where that is ambiguous.
        differs: cells (base distribution) in which the two tables contradict each other.
    """

    backbones: tuple[str, ...]
    differs: tuple[str, ...]


@cache
def choice(category: str) -> Choice:
    """Which backbone FastFlow's cells of a category in Table 2 are of: the one whose cells in Table A1 are the same."""
    agreeing: dict[str, tuple[int, tuple[str, ...]]] = {}
    for backbone in BACKBONES:
        equal, differs = 0, []
        for altub in ("none", "alternating"):
            ours = values("table2")[Key(category, "fastflow", "", altub, "segmentation")]
            full = values("table_a1")[Key(category, "fastflow", backbone, altub, "segmentation")]
            equal += (ours.mean == full.mean) + (ours.std == full.std)
            differs += [altub] if ours != full else []
        agreeing[backbone] = equal, tuple(differs)
    most = max(equal for equal, _ in agreeing.values())
    chosen = tuple(backbone for backbone, (equal, _) in agreeing.items() if equal == most)
    return Choice(chosen, agreeing[chosen[0]][1])
