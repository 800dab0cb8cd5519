"""Tables from what MLflow holds.

python -m analysis.tables stability
python -m analysis.tables stability --experiment demo --tracking-uri http://127.0.0.1:5000
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from altub_exp.errors import UserError
from altub_exp.metrics.stability import Stability, stability
from altub_exp.tracking import prepare_store, resolve_uri

METRICS = ("pixel_auroc", "image_auroc")
BASES = ("none", "stereotype", "cnn", "alternating")


@dataclass(frozen=True)
class Run:
    """One MLflow run: its tags, params, and the series of each metric by epoch."""

    run_id: str
    tags: dict[str, str]
    params: dict[str, str]
    series: dict[str, dict[int, float]]

    chosen_window: tuple[int, int] | None = None

    @property
    def window(self) -> tuple[int, int]:
        """The epochs of the stability statistics: those chosen, else the run's own."""
        return self.chosen_window or (int(self.params["eval.first_epoch"]), int(self.params["eval.last_epoch"]))

    def statistics(self, metric: str) -> Stability | None:
        """Mean, sd and best; None where the run does not reach into its window."""
        series = self.series.get(metric)
        return stability(series, *self.window) if series else None

    @property
    def missing(self) -> int:
        """How many epochs of the window were due for evaluation and are not there."""
        first, last = self.window
        every = int(self.params["eval.every"])
        due = [epoch for epoch in range(first, last + 1) if epoch % every == 0]
        return len([epoch for epoch in due if epoch not in self.series.get("image_auroc", {})])


def read_runs(uri: str, experiment: str) -> list[Run]:
    """All runs of an experiment that are this program's, in the order of the tables.

    Raises:
        UserError: there is no such experiment at this URI.
    """
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(experiment)
    if found is None:
        raise UserError(
            f"{uri} holds no experiment {experiment!r}: give --tracking-uri and --experiment, or train first."
        )
    runs: list[Run] = []
    token = None
    while True:
        page = client.search_runs([found.experiment_id], filter_string="tags.run_key != ''", page_token=token)
        runs += [_run(client, run) for run in page]
        token = page.token
        if not token:
            break
    return sorted(runs, key=_place)


def _place(run: Run) -> tuple[object, ...]:
    """Where a run stands in a table: the base distributions in the order of the paper's Table 6."""
    base = run.tags.get("altub", "")
    rank = BASES.index(base) if base in BASES else len(BASES)
    return (*(run.tags.get(tag, "") for tag in ("dataset", "category", "model", "backbone")), rank, base)


def _run(client: Any, run: Any) -> Run:
    series = {
        metric: {point.step: point.value for point in client.get_metric_history(run.info.run_id, metric)}
        for metric in METRICS
        if metric in run.data.metrics
    }
    return Run(run.info.run_id, dict(run.data.tags), dict(run.data.params), series)


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
    parser.add_argument("--experiment", default="altub", help="MLflow experiment (default: %(default)s)")
    parser.add_argument(
        "--window",
        nargs=2,
        type=int,
        metavar=("FIRST", "LAST"),
        help="epochs of the statistics (default: each run's own)",
    )
    chosen = parser.parse_args(arguments)
    try:
        uri = resolve_uri(chosen.tracking_uri or "sqlite:///mlflow.db", environment=chosen.tracking_uri is None)
        prepare_store(uri)
        runs = read_runs(uri, chosen.experiment)
        if chosen.window is not None:
            runs = [replace(run, chosen_window=(chosen.window[0], chosen.window[1])) for run in runs]
    except UserError as error:
        sys.exit(f"error: {error}")
    console = Console()
    if not console.is_terminal:
        console.width = 160
    console.print(TABLES[chosen.table](runs))
    console.print(f"{len(runs)} runs of experiment {chosen.experiment!r} in {uri}")
    for run in runs:
        console.print(f"  {run.tags['altub']:<12} {run.tags.get('run_folder', '?')}", soft_wrap=True, highlight=False)


if __name__ == "__main__":
    main()
