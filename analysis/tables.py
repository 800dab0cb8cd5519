"""Tables from what MLflow holds.

python -m analysis.tables stability
python -m analysis.tables stability --experiment demo --tracking-uri http://127.0.0.1:5000
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable

from rich import box
from rich.console import Console
from rich.table import Table

from altub_exp.errors import UserError
from altub_exp.metrics.stability import Stability
from analysis.records import Run, read, tracking_uri

METRICS = ("pixel_auroc", "image_auroc")


def stability_table(runs: Iterable[Run]) -> Table:
    """Mean ± sd over the window and best over all epochs of pixel and image AUROC in percent, one row per run."""
    table = Table(title="Stability of the AUROC (%)", box=box.SIMPLE_HEAD, title_justify="left")
    for column in ("data", "model", "base", "seed", "epochs"):
        table.add_column(column, no_wrap=True)
    for metric in METRICS:
        table.add_column(f"{metric.split('_')[0]} mean ± sd", justify="right", no_wrap=True)
        table.add_column("best", justify="right", no_wrap=True)
    table.add_column("state")
    for run in runs:
        tags = run.tags
        cells: list[str] = []
        for metric in METRICS:
            found = run.statistics(metric)
            cells += ["—", "—"] if found is None else [_mean_sd(found), f"{100 * found.best:.2f}"]
        first, last = run.window
        state = tags.get("status", "?")
        if run.missing:
            state += f", {run.missing} epochs of the window missing"
        table.add_row(
            f"{tags['dataset']}/{tags['category']}",
            f"{tags['model']}-{tags['backbone']}",
            tags["altub"],
            tags["seed"],
            f"{first}–{last}",
            *cells,
            state,
        )
    return table


def _mean_sd(found: Stability) -> str:
    return f"{100 * found.mean:.2f} ± {100 * found.std:.2f}"


TABLES: dict[str, Callable[[Iterable[Run]], Table]] = {"stability": stability_table}


def main(arguments: list[str] | None = None) -> None:
    """Print the table that the command names."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.tables",
        description="Tables from what MLflow holds.",
        epilog="example: python -m analysis.tables stability --experiment demo",
    )
    parser.add_argument("table", choices=sorted(TABLES), help="which table")
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
    chosen = parser.parse_args(arguments)
    try:
        records = read(tracking_uri(chosen.tracking_uri), chosen.experiment)
        if chosen.window is not None:
            records = records.windowed(*chosen.window)
    except UserError as error:
        sys.exit(f"error: {error}")
    console = Console()
    if not console.is_terminal:
        console.width = 160
    runs = records.runs
    console.print(TABLES[chosen.table](runs))
    names = ", ".join(f"{name!r}" for name in records.experiments)
    plural = "s" if len(records.experiments) > 1 else ""
    console.print(f"{len(runs)} runs of experiment{plural} {names or 'none'} in {records.uri}")
    for run in runs:
        console.print(f"  {run.tags['altub']:<12} {run.tags.get('run_folder', '?')}", soft_wrap=True, highlight=False)


if __name__ == "__main__":
    main()
