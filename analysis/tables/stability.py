"""The table of every single run: mean ± standard deviation over its window, its best epoch, and its end metrics."""

from __future__ import annotations

from collections.abc import Sequence

from altub_exp.metrics.stability import END_METRICS
from analysis.paper.paper_cells import METRICS
from analysis.runs import provenance
from analysis.runs.records import Records
from analysis.runs.run import Run
from analysis.tables.table import Datum, Entry, Line, Table, number


def stability(records: Records, *, end_metrics: bool = False) -> Table:
    """Return the AUROCs in percent, one row per run.

    The CSV has the metrics of the last evaluation too; with ``end_metrics`` they are columns of the table.
    """
    experiments = ", ".join(repr(name) for name in records.experiments) or "none"
    plural = "s" if len(records.experiments) > 1 else ""
    runs = f"{len(records.runs)} run{'' if len(records.runs) == 1 else 's'}"
    heads = [f"{metric.split('_')[0]} {head}" for metric in METRICS.values() for head in ("mean ± sd", "best (epoch)")]
    at_end = END_METRICS if end_metrics else {}
    caption = "Mean ± standard deviation over the window of epochs, and the best of all epochs"
    return Table(
        name="stability",
        title="Stability of the AUROC (%)",
        caption=f"{caption}; AUPRO to 30 % false positives, AP and F1-max after the last." if at_end else f"{caption}.",
        columns=("data", "model", "base", "seed", "epochs", *heads, *at_end.values(), "state"),
        blocks=[[_line(run, list(at_end))] for run in records.runs],
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


def _line(run: Run, end_metrics: Sequence[str]) -> Line:
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
    texts += [number(_percent(run, key), 2) for key in end_metrics]
    missing = run.missing()
    texts.append(run.state + (f", {missing} epochs of the window missing" if missing else ""))
    return [Entry(text) for text in texts]


def _percent(run: Run, metric: str) -> float | None:
    """Return the last value of a metric in percent; None if the run has not recorded it."""
    value = run.metrics.get(metric)
    return None if value is None else round(100 * value, 6)


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
                **{name: _percent(run, metric.replace("auroc", name)) for name in ("aupro", "ap", "f1_max")},
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
