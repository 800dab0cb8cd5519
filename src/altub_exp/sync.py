"""Sends to MLflow what runs could not send during an outage.   python -m altub_exp.sync --help"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from altub_exp.errors import UserError
from altub_exp.machine.command_line import command_parser, run_command
from altub_exp.runs.folder import RunLocked, run_folders
from altub_exp.tracking.store import Unreachable
from altub_exp.tracking.sweep_run import SweepRuns
from altub_exp.tracking.sync import sync_run
from altub_exp.tracking.uri import resolve_uri

EPILOG = """example:
  python -m altub_exp.sync runs --uri http://tracking.example:5000

Each run is sent to its own tracking URI (or MLFLOW_TRACKING_URI) and experiment, or to --uri and --experiment.
Nothing is sent twice. Runs in progress are skipped; runs whose process has died are marked as failed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Send the missing parts of every run below a folder to MLflow, and print one line each.

    Returns:
        The exit status: 1 if the server cannot be reached or a run could not be read.
    """
    parser = command_parser("sync", "Send to MLflow what runs could not send during an outage.", EPILOG)
    parser.add_argument("runs_dir", nargs="?", default="runs", type=Path, help="folder of the runs (default: runs)")
    parser.add_argument("--uri", help="send to this tracking URI instead")
    parser.add_argument("--experiment", help="send to this MLflow experiment instead")
    options = parser.parse_args(arguments)
    logging.getLogger("altub_exp").addHandler(logging.NullHandler())  # the printed lines say everything
    return run_command(lambda: _sync(options.runs_dir, options.uri, options.experiment))


def _sync(runs_dir: Path, uri: str | None, experiment: str | None) -> int:
    failed = False
    folders = run_folders(runs_dir)
    uri = resolve_uri(uri, variable=None, name="--uri") if uri else None
    if not folders:
        print(f"There are no runs below {runs_dir}.")
    try:
        sweeps = SweepRuns(runs_dir, uri, experiment)
        for folder in folders:
            try:
                sweeps.prepare(folder)
                print(f"{folder.path}: {sync_run(folder, uri, experiment)}", flush=True)
            except RunLocked:
                print(f"{folder.path}: still being computed, skipped", flush=True)
            except UserError as error:
                print(f"{folder.path}: {error}", flush=True)
                failed = True
        for name in sweeps.end():
            print(f"sweep {name}: none of its runs is still being computed; marked as ended", flush=True)
    except Unreachable as error:
        raise UserError(str(error)) from error
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
