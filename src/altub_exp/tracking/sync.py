"""Sends to MLflow what it lacks of a run, and of a sweep's runs when the sweep ends; marks runs that died."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from altub_exp.errors import UserError
from altub_exp.machine.terminal import console, duration
from altub_exp.runs.folder import RunFolder, RunLocked
from altub_exp.runs.states import RunState
from altub_exp.tracking.store import Unreachable, full
from altub_exp.tracking.sweep_run import Parent, told
from altub_exp.tracking.tracker import Tracker, recorded
from altub_exp.tracking.uri import redacted

NOTHING = "nothing missing"
"""What :func:`sync_run` says of a run of which MLflow had all."""

PATIENCE = 120.0
"""Seconds that the end of a sweep waits for a server that is away: longer than one takes to be started again."""

PAUSE = 5.0
"""Seconds between its attempts."""


def sync_run(folder: RunFolder, uri: str | None = None, experiment: str | None = None) -> str:
    """Send what MLflow lacks of one run; returns what was done, in a few words.

    A run whose process has died is marked as failed. As of every failed run, MLflow gets its points up to the
    checkpoint: a resumed run computes the later ones again.

    Raises:
        RunLocked: another process computes this run.
        UserError: a file of it is damaged, or its experiment was deleted.
        Unreachable: the server does not record.
    """
    with folder.lock(patience=0):
        died = folder.mark_dead()
        status = folder.status() or {}
        tracker = Tracker.from_record(folder, uri, experiment)
        if tracker is None or "state" not in status:
            return "ended before anything was recorded, skipped"
        state = RunState(status["state"])
        try:
            tracker.send(folder.last_final_epoch(state), state, status.get("summary", {}), folder.artifacts())
        except UserError:
            raise
        except Exception as error:
            raise Unreachable(tracker.uri, error) from error
    done = f"{tracker.sent} points sent" if tracker.sent else NOTHING
    return done + ("; its process has died: marked as failed, the same command goes on" if died else "")


def unsettled(folders: Sequence[RunFolder], uri: str, experiment: str) -> list[RunFolder]:
    """Those runs recorded there that nobody computes and of which MLflow lacks something; asks the folders alone.

    Raises:
        UserError: a file of a run is damaged.
    """
    found = []
    for folder in folders:
        record = recorded(folder)
        if record and (record["uri"], record["experiment"]) == (redacted(uri), experiment) and not folder.is_locked():
            tracker = Tracker.from_record(folder, uri, experiment)
            found += [folder] if tracker and not tracker.complete() else []
    return found


def settle(folders: Sequence[RunFolder], parent: Parent) -> None:
    """At the end of a sweep: send what its runs could not send, mark those that died, end the sweep's own run.

    Waits for a while for a server that is away. All that goes wrong is said, and left to ``python -m altub_exp.sync``.
    """
    deadline, waited, late = time.monotonic() + PATIENCE, False, set[Path]()
    while True:
        try:
            told(parent, parent.open)
            for folder in unsettled(folders, parent.uri, parent.experiment):
                try:
                    if sync_run(folder, parent.uri, parent.experiment) != NOTHING:
                        late.add(folder.path)
                except RunLocked:
                    pass  # begun again by another process
                except (UserError, OSError) as error:  # a damaged file, a full disk: this run's alone
                    _say(f"{folder.path} is not all in MLflow: {error}")
            told(parent, parent.close)
        except Unreachable as error:
            if time.monotonic() < deadline and not full(error):
                if not waited:
                    _say(f"{error} Waiting up to {duration(PATIENCE)} to send what it lacks …")
                waited = True
                time.sleep(PAUSE)
                continue
            _say(f"{error} Nothing is lost: `python -m altub_exp.sync {parent.runs_dir}` sends it later.")
        except UserError as error:
            _say(f"Not all of the sweep is in MLflow: {error}")
        else:
            if late:
                _say(f"MLflow at {redacted(parent.uri)} now has what it lacked of {len(late)} runs.")
        return


def _say(sentence: str) -> None:
    console.print(sentence, highlight=False, markup=False)
