"""Where a table comes from: store, experiments, commits and versions of its runs, and what made the table."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

from altub_exp.runs.provenance import git_state
from analysis.runs.records import Records, Run


def sentences(records: Records, runs: Iterable[Run]) -> list[str]:
    """One sentence each about store, runs and program."""
    runs = list({run.run_id: run for run in runs}.values())
    names = ", ".join(records.experiments) or "none"
    read = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    told = [f"Read {read} from {records.uri}, experiments: {names}; {len(runs)} runs are used."]
    if runs:
        told.append("Commits of the runs: " + "; ".join(_distinct(map(commit, runs))) + ".")
        versions = _distinct(run.tags.get("versions", "") or "not recorded" for run in runs)
        told.append("Versions of the runs: " + "; ".join(versions) + ".")
        windows = _distinct("{}–{}".format(*run.window) for run in runs)
        chosen = any(run.chosen_window for run in runs)
        told.append(f"Epochs of the statistics: {', '.join(windows)}" + (" (chosen)." if chosen else "."))
        if any(run.tags.get("code_changed") == "True" for run in runs):
            told.append("The program's code changed while some of the runs' sweeps were under way.")
    told.append(f"Made by altub-exp {_version()}, commit {_commit(*git_state())}.")
    return told


def _distinct(values: Iterable[str]) -> list[str]:
    counts: dict[str, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return [f"{value} ({count} runs)" if len(counts) > 1 else value for value, count in counts.items()]


def commit(run: Run) -> str:
    """The commit that a run was computed with, and whether files differed from it."""
    dirty = {"True": True, "False": False}.get(run.tags.get("git_dirty", ""))
    return _commit(run.tags.get("git_commit"), dirty)


def _commit(commit: str | None, dirty: bool | None) -> str:
    if commit in (None, "", "None"):
        return "unknown"
    state = {True: "with changes", False: "clean", None: "whether changed is unknown"}[dirty]
    return f"{str(commit)[:12]} ({state})"


def _version() -> str:
    try:
        return version("altub-exp")
    except PackageNotFoundError:
        return "(not installed)"
