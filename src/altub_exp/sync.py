"""Sends to MLflow what runs could not send during an outage.   python -m altub_exp.sync --help"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from altub_exp.errors import UserError
from altub_exp.machine.command_line import command_parser, run_command
from altub_exp.runs.folder import RunLocked, run_folders
from altub_exp.text import say
from altub_exp.tracking.store import Unreachable
from altub_exp.tracking.sweep_run import SweepRuns
from altub_exp.tracking.sync import sync_run
from altub_exp.tracking.tracker import tracking_uri
from altub_exp.tracking.uri import resolve_uri

EPILOG = """example:
  python -m altub_exp.sync runs --uri http://tracking.example:5000

Each run is sent to its own tracking URI (or MLFLOW_TRACKING_URI) and experiment, or to --uri and --experiment.
Nothing is sent twice. Runs in progress are skipped; runs whose process has died are marked as failed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Send the missing parts of every run below a folder to MLflow, and print one line each.

    A run that cannot be sent does not keep the others from it, nor does a store that does not answer those of another.

    Returns:
        The exit status: 1 if a store does not answer, or a run cannot be read or sent.
    """
    parser = command_parser("sync", "Send to MLflow what runs could not send during an outage.", EPILOG)
    parser.add_argument("runs_dir", nargs="?", default="runs", type=Path, help="folder of the runs (default: runs)")
    parser.add_argument("--uri", help="send to this tracking URI instead")
    parser.add_argument("--experiment", help="send to this MLflow experiment instead")
    options = parser.parse_args(arguments)
    logging.getLogger("altub_exp").addHandler(logging.NullHandler())  # the printed lines say everything
    return run_command(lambda: _sync(options.runs_dir, options.uri, options.experiment))


def _sync(runs_dir: Path, uri: str | None, experiment: str | None) -> int:
    folders = run_folders(runs_dir)
    uri = resolve_uri(uri, variable=None, name="--uri") if uri else None
    if not folders:
        say(f"There are no runs below {runs_dir}.")
    sweeps = SweepRuns(runs_dir, uri, experiment)
    failed, away = False, dict[str, Unreachable]()
    for folder in folders:
        try:
            if (uri or tracking_uri(folder)) in away:
                continue
            sweeps.prepare(folder)
            say(f"{folder.path}: {sync_run(folder, uri, experiment)}")
        except RunLocked:
            say(f"{folder.path}: still being computed, skipped")
        except (UserError, OSError, Unreachable) as error:
            if isinstance(error, Unreachable) and error.is_away:
                away[error.uri] = error
                continue
            say(f"{folder.path}: {error}")
            failed = True
    for sweep, ended in sweeps.due():
        if sweep.uri in away:
            continue
        try:
            sweep.close(ended)
            say(f"sweep {sweep.folder.name}: none of its runs is still being computed; marked as ended")
        except (UserError, OSError, Unreachable) as error:
            say(f"sweep {sweep.folder.name}: {error}")
            failed = True
    if away:
        raise UserError(" ".join(map(str, away.values())))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
