"""The table of all systems that ran on the same images: AUROC, AUPRO, and the time and memory of an image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean

from analysis.paper.cells import counts
from analysis.runs import provenance
from analysis.runs.conditions import Condition, Variant, conditions
from analysis.runs.records import Records
from analysis.runs.run import Run
from analysis.tables.table import Datum, Entry, Line, Table, number

COLUMNS = ("data", "system", "base", "px", "epochs", "seeds", "pixel ± sd", "image ± sd", "AUPRO", "ms", "MB")
AUROCS = {"pixel": "pixel_auroc", "image": "image_auroc"}
TIME, MEMORY = "inference_ms", "inference_mb"
REMARKS = (
    "pixel, image: AUROC, mean and standard deviation over the epochs; AUPRO, to 30 % false positives: after the last. "
    "All in percent, and means over the seeds. Only finished runs that have all of these epochs count.",
    "Bold: the highest mean on the same images. Other image sizes and numbers of epochs can give another order.",
)


def systems(records: Records) -> Table:
    """Return one line per system, base distribution and setting, sorted into blocks by their images."""
    by_images: dict[str, list[Datum]] = {}
    used: dict[str, Run] = {}
    for condition in conditions(records.runs):
        images = f"{condition.subject.dataset}/{condition.subject.category}"
        for variant in condition.variants:
            runs = variant.complete("image_auroc")
            by_images.setdefault(images, []).append(_datum(condition, variant, runs))
            used |= {run.run_id: run for run in runs}
    data = [row for rows in by_images.values() for row in rows]
    return Table(
        name="systems",
        title="Systems",
        caption="All systems by their images, with the time (ms) and memory (MB) that it takes to score one image.",
        columns=COLUMNS,
        blocks=[_block(images, rows) for images, rows in by_images.items()],
        data=data,
        labels=4,
        remarks=[*REMARKS, *_cost(used.values())],
        provenance=provenance.sentences(records, used.values()),
        run_ids=list(used),
        count=f"{len(data)} system{'' if len(data) == 1 else 's'} on {len(by_images)} "
        f"categor{'y' if len(by_images) == 1 else 'ies'}",
    )


def _datum(condition: Condition, variant: Variant, runs: Sequence[Run]) -> Datum:
    """Return the row of the CSV of a variant and its complete runs; a value that none has is None."""
    any_run = variant.runs[0]
    first, last = any_run.window
    row: dict[str, object] = {
        **condition.subject._asdict(),
        "altub": variant.base,
        "setting": variant.setting(condition),
        "image_size": any_run.params.get("dataset.image_size", "?"),
        "first_epoch": first,
        "last_epoch": last,
        "seeds": len(runs),
        "states": counts(run.state for run in variant.runs),
    }
    for name, metric in AUROCS.items():
        found = [statistics for run in runs if (statistics := run.statistics(metric))]
        row[f"{name}_mean"] = _mean(100 * statistics.mean for statistics in found)
        row[f"{name}_std"] = _mean(100 * statistics.std for statistics in found if statistics.epochs > 1)
    aupros = [100 * run.metrics["pixel_aupro"] for run in runs if "pixel_aupro" in run.metrics]
    row["pixel_aupro"] = _mean(aupros) if len(aupros) == len(runs) else None  # a run of an earlier version has none
    for metric in (TIME, MEMORY):
        row[metric] = _mean(run.metrics[metric] for run in runs if metric in run.metrics)
    return row | {"run_ids": ";".join(run.run_id for run in runs)}


def _mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return round(fmean(found), 6) if found else None


def _block(images: str, rows: Sequence[Datum]) -> list[Line]:
    best = {name: max((_hundredths(row, name) for row in rows), default=0.0) for name in AUROCS}
    lines: list[Line] = []
    for row in rows:
        texts = [
            "" if lines else images,
            f"{row['model']}-{row['backbone']} {row['setting']}".rstrip(),
            row["altub"],
            row["image_size"],
            f"{row['first_epoch']}–{row['last_epoch']}",
            row["seeds"] or row["states"],
        ]
        aurocs = [Entry(_auroc(row, name), bold=0 < best[name] == _hundredths(row, name)) for name in AUROCS]
        numbers = [_text(row[key], decimals) for key, decimals in (("pixel_aupro", 2), (TIME, 1), (MEMORY, 0))]
        lines.append([*(Entry(str(text)) for text in texts), *aurocs, *(Entry(text) for text in numbers)])
    return lines


def _auroc(row: Datum, name: str) -> str:
    """Return mean ± standard deviation, which a single epoch does not have."""
    mean, std = (_text(row[f"{name}_{statistic}"], 2) for statistic in ("mean", "std"))
    return mean if std == _text(None, 2) else f"{mean} ± {std}"


def _text(value: object, decimals: int) -> str:
    return number(value if isinstance(value, float) else None, decimals)


def _hundredths(row: Datum, name: str) -> float:
    """Return the mean at the digits that are shown; 0 if there is none."""
    mean = row[f"{name}_mean"]
    return round(mean, 2) if isinstance(mean, float) else 0.0


def _cost(runs: Iterable[Run]) -> list[str]:
    """Return a sentence on the devices that scored the images, and one on the runs that have not been measured."""
    runs = list(runs)
    measured = [run for run in runs if TIME in run.metrics]
    devices = sorted({run.tags.get("device", "an unknown device") for run in measured})
    sentences = [f"Time and memory measured on {' and '.join(devices)}."] if devices else []
    if others := len(runs) - len(measured):
        command = "python -m altub_exp.measure RUN --timing 100"
        sentences.append(f"Without time and memory: {others} of {len(runs)} runs; `{command}` measures them.")
    return sentences
