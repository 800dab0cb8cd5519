"""Shows the state of all runs, and marks those whose process has died.   python -m altub_exp.status --help"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from rich.console import Group
from rich.live import Live

from altub_exp.errors import UserError
from altub_exp.machine.command_line import command_parser, run_command
from altub_exp.machine.disk import writing_to
from altub_exp.machine.terminal import PlainConsole
from altub_exp.runs.folder import DIED, RunFolder, RunLocked, run_folders
from altub_exp.runs.integrity import inspect
from altub_exp.runs.overview import STATES, Row, counts, read, table
from altub_exp.runs.states import RunState
from altub_exp.text import say
from altub_exp.tracking.store import Unreachable
from altub_exp.tracking.sync import sync_run

EPILOG = """examples:
  python -m altub_exp.status                                 every run below runs/
  python -m altub_exp.status --state failed,crashed          only failed and crashed runs
  python -m altub_exp.status --sweep table1 --watch 10       one sweep, refreshed every 10 seconds
  python -m altub_exp.status --verify                        read every file, and name each damaged run
  python -m altub_exp.status --json | jq '.[] | select(.state == "failed") | .folder'

The process of a run has died if its status says running, but no process holds its lock: the run is marked as failed,
here and in MLflow, and the same command completes it. With several hosts this needs a file system whose locks (flock)
apply to all of them; otherwise use --dry-run. JSON has AUROCs as fractions and times in Unix milliseconds."""

ONE_LINE = 10_000
"""Width of the table in a file or a pipe: each run gets one line."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Show the runs below a folder; return the exit status, 1 if there is no such folder."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.watch and options.json:
        parser.error("--watch and --json exclude each other: give one of them")
    return run_command(lambda: _verify(options) if options.verify else _show(options))


def _verify(options: argparse.Namespace) -> int:
    """Print a line for each damaged run and then their number; return 1 if a run is damaged."""
    intact, damaged, unsealed = 0, 0, 0
    for folder in _selected(run_folders(options.folder, without_status=True), options):
        try:
            with writing_to(folder.path):
                inspection = inspect(folder)
            damages = list(inspection.damages.values())
        except UserError as error:
            damages = [str(error)]
        if damages:
            damaged += 1
            say(" ".join(damages))
        elif inspection.sealed:
            intact += 1
        else:
            unsealed += 1
    say(f"{intact} intact, {damaged} damaged, {unsealed} of an earlier version, without seals")
    return 1 if damaged else 0


def _show(options: argparse.Namespace) -> int:
    console = PlainConsole(markup=False, highlight=False, emoji=False)
    if options.watch and console.is_terminal:
        return _watch(options, console)
    rows, died = _collect(options)
    if options.json:
        say(json.dumps([asdict(row) for row in rows], indent=1))
    else:
        if not console.is_terminal:
            console.width = ONE_LINE
        console.print(_view(rows, options.folder))
    for note in _finish_records(died, options):
        say(note, error=True)
    return 0


def _selected(folders: Sequence[RunFolder], options: argparse.Namespace) -> list[RunFolder]:
    return [folder for folder in folders if options.all or not folder.is_archived]


def _collect(options: argparse.Namespace) -> tuple[list[Row], list[RunFolder]]:
    """Return the selected rows, and the runs whose process has died; mark these except in a dry run."""
    rows, died = [], []
    for folder in _selected(run_folders(options.folder), options):
        row = read(folder)
        if not folder.status_file.exists():
            continue  # archived or discarded at this moment
        if options.sweep is not None and row.sweep != options.sweep:
            continue
        if row.state == RunState.running:
            row, has_died = _verified(folder, row, options.dry_run)
            if has_died:
                died.append(folder)
        if row.state in options.state:
            rows.append(row)
    return rows, died


def _verified(folder: RunFolder, row: Row, dry_run: bool) -> tuple[Row, bool]:
    """Return the true row of a run whose status says running, and True if its process has died."""
    try:
        if dry_run:
            died = folder.has_died()
        else:
            with folder.lock(patience=0):
                died = folder.mark_dead()
    except RunLocked:
        return row, False
    except (UserError, OSError) as error:
        return replace(row, damage=f"Its process cannot be checked: {error}"), False
    row = read(folder)  # its status has changed
    if died and dry_run:
        row = replace(row, state=RunState.failed.value, reason=DIED, seconds_left=None)
    return row, died


def _finish_records(died: Sequence[RunFolder], options: argparse.Namespace) -> list[str]:
    """Mark the dead runs as failed in MLflow too, and return the messages for the user."""
    if not died:
        return []
    one = len(died) == 1
    finding = "The process of 1 run has died" if one else f"The processes of {len(died)} runs have died"
    if options.dry_run:
        return [f"{finding}; give the command without --dry-run to record the failure."]
    messages = [f"{finding}: marked as failed; the same command completes {'it' if one else 'them'}."]
    for folder in died:
        try:
            sync_run(folder)
        except RunLocked:
            pass  # resumed meanwhile
        except UserError as error:
            messages.append(f"{folder.path}: {error}")
        except Unreachable as error:
            messages.append(f"{error} `python -m altub_exp.sync {options.folder}` sends it later.")
            if error.is_away:
                break
    return messages


def _view(rows: Sequence[Row], root: Path) -> Group | str:
    return Group(table(rows), counts(rows)) if rows else f"There are no such runs below {root}."


def _watch(options: argparse.Namespace, console: PlainConsole) -> int:
    """Refresh the table until Ctrl-C, with the running runs first, since a long table is cut off."""
    try:
        with Live(console=console, auto_refresh=False, vertical_overflow="ellipsis") as live:
            while True:
                rows, died = _collect(options)
                rows.sort(key=lambda row: STATES.index(row.state))
                live.update(Group(counts(rows), table(rows)), refresh=True)
                for note in _finish_records(died, options):
                    console.print(note)
                time.sleep(options.watch)
    except KeyboardInterrupt:
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "status", "Show the state of all runs: epochs, last AUROCs, time left, and the reasons of failures.", EPILOG
    )
    parser.add_argument("folder", nargs="?", default="runs", type=Path, help="folder of the runs (default: runs)")
    parser.add_argument("--state", type=_states, default=STATES, help=f"show only these states, of {','.join(STATES)}")
    parser.add_argument("--sweep", metavar="NAME", help="show only the runs of this sweep (tracking.sweep)")
    parser.add_argument("--all", action="store_true", help="include runs archived by resume=never")
    parser.add_argument("--dry-run", action="store_true", help="show the runs without marking dead ones")
    parser.add_argument("--verify", action="store_true", help="read every file; exit status 1 if a run is damaged")
    parser.add_argument("--json", action="store_true", help="print a JSON array, one object per run")
    parser.add_argument("--watch", metavar="SECONDS", type=_seconds, help="refresh on a terminal until Ctrl-C")
    return parser


def _states(text: str) -> tuple[str, ...]:
    states = tuple(text.split(","))
    if unknown := [state for state in states if state not in STATES]:
        raise argparse.ArgumentTypeError(f"there is no state {unknown[0]!r}: choose from {','.join(STATES)}")
    return states


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
