"""The table of every single run: mean ± standard deviation over its window, and its best epoch."""

from __future__ import annotations

from altub_exp.metrics.stability import Stability
from analysis.paper.paper_cells import METRICS
from analysis.runs import provenance
from analysis.runs.records import Records, Run
from analysis.tables.table import Sheet, Text


def stability(records: Records) -> Sheet:
    """AUROCs in percent, one row per run."""
    experiments = ", ".join(repr(name) for name in records.experiments) or "none"
    plural = "s" if len(records.experiments) > 1 else ""
    count = len(records.runs)
    return Sheet(
        name="stability",
        title="Stability of the AUROC (%)",
        caption="Mean ± standard deviation over the window of epochs, and the best of all epochs.",
        columns=(
            "data",
            "model",
            "base",
            "seed",
            "epochs",
            *(
                f"{metric.split('_')[0]} {what}"
                for metric in METRICS.values()
                for what in ("mean ± sd", "best (epoch)")
            ),
            "state",
        ),
        blocks=[[_line(run)] for run in records.runs],
        data=[datum for run in records.runs for datum in _data(run)],
        labels=5,
        remarks=[
            f"{count} run{'' if count == 1 else 's'} of experiment{plural} {experiments} in {records.uri}",
            *(f"  {run.tags.get('altub', '?'):<12} {run.tags.get('run_folder', '?')}" for run in records.runs),
        ],
        provenance=provenance.sentences(records, records.runs),
        run_ids=[run.run_id for run in records.runs],
        count=f"{count} run{'' if count == 1 else 's'} beside those of the paper's tables",
    )


def _state(run: Run) -> str:
    return run.state + (f", {run.missing} epochs of the window missing" if run.missing else "")


def _line(run: Run) -> list[Text]:
    tags = {name: run.tags.get(name, "?") for name in ("dataset", "category", "model", "backbone", "altub", "seed")}
    cells: list[str] = []
    for metric in METRICS.values():
        found = run.statistics(metric)
        cells += ["—", "—"] if found is None else [_mean_sd(found), f"{100 * found.best:.2f} ({found.best_epoch})"]
    texts = (
        f"{tags['dataset']}/{tags['category']}",
        f"{tags['model']}-{tags['backbone']}",
        tags["altub"],
        tags["seed"],
        "{}–{}".format(*run.window),
        *cells,
        _state(run),
    )
    return [Text(text) for text in texts]


def _mean_sd(found: Stability) -> str:
    return f"{100 * found.mean:.2f} ± {100 * found.std:.2f}"


def _data(run: Run) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for task, metric in METRICS.items():
        found = run.statistics(metric)
        first, last = run.window
        tags = {name: run.tags.get(name, "") for name in ("dataset", "category", "model", "backbone", "altub")}
        values = (
            {"mean": None, "std": None, "best": None, "best_epoch": None}
            if found is None
            else {
                "mean": round(100 * found.mean, 6),
                "std": round(100 * found.std, 6),
                "best": round(100 * found.best, 6),
                "best_epoch": found.best_epoch,
            }
        )
        rows.append(
            {
                **tags,
                "task": task,
                "seed": run.tags.get("seed", ""),
                **values,
                "first_epoch": first,
                "last_epoch": last,
                "missing_epochs": run.absent(metric) if found else len(run.due),
                "state": run.state,
                "run_ids": run.run_id,
                "git_commit": run.tags.get("git_commit", ""),
                "git_dirty": run.tags.get("git_dirty", ""),
            }
        )
    return rows
