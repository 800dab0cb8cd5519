"""Synchronisation with MLflow: sends the missing parts of a run or of a sweep, and marks runs that died."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from altub_exp.errors import UserError
from altub_exp.machine.terminal import console, duration
from altub_exp.runs.folder import RunFolder, RunLocked
from altub_exp.runs.states import RunState
from altub_exp.tracking.store import Unreachable, full, unreachable
from altub_exp.tracking.sweep_run import SweepRun
from altub_exp.tracking.tracker import Tracker, recorded, tracking_uri

NOTHING = "nothing missing"
"""The report of :func:`sync_run` for a run that is complete in MLflow."""

PATIENCE = 120.0
"""Seconds to wait for a server at the end of a sweep: longer than a restart of the server takes."""

PAUSE = 5.0
"""Seconds between attempts."""


def sync_run(folder: RunFolder, uri: str | None = None, experiment: str | None = None) -> str:
    """Send the missing parts of one run to MLflow, and return a short report.

    A run whose process has died is marked as failed. MLflow gets the points of a failed run up to its checkpoint, since
    a resumed run computes the later ones again.

    Raises:
        RunLocked: another process computes this run.
        UserError: a file of the run is damaged, or its experiment was deleted.
        Unreachable: MLflow does not record.
    """
    with folder.lock(patience=0):
        died = folder.mark_dead()
        status = folder.status() or {}
        tracker = Tracker.from_record(folder, uri, experiment)
        if tracker is None or "state" not in status:
            return "ended before anything was recorded, skipped"
        state = RunState(status["state"])
        with unreachable(tracker.uri):
            tracker.send(folder.last_final_epoch(state), state, status.get("summary", {}), folder.artifacts())
    report = f"{tracker.sent} points sent" if tracker.sent else NOTHING
    return f"{report}; its process has died: marked as failed, the same command completes it" if died else report


def incomplete_runs(folders: Sequence[RunFolder], uri: str, experiment: str) -> list[RunFolder]:
    """Return the runs that are incomplete in an experiment and not being computed, without asking MLflow.

    Raises:
        UserError: a file of a run is damaged.
    """
    incomplete = []
    for folder in folders:
        record = recorded(folder)
        if record and (tracking_uri(folder), record["experiment"]) == (uri, experiment) and not folder.is_locked():
            tracker = Tracker.from_record(folder, uri, experiment)
            incomplete += [folder] if tracker and not tracker.complete() else []
    return incomplete


def finish_sweep(folders: Sequence[RunFolder], sweep: SweepRun) -> None:
    """Send the missing parts of a sweep's runs, mark runs that died, and end the sweep's own run.

    Waits up to :data:`PATIENCE` for the server. Failures are reported and left to ``python -m altub_exp.sync``.
    """
    deadline, waited, late = time.monotonic() + PATIENCE, False, set[Path]()
    while True:
        try:
            sweep.open()
            for folder in incomplete_runs(folders, sweep.uri, sweep.experiment):
                try:
                    if sync_run(folder, sweep.uri, sweep.experiment) != NOTHING:
                        late.add(folder.path)
                except RunLocked:
                    pass  # another process has resumed it
                except (UserError, OSError, Unreachable) as error:
                    if isinstance(error, Unreachable) and error.is_away:
                        raise  # a damaged file, a full disk or a refused request concerns this run only
                    _report(f"{folder.path} is not all in MLflow: {error}")
            sweep.close()
        except Unreachable as error:
            if time.monotonic() < deadline and not full(error):
                if not waited:
                    _report(f"{error} Waiting up to {duration(PATIENCE)} to send the missing parts …")
                waited = True
                time.sleep(PAUSE)
                continue
            _report(f"{error} Nothing is lost: `python -m altub_exp.sync {sweep.folder.runs_dir}` sends it later.")
        except (UserError, OSError) as error:
            _report(f"Not all of the sweep is in MLflow: {error}")
        else:
            if late:
                _report(f"MLflow at {sweep.uri} has received the missing parts of {len(late)} runs.")
        return


def _report(sentence: str) -> None:
    console.print(sentence, highlight=False, markup=False)
