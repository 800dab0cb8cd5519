"""The origin of a table: store, experiments, commits and versions of its runs, and the program that made it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

from altub_exp.runs.provenance import git_state
from analysis.runs.records import Records
from analysis.runs.run import Run


def sentences(records: Records, runs: Iterable[Run]) -> list[str]:
    """Return one sentence each about the store, the runs' commits, versions and epochs, and this program."""
    runs = {run.run_id: run for run in runs}.values()
    names = ", ".join(records.experiments) or "none"
    read = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    origin = [f"Read {read} from {records.uri}, experiments: {names}; {len(runs)} runs are used."]
    if runs:
        origin.append("Commits of the runs: " + "; ".join(_counted(map(commit, runs))) + ".")
        versions = _counted(run.tags.get("versions", "") or "not recorded" for run in runs)
        origin.append("Versions of the runs: " + "; ".join(versions) + ".")
        windows = _counted("{}–{}".format(*run.window) for run in runs)
        chosen = any(run.chosen_window for run in runs)
        origin.append(f"Epochs of the statistics: {', '.join(windows)}" + (" (chosen)." if chosen else "."))
        if any(run.tags.get("code_changed") == "True" for run in runs):
            origin.append("The program's code changed while some of the runs' sweeps were under way.")
    origin.append(f"Made by altub-exp {_version()}, commit {_commit(*git_state())}.")
    return origin


def _counted(values: Iterable[str]) -> list[str]:
    """Return the different values, each with the number of its runs if there are several."""
    counts = Counter(values)
    return [f"{value} ({count} runs)" if len(counts) > 1 else value for value, count in counts.items()]


def commit(run: Run) -> str:
    """Return the commit that computed a run, with a remark if files differed from it."""
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
