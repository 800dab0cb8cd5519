"""The conditions of the experiment: runs that agree in all but base distribution and seed, which figures compare."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import NamedTuple

from altub_exp.config.schema import LATER, NEUTRAL
from analysis.runs.records import base_order
from analysis.runs.run import Run

NO_INFLUENCE = (*NEUTRAL, "eval.ks_every", "eval.fitted")
"""Keys and groups that leave the AUROC as it is."""

Values = Mapping[str, str]
Items = tuple[tuple[str, str], ...]


class Subject(NamedTuple):
    """The images and the detector of a run, by its tags."""

    dataset: str
    category: str
    model: str
    backbone: str

    @classmethod
    def of(cls, run: Run) -> Subject:
        """Return the subject of a run; ``?`` for what it has not recorded."""
        return cls(*(run.tags.get(tag, "?") for tag in cls._fields))


@dataclass(frozen=True)
class Variant:
    """One base distribution under one condition.

    Attributes:
        base: its name.
        differences: {key: value} by which it differs from other variants of the same base; empty if there is no other.
        runs: one for each seed, in the seeds' order.
        duplicates: further runs of the same seeds, which are not drawn.
    """

    base: str
    differences: Values
    runs: tuple[Run, ...]
    duplicates: tuple[Run, ...] = ()

    def complete(self, metric: str) -> list[Run]:
        """Return the finished runs that have a metric in all epochs of their window."""
        return [run for run in self.runs if run.state == "finished" and not run.missing(metric)]

    def setting(self, condition: Condition) -> str:
        """Return what distinguishes it from other variants of its subject, such as ``model.steps=4``."""
        return " ".join(f"{key}={value}" for key, value in {**condition.label, **self.differences}.items())


@dataclass(frozen=True)
class Condition:
    """Images, model, backbone and configuration that all runs of a plot share.

    Attributes:
        subject: images, model and backbone.
        differences: {key: value} by which it differs from other conditions of the same subject; empty if there is no
            other.
        label: as few of the differences as distinguish it from them.
        variants: its base distributions, in the order of the paper's Table 6.
    """

    subject: Subject
    differences: Values
    label: Values
    variants: tuple[Variant, ...]

    @property
    def runs(self) -> tuple[Run, ...]:
        """All runs that are drawn."""
        return tuple(run for variant in self.variants for run in variant.runs)

    @property
    def duplicates(self) -> tuple[Run, ...]:
        """All runs that are not drawn."""
        return tuple(run for variant in self.variants for run in variant.duplicates)


def conditions(runs: Iterable[Run]) -> list[Condition]:
    """Sort runs into conditions, in the order in which these occur first."""
    subjects: dict[Subject, dict[Items, list[Run]]] = {}
    for run in runs:
        groups = subjects.setdefault(Subject.of(run), {})
        groups.setdefault(_items(_configuration(run)), []).append(run)
    return [
        Condition(subject, differences, label, _variants(group))
        for subject, groups in subjects.items()
        for apart in [_differences(list(groups))]
        for differences, label, group in zip(apart, _shortened(apart), groups.values(), strict=True)
    ]


def _variants(runs: Sequence[Run]) -> tuple[Variant, ...]:
    bases: dict[str, dict[Items, list[Run]]] = {}
    for run in runs:
        groups = bases.setdefault(run.tags.get("altub", "?"), {})
        groups.setdefault(_items(_base_parameters(run)), []).append(run)
    variants = [
        Variant(base, differences, *_one_of_each_seed(group))
        for base, groups in bases.items()
        for differences, group in zip(_differences(list(groups)), groups.values(), strict=True)
    ]
    return tuple(sorted(variants, key=lambda variant: base_order(variant.base)))


def _one_of_each_seed(runs: Sequence[Run]) -> tuple[tuple[Run, ...], tuple[Run, ...]]:
    """Return for each seed the run that got furthest, the earlier one of equals; and the others."""
    ranked = sorted(runs, key=lambda run: (run.state != "finished", -run.last_epoch, run.started, run.run_id))
    chosen: dict[str, Run] = {}
    duplicates = [run for run in ranked if chosen.setdefault(run.seed, run) is not run]
    return tuple(sorted(chosen.values(), key=lambda run: run.seed_order)), tuple(duplicates)


def _configuration(run: Run) -> dict[str, str]:
    """Return all that can change the numbers, except base distribution and seed, and without the paths of files.

    A run of an earlier version is completed by the keys that came later, so that it is not another condition.
    """
    complete = {key: str(value) for key, value in LATER.items()} | run.params
    kept = {key: value for key, value in complete.items() if not belongs_to(key, (*NO_INFLUENCE, "seed", "altub"))}
    if "backbone.weights" in kept:
        kept["backbone.weights"] = PurePath(kept["backbone.weights"]).name
    return kept | {"data": run.tags["data"][:8]} if "data" in run.tags else kept


def _base_parameters(run: Run) -> dict[str, str]:
    """Return the parameters of the base distribution that have an effect."""
    kept = {key: value for key, value in run.params.items() if belongs_to(key, ("altub",))}
    return {} if kept.get("altub.base") == "fixed" else kept


def belongs_to(key: str, groups: Iterable[str]) -> bool:
    """True if a key is one of these, or in one of these groups.

    >>> belongs_to("altub.max_lr", ["seed", "altub"]), belongs_to("seeds", ["seed"])
    (True, False)
    """
    return any(key == group or key.startswith(f"{group}.") for group in groups)


def _items(values: Values) -> Items:
    return tuple(sorted(values.items()))


def _differences(groups: Sequence[Iterable[tuple[str, str]]]) -> list[dict[str, str]]:
    """Return for each group the keys whose values are not the same in all groups.

    >>> _differences([[("steps", "1"), ("lr", "0.1")], [("steps", "2"), ("lr", "0.1")]])
    [{'steps': '1'}, {'steps': '2'}]
    """
    tables = [dict(items) for items in groups]
    keys = sorted({key for table in tables for key in table})
    apart = [key for key in keys if len({table.get(key) for table in tables}) > 1]
    return [{key: table.get(key, "—") for key in apart} for table in tables]


def _shortened(groups: Sequence[Values]) -> list[dict[str, str]]:
    """Leave out the keys that distinguish no more groups than the keys before them.

    >>> _shortened([{"eval.last_epoch": "2", "train.epochs": "2"}, {"eval.last_epoch": "3", "train.epochs": "3"}])
    [{'train.epochs': '2'}, {'train.epochs': '3'}]
    """
    keys = sorted({key for values in groups for key in values}, key=lambda key: (key.startswith("eval."), key))
    kept: list[str] = []
    for key in keys:
        before, after = (
            len({tuple(values[name] for name in names) for values in groups}) for names in (kept, [*kept, key])
        )
        if after > before:
            kept.append(key)
    return [{key: values[key] for key in kept} for values in groups]
