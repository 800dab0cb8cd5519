"""The table of every single run: mean ± standard deviation over its window, and its best epoch."""

from __future__ import annotations

from analysis.paper.paper_cells import METRICS
from analysis.runs import provenance
from analysis.runs.records import Records
from analysis.runs.run import Run
from analysis.tables.table import Datum, Entry, Line, Table


def stability(records: Records) -> Table:
    """Return the AUROCs in percent, one row per run."""
    experiments = ", ".join(repr(name) for name in records.experiments) or "none"
    plural = "s" if len(records.experiments) > 1 else ""
    runs = f"{len(records.runs)} run{'' if len(records.runs) == 1 else 's'}"
    heads = [f"{metric.split('_')[0]} {head}" for metric in METRICS.values() for head in ("mean ± sd", "best (epoch)")]
    return Table(
        name="stability",
        title="Stability of the AUROC (%)",
        caption="Mean ± standard deviation over the window of epochs, and the best of all epochs.",
        columns=("data", "model", "base", "seed", "epochs", *heads, "state"),
        blocks=[[_line(run)] for run in records.runs],
        data=[datum for run in records.runs for datum in _data(run)],
        labels=5,
        remarks=[
            f"{runs} of experiment{plural} {experiments} in {records.uri}",
            *(f"  {run.tags.get('altub', '?'):<12} {run.tags.get('run_folder', '?')}" for run in records.runs),
        ],
        provenance=provenance.sentences(records, records.runs),
        run_ids=[run.run_id for run in records.runs],
        count=f"{runs} besides those of the paper's tables",
    )


def _line(run: Run) -> Line:
    tags = {name: run.tags.get(name, "?") for name in ("dataset", "category", "model", "backbone", "altub")}
    texts = [
        f"{tags['dataset']}/{tags['category']}",
        f"{tags['model']}-{tags['backbone']}",
        tags["altub"],
        run.seed,
        "{}–{}".format(*run.window),
    ]
    for metric in METRICS.values():
        if (found := run.statistics(metric)) is None:
            texts += ["—", "—"]
        else:
            texts += [f"{100 * found.mean:.2f} ± {100 * found.std:.2f}", f"{100 * found.best:.2f} ({found.best_epoch})"]
    missing = run.missing()
    texts.append(run.state + (f", {missing} epochs of the window missing" if missing else ""))
    return [Entry(text) for text in texts]


def _data(run: Run) -> list[Datum]:
    first, last = run.window
    rows: list[Datum] = []
    for task, metric in METRICS.items():
        found = run.statistics(metric)
        rows.append(
            {
                **{name: run.tags.get(name, "") for name in ("dataset", "category", "model", "backbone", "altub")},
                "task": task,
                "seed": run.tags.get("seed", ""),
                **{name: round(100 * getattr(found, name), 6) if found else None for name in ("mean", "std", "best")},
                "best_epoch": found.best_epoch if found else None,
                "first_epoch": first,
                "last_epoch": last,
                "missing_epochs": run.missing(metric) if found else len(run.due_epochs),
                "state": run.state,
                "run_ids": run.run_id,
                "git_commit": run.tags.get("git_commit", ""),
                "git_dirty": run.tags.get("git_dirty", ""),
            }
        )
    return rows
