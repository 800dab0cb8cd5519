"""The outcome of a run in one line, which MLflow shows as the run's description."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from altub_exp.machine.terminal import duration
from altub_exp.metrics.stability import METRICS, percentages
from altub_exp.runs.states import RunState

LONGEST_REASON = 500
"""Characters of a reason; a longer one is cut."""


def outcome(status: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """Describe the present state of a run from its status and its journal.

    >>> outcome({"state": "crashed", "reason": "the loss became nan in epoch 3"}, [])
    'crashed: the loss became nan in epoch 3'
    """
    state = RunState(status["state"])
    epoch = rows[-1]["epoch"] if rows else 0
    if state is RunState.running:
        return "in progress"
    if state is RunState.failed:
        reason = _in_one_line(status)
        return (
            f"interrupted after epoch {epoch}" if reason == "interrupted" else f"failed after epoch {epoch}: {reason}"
        )
    aurocs = _aurocs(status, rows)
    if state is RunState.crashed:
        return "; ".join([f"crashed: {_in_one_line(status)}", *aurocs])
    seconds = sum(row.get("seconds", 0.0) for row in rows)
    epochs = "1 epoch" if epoch == 1 else f"{epoch} epochs"
    return "; ".join([*aurocs, f"finished {epochs} in {duration(seconds)} on {status.get('device', '?')}"])


def mean_auroc(status: Mapping[str, Any]) -> float | None:
    """Return the mean over the window of the pixel AUROC, or without masks of the image AUROC; None if there is none.

    >>> mean_auroc({"summary": {"image_auroc_mean": 0.75}}), mean_auroc({})
    (0.75, None)
    """
    summary = status.get("summary", {})
    return next((summary[f"{key}_mean"] for key in METRICS if f"{key}_mean" in summary), None)


def _in_one_line(status: Mapping[str, Any]) -> str:
    return " ".join(str(status.get("reason")).split())[:LONGEST_REASON]


def _aurocs(status: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the statistics of the AUROCs, their last values and the end metrics, as far as the run has them."""
    summary = status.get("summary", {})
    at_end = [text] if (text := percentages(summary)) else []
    known = [(key, name) for key, name in METRICS.items() if f"{key}_mean" in summary and f"{key}_std" in summary]
    if not known:
        return at_end
    statistics = ", ".join(
        f"{name} {100 * summary[f'{key}_mean']:.1f} ± {100 * summary[f'{key}_std']:.1f} %" for key, name in known
    )
    window = "over epochs {} to {}".format(*status["window"]) if "window" in status else "over the window"
    series = {key: [row[key] for row in rows if key in row] for key, _ in known}
    ends = " and ".join(f"{100 * values[-1]:.1f} %" for values in series.values() if values)
    return [f"{statistics} {window}, {ends} after the last epoch", *at_end]
