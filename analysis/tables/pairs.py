"""What AltUB changes on images that are none of the paper's: every setting that has runs both without and with it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analysis.paper.paper_cells import METRICS, PAIR
from analysis.runs import provenance
from analysis.runs.conditions import Line, Setting, settings
from analysis.runs.records import Records, Run
from analysis.tables.table import Datum, Sheet, Text, difference

SHOWN = (("mean", "mean"), ("std", "sd"))
COLUMNS = ("data", "model", "AUROC", "seeds", "mean w/o", "mean AltUB", "Δ mean", "sd w/o", "sd AltUB", "Δ sd")
REMARKS = (
    "Only finished runs with all epochs of their window count, and only seeds that are there both without and with "
    "AltUB; means over these seeds. Bold: the better of the pair at the digits shown.",
    "One setting, or one seed, decides nothing: vary `seed=` and the category.",
)


def pairs(records: Records) -> Sheet:
    """AUROC in percent without and with AltUB and the difference in percentage points, one row per setting."""
    lines, data, used = [], [], dict[str, Run]()
    for setting in settings(records.runs):
        sides = [[line for line in setting.lines if line.base == base] for base in PAIR]
        for without in sides[0]:
            for altub in sides[1]:
                for task, metric in METRICS.items():
                    runs = _paired(without, altub, metric)
                    if runs:
                        line, datum = _row(setting, altub, task, metric, runs)
                        lines.append([line])
                        data.append(datum)
                        used |= {run.run_id: run for pair in runs for run in pair}
    return Sheet(
        name="pairs",
        title="Without and with AltUB",
        caption="AUROC (%) over the window of epochs without and with AltUB, outside of the paper's data sets.",
        columns=COLUMNS,
        blocks=lines,
        data=data,
        labels=3,
        remarks=REMARKS,
        provenance=provenance.sentences(records, used.values()),
        run_ids=list(used),
    )


def _paired(without: Line, altub: Line, metric: str) -> list[tuple[Run, Run]]:
    """Complete runs of the same seed."""
    sides = [
        {run.tags.get("seed"): run for run in line.runs if run.state == "finished" and not run.absent(metric)}
        for line in (without, altub)
    ]
    return [(sides[0][seed], sides[1][seed]) for seed in sides[0] if seed in sides[1]]


def _row(
    setting: Setting, altub: Line, task: str, metric: str, runs: Sequence[tuple[Run, Run]]
) -> tuple[list[Text], Datum]:
    dataset, category, model, backbone = setting.place
    differs = {**setting.short, **altub.differs}
    datum: dict[str, object] = {
        "dataset": dataset,
        "category": category,
        "model": model,
        "backbone": backbone,
        "setting": " ".join(f"{key}={value}" for key, value in differs.items()),
        "task": task,
        "seeds": len(runs),
    }
    name_of_model = f"{model}-{backbone} {datum['setting']}".rstrip()
    texts = [f"{dataset}/{category}", name_of_model, metric.split("_")[0], str(len(runs))]
    shown = list(map(Text, texts))
    for name, short in SHOWN:
        sides = [
            float(np.mean([100 * getattr(found, name) for run in side if (found := run.statistics(metric))]))
            for side in zip(*runs, strict=True)
        ]
        rounded = [round(side, 2) for side in sides]
        better = (rounded[1] > rounded[0]) if name == "mean" else (rounded[1] < rounded[0])
        same = rounded[0] == rounded[1]
        shown += [
            Text(f"{sides[0]:.2f}", bold=not better and not same),
            Text(f"{sides[1]:.2f}", bold=better),
            Text(difference(sides[1], sides[0], 2)),
        ]
        datum |= {
            f"{short}_none": sides[0],
            f"{short}_alternating": sides[1],
            f"{short}_difference": sides[1] - sides[0],
        }
    datum["run_ids"] = ";".join(run.run_id for pair in runs for run in pair)
    return shown, datum
