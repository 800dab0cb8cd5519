"""The changes by AltUB on images outside of the paper: every condition that has runs both without and with it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analysis.paper.paper_cells import METRICS, PAIR
from analysis.runs import provenance
from analysis.runs.conditions import Condition, Variant, conditions
from analysis.runs.records import Records
from analysis.runs.run import Run
from analysis.tables.table import Entry, Line, Table, difference

COLUMNS = ("data", "model", "AUROC", "seeds", "mean w/o", "mean AltUB", "Δ mean", "sd w/o", "sd AltUB", "Δ sd")
REMARKS = (
    "Only finished runs with all epochs of their window count, and only seeds that have runs both without and with "
    "AltUB; means over these seeds. Bold: the better of the pair at the digits shown.",
    "One setting, or one seed, decides nothing: vary `seed=` and the category.",
)


def pairs(records: Records) -> Table:
    """Return the AUROC in percent without and with AltUB and the difference in percentage points, by condition."""
    blocks, data, used = [], [], dict[str, Run]()
    for condition in conditions(records.runs):
        sides = [[variant for variant in condition.variants if variant.base == base] for base in PAIR]
        for without in sides[0]:
            for altub in sides[1]:
                for task, metric in METRICS.items():
                    runs = _paired(without, altub, metric)
                    if runs:
                        line, datum = _row(condition, altub, task, metric, runs)
                        blocks.append([line])
                        data.append(datum)
                        used |= {run.run_id: run for pair in runs for run in pair}
    return Table(
        name="pairs",
        title="Without and with AltUB",
        caption="AUROC (%) over the window of epochs without and with AltUB, outside of the paper's data sets.",
        columns=COLUMNS,
        blocks=blocks,
        data=data,
        labels=3,
        remarks=REMARKS,
        provenance=provenance.sentences(records, used.values()),
        run_ids=list(used),
    )


def _paired(without: Variant, altub: Variant, metric: str) -> list[tuple[Run, Run]]:
    """Return the complete runs that both variants have of the same seed."""
    sides = [{run.seed: run for run in variant.complete(metric)} for variant in (without, altub)]
    return [(sides[0][seed], sides[1][seed]) for seed in sides[0] if seed in sides[1]]


def _row(
    condition: Condition, altub: Variant, task: str, metric: str, runs: Sequence[tuple[Run, Run]]
) -> tuple[Line, dict[str, object]]:
    subject = condition.subject
    setting = altub.setting(condition)
    datum: dict[str, object] = {**subject._asdict(), "setting": setting, "task": task, "seeds": len(runs)}
    line = [
        Entry(f"{subject.dataset}/{subject.category}"),
        Entry(f"{subject.model}-{subject.backbone} {setting}".rstrip()),
        Entry(metric.split("_")[0]),
        Entry(str(len(runs))),
    ]
    for statistic, short, sign in (("mean", "mean", 1), ("std", "sd", -1)):
        without, with_altub = (
            float(np.mean([100 * getattr(found, statistic) for run in side if (found := run.statistics(metric))]))
            for side in zip(*runs, strict=True)
        )
        gain = sign * (round(with_altub, 2) - round(without, 2))
        line += [
            Entry(f"{without:.2f}", bold=gain < 0),
            Entry(f"{with_altub:.2f}", bold=gain > 0),
            Entry(difference(with_altub, without, 2)),
        ]
        datum |= {
            f"{short}_none": without,
            f"{short}_alternating": with_altub,
            f"{short}_difference": with_altub - without,
        }
    datum["run_ids"] = ";".join(run.run_id for pair in runs for run in pair)
    return line, datum
