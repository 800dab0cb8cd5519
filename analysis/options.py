"""The options that all commands of the analysis share: the store, its experiments, the epochs, and the output."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from altub_exp.errors import UserError
from altub_exp.machine.command_line import INTERRUPTED, interruptible
from altub_exp.text import printable_lines, say
from analysis.runs.records import Records, read, tracking_uri


def add_options(parser: argparse.ArgumentParser, output: str) -> None:
    """Add ``--tracking-uri``, ``--experiment``, ``--window`` and ``--output``, whose default is given."""
    parser.add_argument("--tracking-uri", help="default: MLFLOW_TRACKING_URI or sqlite:///mlflow.db")
    parser.add_argument(
        "--experiment",
        action="append",
        metavar="NAME",
        help="MLflow experiment; may be given several times (default: all that hold runs of this program)",
    )
    parser.add_argument(
        "--window",
        nargs=2,
        type=int,
        metavar=("FIRST", "LAST"),
        help="epochs of the statistics (default: each run's own)",
    )
    parser.add_argument("--output", type=Path, default=Path(output), help="default: %(default)s")


def chosen_records(chosen: argparse.Namespace) -> tuple[str, Records, list[str]]:
    """Return the tracking URI, and the runs of the chosen experiments over the chosen epochs.

    A run whose record is damaged is left out; the last value is a sentence for each.

    Raises:
        UserError: the store or an experiment does not exist, or the store cannot be read.
    """
    uri = tracking_uri(chosen.tracking_uri)
    records = read(uri, chosen.experiment)
    if chosen.window is not None:
        records = records.windowed(*chosen.window)
    complaints = {run.run_id: complaint for run in records.runs if (complaint := run.complaint())}
    return uri, records.without(complaints), list(complaints.values())


def end_with(problems: Sequence[str]) -> None:
    """Print what was left out, and end the program with status 1 unless nothing was."""
    for problem in problems:
        say(f"error: {problem}", error=True)
    if problems:
        sys.exit(1)


@contextmanager
def errors_as_sentences(output: Path, kind: str) -> Iterator[None]:
    """End the program with one sentence if the user's input is wrong or the output cannot be written.

    Args:
        output: the path that is written to.
        kind: ``file`` or ``folder``.
    """
    try:
        with interruptible():
            yield
    except UserError as error:
        sys.exit(printable_lines(f"error: {error}"))
    except OSError as error:
        sys.exit(
            printable_lines(f"error: {output} cannot be written ({error.strerror}): choose another {kind} by --output.")
        )
    except KeyboardInterrupt:
        say("interrupted", error=True)
        sys.exit(INTERRUPTED)
