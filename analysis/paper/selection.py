"""Which runs a cell is from: one per seed, after the paper's protocol where there is one; doubles are named."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from altub_exp.runs.folder import State
from analysis.paper import protocol
from analysis.paper.values import Key
from analysis.runs.records import Records, Run

_RANK = (State.finished, State.crashed, State.running, State.failed)


@dataclass(frozen=True)
class Pick:
    """The runs of a cell.

    Attributes:
        runs: one per seed.
        conflict: whether another run of the same protocol and seed says something else.
        deviating: whether they do not follow the paper's protocol.
        notes: what a reader has to know about the choice.
    """

    runs: tuple[Run, ...] = ()
    conflict: bool = False
    deviating: bool = False
    notes: tuple[str, ...] = ()


def short(run: Run) -> str:
    """A run's name in a footnote."""
    return f"run {run.run_id[:8]}"


@dataclass
class Selection:
    """Finds the runs of each cell.

    Args:
        records: what was read.
        deviations: how a run deviates from the paper's protocol.
    """

    records: Records
    deviations: Callable[[Run], Mapping[str, tuple[str, str]]] = protocol.deviations
    _picks: dict[tuple[str, ...], Pick] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._index: dict[tuple[str, ...], list[Run]] = {}
        for run in self.records.runs:
            place = tuple(run.tags.get(tag, "") for tag in ("dataset", "category", "model", "backbone", "altub"))
            self._index.setdefault(place, []).append(run)

    def pick(self, dataset: str, key: Key) -> Pick:
        """The runs of a cell: those after the paper's protocol, else those that deviate least, and then it is said."""
        place = (dataset, key.category, key.model, key.backbone, key.altub)
        if place not in self._picks:
            runs = self._index.get(place, [])
            self.used |= {run.run_id for run in runs}
            self._picks[place] = self._pick(runs) if runs else Pick()
        return self._picks[place]

    def _pick(self, candidates: Sequence[Run]) -> Pick:
        notes: list[str] = []
        runs = _once(candidates, notes)
        kinds: dict[tuple[tuple[str, tuple[str, str]], ...], list[Run]] = {}
        for run in runs:
            kinds.setdefault(tuple(self.deviations(run).items()), []).append(run)
        least = min(kinds, key=lambda kind: (len(kind), -max(run.started for run in kinds[kind])))
        if least:
            notes.append(f"Not after the paper's protocol: {protocol.named(dict(least))}.")
        notes += [
            f"Left out, {short(run)}: {protocol.named(dict(kind))}."
            for kind, others in kinds.items()
            for run in others
            if kind != least
        ]
        chosen = kinds[least]
        by_seed: dict[str, list[Run]] = {}
        for run in chosen:
            by_seed.setdefault(run.tags.get("seed", ""), []).append(run)
        taken = []
        for seed, several in by_seed.items():
            best = max(several, key=_rank)
            taken.append(best)
            if len(several) > 1:
                others = ", ".join(_told(run) for run in several if run is not best)
                notes.append(
                    f"Conflicting duplicates of seed {seed}: {_told(best)} is shown, the most complete and newest; "
                    f"also there: {others}. "
                    "They differ in images, weights or program; keep one experiment apart by --experiment, or delete."
                )
        conflict = any(len(several) > 1 for several in by_seed.values())
        return Pick(tuple(taken), conflict, bool(least), tuple(notes))


def _rank(run: Run) -> tuple[object, ...]:
    order = len(_RANK) - (_RANK.index(State(run.state)) if run.state in _RANK else len(_RANK))
    return order, sum(map(len, run.series.values())), run.started, run.run_id


def _once(candidates: Sequence[Run], notes: list[str]) -> list[Run]:
    """Runs of equal ``run_key`` are one run that was recorded in several places: the most complete record of each."""
    records: dict[tuple[str, str], list[Run]] = {}
    for run in candidates:
        records.setdefault((run.tags.get("run_key", run.run_id), run.tags.get("seed", "")), []).append(run)
    chosen = []
    for same in records.values():
        best = max(same, key=_rank)
        chosen.append(best)
        others = [run for run in same if run is not best]
        if others:
            where = ", ".join(f"{run.run_id[:8]} in {run.experiment!r}" for run in others)
            differ = [run for run in others if run.state == best.state and run.series != best.series]
            what = "with other numbers, " if differ else ""
            notes.append(
                f"Recorded {len(same)} times {what}taken once: {best.run_id[:8]} in {best.experiment!r}; also {where}."
            )
    return chosen


def _told(run: Run) -> str:
    found = run.statistics("pixel_auroc") or run.statistics("image_auroc")
    numbers = f"({100 * found.mean:.2f}, {100 * found.std:.2f})" if found else "no values"
    return f"{short(run)} in {run.experiment!r} {run.state} {numbers}"
