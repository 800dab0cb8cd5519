"""What all commands of the analysis let a person choose: the store, its experiments, the epochs, where to write."""

from __future__ import annotations

import argparse
from pathlib import Path

from analysis.runs.records import Records, read, tracking_uri


def add_choices(parser: argparse.ArgumentParser, output: str) -> None:
    """The options ``--tracking-uri``, ``--experiment``, ``--window`` and ``--output``, whose default is given."""
    parser.add_argument("--tracking-uri", help="default: MLFLOW_TRACKING_URI, else sqlite:///mlflow.db")
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


def chosen_records(chosen: argparse.Namespace) -> tuple[str, Records]:
    """The tracking URI, and what it holds of the chosen experiments, over the chosen epochs.

    Raises:
        UserError: there is no such store or experiment, or it cannot be read.
    """
    uri = tracking_uri(chosen.tracking_uri)
    records = read(uri, chosen.experiment)
    return uri, records if chosen.window is None else records.windowed(*chosen.window)
