"""Shows the state of all runs, and marks those whose process has died.   python -m altub_exp.status --help"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live

from altub_exp.errors import UserError
from altub_exp.machine.command_line import command_parser, run_command
from altub_exp.runs.folder import DIED, RunFolder, RunLocked, run_folders
from altub_exp.runs.overview import STATES, Row, counts, read, table
from altub_exp.runs.states import RunState
from altub_exp.tracking.store import Unreachable
from altub_exp.tracking.sync import sync_run

EPILOG = """examples:
  python -m altub_exp.status                                 every run below runs/
  python -m altub_exp.status --state failed,crashed          what needs a look
  python -m altub_exp.status --sweep table1 --watch 10       one sweep, again every 10 seconds
  python -m altub_exp.status --json | jq '.[] | select(.state == "failed") | .folder'

A run whose status says running, but whose lock nobody holds, has lost its process: it is marked as failed, here and in
MLflow, and the same command resumes it. On several hosts that needs a file system whose locks (flock) reach all of
them; elsewhere look with --dry-run. JSON has AUROCs as fractions, times in Unix milliseconds."""

ONE_LINE = 10_000
"""Width of the table in a file or a pipe: each run gets one line."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Show the runs below a folder; return the exit status, 1 if there is no such folder."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.watch and options.json:
        parser.error("--watch is for people, --json for programs: give one of them")
    return run_command(lambda: _show(options))


def _show(options: argparse.Namespace) -> int:
    console = Console(markup=False, highlight=False, emoji=False)
    if options.watch and console.is_terminal:
        return _watch(options, console)
    rows, died = _collect(options)
    if options.json:
        print(json.dumps([asdict(row) for row in rows], indent=1, ensure_ascii=False))
    else:
        if not console.is_terminal:
            console.width = ONE_LINE
        console.print(_view(rows, options.folder))
    for note in _finish_records(died, options):
        print(note, file=sys.stderr)
    return 0


def _collect(options: argparse.Namespace) -> tuple[list[Row], list[RunFolder]]:
    """Return the rows that were asked for, and the runs whose process has died: marked, unless it is a dry run."""
    rows, died = [], []
    for folder in run_folders(options.folder):
        if folder.is_archived and not options.all:
            continue
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
        return replace(row, damage=f"Whether its process lives cannot be told: {error}"), False
    row = read(folder)  # it died, or has ended since the first look
    if died and dry_run:
        row = replace(row, state=RunState.failed.value, reason=DIED, seconds_left=None)
    return row, died


def _finish_records(died: Sequence[RunFolder], options: argparse.Namespace) -> list[str]:
    """Finish the records of the marked runs in MLflow; return the messages for the user."""
    if not died:
        return []
    some = "1 run was said to be running but has" if len(died) == 1 else f"{len(died)} runs were said to run but have"
    if options.dry_run:
        return [f"{some} no process any more; without --dry-run that is marked as failed."]
    messages = [f"{some} no process any more: marked as failed; the same command goes on from the checkpoint."]
    for folder in died:
        try:
            sync_run(folder)
        except RunLocked:
            pass  # resumed meanwhile
        except UserError as error:
            messages.append(f"{folder.path}: {error}")
        except Unreachable as error:
            messages.append(f"{error} `python -m altub_exp.sync {options.folder}` sends it later.")
            break
    return messages


def _view(rows: Sequence[Row], root: Path) -> Group | str:
    return Group(table(rows), counts(rows)) if rows else f"There are no such runs below {root}."


def _watch(options: argparse.Namespace, console: Console) -> int:
    """Show the runs again and again, until Ctrl-C; the running ones first, since a long table is cut off."""
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
        "status", "Show where all runs stand: epochs, last AUROCs, time left, and why they ended.", EPILOG
    )
    parser.add_argument("folder", nargs="?", default="runs", type=Path, help="folder of the runs (default: runs)")
    parser.add_argument("--state", type=_states, default=STATES, help=f"only these, of {','.join(STATES)}")
    parser.add_argument("--sweep", metavar="NAME", help="only the runs of this sweep (tracking.sweep)")
    parser.add_argument("--all", action="store_true", help="also archived runs (by resume=never)")
    parser.add_argument("--dry-run", action="store_true", help="mark no run, only show")
    parser.add_argument("--json", action="store_true", help="one JSON array, an object per run")
    parser.add_argument("--watch", metavar="SECONDS", type=_seconds, help="refresh on a terminal until Ctrl-C")
    return parser


def _states(text: str) -> tuple[str, ...]:
    chosen = tuple(text.split(","))
    if wrong := [state for state in chosen if state not in STATES]:
        raise argparse.ArgumentTypeError(f"there is no state {wrong[0]!r}: choose from {','.join(STATES)}")
    return chosen


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
