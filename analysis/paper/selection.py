"""The selection of the runs of a cell: one per seed, by the paper's protocol if possible; duplicates are reported."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from altub_exp.config.compose import options
from altub_exp.runs.states import RunState
from analysis.paper import protocol
from analysis.paper.protocol import Deviations, deviation_text
from analysis.paper.values import Key
from analysis.runs.records import Records
from analysis.runs.run import Run

_RANK = (RunState.finished, RunState.crashed, RunState.running, RunState.failed)


@dataclass(frozen=True)
class SelectedRuns:
    """The runs of a cell.

    Attributes:
        runs: one per seed.
        conflict: True if another run of the same protocol and seed has other numbers.
        deviating: True if they do not follow the paper's protocol.
        notes: remarks on the selection, for footnotes.
    """

    runs: tuple[Run, ...] = ()
    conflict: bool = False
    deviating: bool = False
    notes: tuple[str, ...] = ()


def short_name(run: Run) -> str:
    """Return a run's name in a footnote."""
    return f"run {run.run_id[:8]}"


@dataclass
class Selection:
    """Selects the runs of each cell.

    Args:
        records: the runs to select from.
        deviations: the function that lists how a run deviates from the paper's protocol.

    Attributes:
        used: ids of all runs that were candidates for a cell.
    """

    records: Records
    deviations: Callable[[Run], Deviations] = protocol.deviations
    used: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._selected: dict[tuple[str, ...], SelectedRuns] = {}
        self._candidates = _grouped(
            self.records.runs,
            lambda run: tuple(run.tags.get(tag, "") for tag in ("dataset", "category", "model", "backbone", "altub")),
        )

    def runs_of(self, dataset: str, key: Key) -> SelectedRuns:
        """Return the runs of a cell: those that follow the paper's protocol, otherwise those that deviate least."""
        place = (dataset, key.category, key.model, key.backbone, key.altub)
        if place not in self._selected:
            candidates = self._candidates.get(place, [])
            self.used |= {run.run_id for run in candidates}
            self._selected[place] = self._select(candidates) if candidates else SelectedRuns()
        return self._selected[place]

    def backbones(self, dataset: str, category: str, model: str) -> list[str]:
        """Return the backbones, options of the program, on which there are runs of a model without AltUB."""
        known = options("backbone")
        places = (dataset, category, model)
        return sorted(
            place[3] for place in self._candidates if (*place[:3], place[4]) == (*places, "none") and place[3] in known
        )

    def _select(self, candidates: Sequence[Run]) -> SelectedRuns:
        notes: list[str] = []
        kinds = _grouped(_each_once(candidates, notes), lambda run: tuple(self.deviations(run).items()))
        least = min(kinds, key=lambda kind: (len(kind), -max(run.started for run in kinds[kind])))
        if least:
            notes.append(f"Deviates from the paper's protocol: {deviation_text(dict(least))}.")
        notes += [
            f"Left out, {short_name(run)}: {deviation_text(dict(kind))}."
            for kind, runs in kinds.items()
            for run in runs
            if kind != least
        ]
        by_seed = _grouped(kinds[least], lambda run: run.seed)
        for seed, runs in by_seed.items():
            runs.sort(key=_rank, reverse=True)
            if len(runs) > 1:
                best, *others = map(_summary, runs)
                notes.append(
                    f"Conflicting duplicates of seed {seed}: {best} is shown, the most complete and newest; "
                    f"also there: {', '.join(others)}. "
                    "They differ in images, weights or program; choose one experiment by --experiment, or delete."
                )
        conflict = any(len(runs) > 1 for runs in by_seed.values())
        return SelectedRuns(tuple(runs[0] for runs in by_seed.values()), conflict, bool(least), tuple(notes))


Group = TypeVar("Group")


def _grouped(runs: Iterable[Run], group: Callable[[Run], Group]) -> dict[Group, list[Run]]:
    groups: dict[Group, list[Run]] = {}
    for run in runs:
        groups.setdefault(group(run), []).append(run)
    return groups


def _rank(run: Run) -> tuple[object, ...]:
    """Return the key by which the most complete and newest run is the largest."""
    order = len(_RANK) - (_RANK.index(RunState(run.state)) if run.state in _RANK else len(_RANK))
    return order, sum(map(len, run.series.values())), run.started, run.run_id


def _each_once(candidates: Sequence[Run], notes: list[str]) -> list[Run]:
    """Return the most complete record of each run: runs of equal ``run_key`` are one, recorded in several places."""
    chosen = []
    for same in _grouped(candidates, lambda run: (run.tags.get("run_key", run.run_id), run.seed)).values():
        best, *others = sorted(same, key=_rank, reverse=True)
        chosen.append(best)
        if others:
            shown, *where = (f"{run.run_id[:8]} in {run.experiment!r}" for run in (best, *others))
            differ = any(run.state == best.state and run.series != best.series for run in others)
            remark = "with different numbers, " if differ else ""
            notes.append(f"Recorded {len(same)} times, {remark}counted once: {shown}; also {', '.join(where)}.")
    return chosen


def _summary(run: Run) -> str:
    statistics = run.statistics("pixel_auroc") or run.statistics("image_auroc")
    numbers = f"({100 * statistics.mean:.2f}, {100 * statistics.std:.2f})" if statistics else "no values"
    return f"{short_name(run)} in {run.experiment!r} {run.state} {numbers}"
