"""The states of a run: RunState is written by its process, JobState is seen by a sweep, CellState by a table.

| status.json, MLflow: RunState | further facts            | a sweep: JobState | a table: CellState             |
|-------------------------------|--------------------------|-------------------|--------------------------------|
| no status yet                 | lock free                | new               | missing                        |
| no status yet                 | lock held                | computing         | missing                        |
| running                       | lock held                | computing         | running                        |
| running                       | lock free (process died) | half-done         | running; failed when marked    |
| failed                        | lock held (resuming)     | computing         | failed                         |
| failed                        | interrupted              | half-done         | failed                         |
| failed                        | not interrupted          | failed            | failed                         |
| crashed                       |                          | crashed           | crashed                        |
| finished                      |                          | finished          | finished; incomplete in MLflow |

CellState (``analysis.paper.cells``) has further states where several runs stand behind a cell, or only the paper does.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any


class RunState(StrEnum):
    """The state of a run: ``failed`` after an error, ``crashed`` after a divergence, which is a result."""

    running = "running"
    finished = "finished"
    failed = "failed"
    crashed = "crashed"


FINAL = (RunState.finished, RunState.crashed)
"""The states of a run that is never resumed."""


class JobState(StrEnum):
    """The state of a run as a sweep sees it."""

    new = "new"
    half_done = "half-done"
    failed = "failed"
    computing = "computing"
    finished = "finished"
    crashed = "crashed"


def job_state(status: Mapping[str, Any] | None, locked: bool) -> JobState:
    """Return the state of a run by the table above.

    >>> job_state({"state": "running"}, locked=False)
    <JobState.half_done: 'half-done'>
    """
    state = status["state"] if status else None
    if state in FINAL:
        return JobState(state)
    if locked:
        return JobState.computing
    if status is None:
        return JobState.new
    return JobState.failed if state == RunState.failed and not status.get("interrupted") else JobState.half_done
