"""Which runs a figure may show together: those that agree in all but base distribution and seed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from altub_exp.config.schema import NEUTRAL
from analysis.runs.records import BASES, Run

NO_INFLUENCE = (*NEUTRAL, "eval.ks_every")
"""Keys and groups that leave the AUROC as it is."""

PLACE = ("dataset", "category", "model", "backbone")
"""The tags that say of what a run is."""

Values = Mapping[str, str]


@dataclass(frozen=True)
class Line:
    """One base distribution in one setting.

    Attributes:
        base: its name.
        differs: what tells it from other lines of the same base, {key: value}; empty where there is no other.
        runs: one for each seed, in the seeds' order.
        doubles: further runs of the same seed, which are not drawn.
    """

    base: str
    differs: Values
    runs: tuple[Run, ...]
    doubles: tuple[Run, ...]


@dataclass(frozen=True)
class Setting:
    """What a plot is of: images, model, backbone and configuration.

    Attributes:
        place: dataset, category, model and backbone.
        differs: what tells it from other settings of the same place, {key: value}; empty where there is no other.
        short: as much of that as it takes to tell it from them.
        lines: its base distributions, in the order of the paper's Table 6.
    """

    place: tuple[str, ...]
    differs: Values
    short: Values
    lines: tuple[Line, ...]

    @property
    def runs(self) -> tuple[Run, ...]:
        """All that are drawn."""
        return tuple(run for line in self.lines for run in line.runs)

    @property
    def doubles(self) -> tuple[Run, ...]:
        """All that are not."""
        return tuple(run for line in self.lines for run in line.doubles)


def settings(runs: Iterable[Run]) -> list[Setting]:
    """Sort runs into settings, in the order in which these come first."""
    places: dict[tuple[str, ...], dict[tuple[tuple[str, str], ...], list[Run]]] = {}
    for run in runs:
        place = tuple(run.tags.get(tag, "?") for tag in PLACE)
        places.setdefault(place, {}).setdefault(_items(_configuration(run)), []).append(run)
    sorted_in: list[Setting] = []
    for place, found in places.items():
        apart = _differences(list(found))
        for differs, short, group in zip(apart, _shortened(apart), found.values(), strict=True):
            sorted_in.append(Setting(place, differs, short, _lines(group)))
    return sorted_in


def _lines(runs: Sequence[Run]) -> tuple[Line, ...]:
    found: dict[tuple[str, tuple[tuple[str, str], ...]], list[Run]] = {}
    for run in runs:
        found.setdefault((run.tags.get("altub", "?"), _items(_base(run))), []).append(run)
    lines: list[Line] = []
    for base in dict.fromkeys(base for base, _ in found):
        variants = [items for name, items in found if name == base]
        for items, differs in zip(variants, _differences(variants), strict=True):
            chosen, doubles = _one_of_each_seed(found[base, items])
            lines.append(Line(base, differs, chosen, doubles))
    return tuple(sorted(lines, key=lambda line: BASES.index(line.base) if line.base in BASES else len(BASES)))


def _one_of_each_seed(runs: Sequence[Run]) -> tuple[tuple[Run, ...], tuple[Run, ...]]:
    """Of each seed the run that got furthest, the earlier one if two did; and the others."""
    ranked = sorted(runs, key=lambda run: (run.state != "finished", -run.last_epoch, run.started, run.run_id))
    chosen: dict[str, Run] = {}
    doubles = [run for run in ranked if chosen.setdefault(run.tags.get("seed", "?"), run) is not run]
    return tuple(sorted(chosen.values(), key=lambda run: _number(run.tags.get("seed", "?")))), tuple(doubles)


def _number(seed: str) -> tuple[int, str]:
    return (int(seed), "") if seed.isdecimal() else (0, seed)


def _configuration(run: Run) -> dict[str, str]:
    """What can change the numbers, base distribution and seed aside; images and weights not by where they lie."""
    kept = {key: value for key, value in run.params.items() if not of(key, (*NO_INFLUENCE, "seed", "altub"))}
    if "backbone.weights" in kept:
        kept["backbone.weights"] = PurePath(kept["backbone.weights"]).name
    return kept | {"data": run.tags["data"][:8]} if "data" in run.tags else kept


def _base(run: Run) -> dict[str, str]:
    """The parameters of the base distribution that have an effect."""
    kept = {key: value for key, value in run.params.items() if of(key, ("altub",))}
    return {} if kept.get("altub.base") == "fixed" else kept


def of(key: str, groups: Iterable[str]) -> bool:
    """Whether a key is one of these, or of one of these groups."""
    return any(key == group or key.startswith(f"{group}.") for group in groups)


def _items(values: Values) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(values.items()))


def _differences(variants: Sequence[Iterable[tuple[str, str]]]) -> list[dict[str, str]]:
    """Of each variant the keys whose values are not the same in all.

    >>> _differences([[("steps", "1"), ("lr", "0.1")], [("steps", "2"), ("lr", "0.1")]])
    [{'steps': '1'}, {'steps': '2'}]
    """
    tables = [dict(items) for items in variants]
    keys = sorted({key for table in tables for key in table})
    apart = [key for key in keys if len({table.get(key) for table in tables}) > 1]
    return [{key: table.get(key, "—") for key in apart} for table in tables]


def _shortened(variants: Sequence[Values]) -> list[dict[str, str]]:
    """Without the keys that tell no more variants apart than those before them.

    >>> _shortened([{"eval.last_epoch": "2", "train.epochs": "2"}, {"eval.last_epoch": "3", "train.epochs": "3"}])
    [{'train.epochs': '2'}, {'train.epochs': '3'}]
    """
    keys = sorted({key for one in variants for key in one}, key=lambda key: (key.startswith("eval."), key))
    kept: list[str] = []
    for key in keys:
        before, after = (
            len({tuple(one[name] for name in names) for one in variants}) for names in (kept, [*kept, key])
        )
        if after > before:
            kept.append(key)
    return [{key: one[key] for key in kept} for one in variants]
