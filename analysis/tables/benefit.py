"""Does AltUB help? Paired differences AltUB − baseline over categories, and whether steadiness shows without labels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from analysis.paper.cells import Cell
from analysis.paper.paper_cells import CFLOW_BACKBONE, METRICS, PAIR, Source
from analysis.paper.values import BACKBONES, Key, Value, categories, values
from analysis.runs import provenance
from analysis.runs.records import Run
from analysis.tables.layout import label
from analysis.tables.table import Datum, Line, Sheet, Text, difference

RESAMPLES = 9999
SEED = 25
"""Of the bootstrap, so that a table that is made again is the same."""

FEWEST_CHECKPOINTS = 5
"""A rank correlation over fewer says nothing."""

REMARKS = (
    "Differences AltUB − without, in percentage points, each pair one category; in brackets the 95 % bootstrap "
    "interval of the mean difference (percentile, 9999 resamples); p of the two-sided Wilcoxon signed-rank test.",
    "mean ≥, sd <: in how many pairs AltUB's mean is at least the baseline's, its standard deviation smaller, at the "
    "digits that are printed (mean 1, sd 2 decimals). The paper's own numbers are in its lines.",
    "All four backbones share their categories: their pairs are not independent; p and interval there are too small.",
    "ρ: Spearman's rank correlation, within one run over its checkpoints, of the KS statistic on the normal training "
    "images with the segmentation AUROC: median over runs [quartiles], number of runs. Clearly negative would mean "
    "that good epochs can be told without labels.",
)


@dataclass(frozen=True)
class Comparison:
    """Paired differences over n pairs, in percentage points.

    Attributes:
        pairs: n.
        difference: their mean.
        low: lower end of its 95 % bootstrap interval; None for fewer than two pairs.
        high: upper end.
        p: of the Wilcoxon signed-rank test; None for fewer than two pairs, or if all differences are zero.
    """

    pairs: int
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None


def compare(without: Sequence[float], with_altub: Sequence[float], decimals: int) -> Comparison:
    """Paired comparison; differences are rounded to ``decimals`` + 6 places, so that equal numbers tie.

    >>> compare([98.1, 98.0, 97.0], [98.6, 98.1, 97.3], 1).difference
    0.3
    """
    gaps = np.round(np.subtract(with_altub, without), decimals + 6)
    if len(gaps) < 2:
        return Comparison(len(gaps), float(gaps[0]) if len(gaps) else None)
    interval = stats.bootstrap(
        (gaps,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(SEED)
    ).confidence_interval
    p = float(stats.wilcoxon(gaps).pvalue) if gaps.any() else None
    mean = round(float(gaps.mean()), decimals + 6)
    return Comparison(len(gaps), mean, float(interval.low), float(interval.high), p)


def rank_correlation(run: Run) -> float | None:
    """Spearman's ρ of ``ks`` and ``pixel_auroc`` over the epochs that have both; None where it says nothing."""
    ks, auroc = run.series.get("ks", {}), run.series.get("pixel_auroc", {})
    epochs = sorted(ks.keys() & auroc.keys())
    pairs = np.array([(ks[epoch], auroc[epoch]) for epoch in epochs])
    if len(epochs) < FEWEST_CHECKPOINTS or (np.ptp(pairs, axis=0) == 0).any() or not np.isfinite(pairs).all():
        return None
    return float(stats.spearmanr(pairs[:, 0], pairs[:, 1]).statistic)


Pair = tuple[Cell | Value, Cell | Value]


def benefit(source: Source) -> Sheet:
    """For each backbone, for all four, and for CFLOW-AD: ours and the paper's."""
    groups: dict[str, list[tuple[Key, Key]]] = {}
    for backbone in BACKBONES:
        groups[f"FastFlow {label(backbone)}"] = _keys("fastflow", backbone, "segmentation")
    groups["FastFlow, all four"] = [pair for several in groups.values() for pair in several]
    for task in METRICS:
        groups[f"CFLOW-AD, {task}"] = _keys("cflow", CFLOW_BACKBONE, task)
    blocks: list[list[Line]] = []
    data: list[Datum] = []
    used: dict[str, Run] = {}
    pairs: dict[str, int] = {}
    correlations: dict[str, tuple[Run, Key, float]] = {}
    for name, keys in groups.items():
        cells = [tuple(source.window("mvtec", key, "table2") for key in pair) for pair in keys]
        complete = [(without, altub) for without, altub in cells if without.complete and altub.complete]
        pairs[name] = len(complete)
        for pair in complete:
            used |= {run.run_id: run for cell in pair for run in cell.runs}
        found: dict[str, list[float]] = {}
        for cell in (cell for pair in cells for cell in pair if cell.complete):
            for run in cell.runs:
                rho = rank_correlation(run)
                if rho is not None and cell.key.task == "segmentation":
                    found.setdefault(cell.key.altub, []).append(rho)
                    correlations[run.run_id] = run, cell.key, rho
                    used[run.run_id] = run
        ours, ours_data = _row(name, "ours", complete, len(keys), found)
        paper, paper_data = _row("", "paper", [(_paper(one), _paper(other)) for one, other in keys], len(keys), {})
        blocks.append([ours, paper])
        data += [ours_data, {**paper_data, "group": name}]
    data += [_run_datum(run, key, rho) for run, key, rho in correlations.values()]
    return Sheet(
        name="benefit",
        title="Does AltUB help?",
        caption="Paired differences with − without AltUB on MVTec AD, over the window of epochs.",
        columns=("", "", "pairs", "Δ mean", "p", "Δ sd", "p", "mean ≥", "sd <", "ρ without", "ρ AltUB"),
        blocks=blocks,
        data=data,
        remarks=[*REMARKS, *_across(correlations)],
        provenance=provenance.sentences(source.records, used.values()),
        run_ids=list(used),
        count=f"{pairs['FastFlow, all four']} of {len(groups['FastFlow, all four'])} pairs of FastFlow",
    )


def _keys(model: str, backbone: str, task: str) -> list[tuple[Key, Key]]:
    return [
        (Key(category, model, backbone, PAIR[0], task), Key(category, model, backbone, PAIR[1], task))
        for category in categories("table_a1")
    ]


def _paper(key: Key) -> Value:
    if key.model == "fastflow":
        return values("table_a1")[key]
    return values("table2")[Key(key.category, key.model, "", key.altub, key.task)]


def _row(
    name: str, kind: str, pairs: Sequence[Pair], possible: int, correlations: Mapping[str, Sequence[float]]
) -> tuple[Line, Datum]:
    means = [[float(one.mean or 0) for one in side] for side in zip(*pairs, strict=True)] or [[], []]
    stds = [[float(one.std or 0) for one in side] for side in zip(*pairs, strict=True)] or [[], []]
    mean, std = compare(means[0], means[1], 1), compare(stds[0], stds[1], 2)
    higher = sum(round(altub, 1) >= round(without, 1) for without, altub in zip(*means, strict=True))
    steadier = sum(round(altub, 2) < round(without, 2) for without, altub in zip(*stds, strict=True))
    count = len(pairs)
    texts = [
        name,
        kind,
        f"{count} of {possible}",
        *_shown(mean),
        *_shown(std),
        f"{higher}/{count}" if count else "—",
        f"{steadier}/{count}" if count else "—",
        *(_quartiles(correlations.get(altub, ())) if kind == "ours" else "" for altub in PAIR),
    ]
    rho = {
        f"rho_{altub}_{what}": value
        for altub in PAIR
        for what, value in (
            ("median", float(np.median(correlations[altub])) if correlations.get(altub) else None),
            ("runs", len(correlations.get(altub, ()))),
            ("negative", sum(one < 0 for one in correlations.get(altub, ()))),
        )
    }
    datum = {
        "row": kind,
        "group": name,
        "pairs": count,
        "possible_pairs": possible,
        **{f"mean_{key}": value for key, value in vars(mean).items() if key != "pairs"},
        **{f"std_{key}": value for key, value in vars(std).items() if key != "pairs"},
        "mean_at_least": higher,
        "std_smaller": steadier,
        **rho,
        "run_ids": ";".join(
            run.run_id for pair in pairs for cell in pair if isinstance(cell, Cell) for run in cell.runs
        ),
    }
    return [Text(text) for text in texts], datum


def _shown(found: Comparison) -> tuple[str, str]:
    if found.difference is None:
        return "—", "—"
    text = difference(found.difference, 0, 2)
    if found.low is not None and found.high is not None:
        text += f" [{difference(found.low, 0, 2)}, {difference(found.high, 0, 2)}]"
    return text, "—" if found.p is None else f"{found.p:.2g}"


def _quartiles(correlations: Sequence[float]) -> str:
    if not correlations:
        return "—"
    low, middle, high = (difference(float(one), 0, 2) for one in np.quantile(correlations, (0.25, 0.5, 0.75)))
    return f"{middle} [{low}, {high}], {len(correlations)}"


def _run_datum(run: Run, key: Key, rho: float) -> Datum:
    return {
        "row": "run",
        "group": f"{key.model} {key.backbone}",
        "category": key.category,
        "altub": key.altub,
        "seed": run.tags.get("seed", ""),
        "rho": round(rho, 6),
        "run_ids": run.run_id,
    }


def _across(correlations: Mapping[str, tuple[Run, Key, float]]) -> list[str]:
    """Whether runs with a smaller KS statistic are the steadier ones."""
    points = []
    for run, _, _ in correlations.values():
        first, last = run.window
        ks = [value for epoch, value in run.series["ks"].items() if first <= epoch <= last]
        found = run.statistics("pixel_auroc")
        if ks and found is not None:
            points.append((float(np.mean(ks)), found.std))
    array = np.array(points)
    if len(points) < FEWEST_CHECKPOINTS or (np.ptp(array, axis=0) == 0).any():
        return []
    rho = stats.spearmanr(array[:, 0], array[:, 1])
    if math.isnan(rho.statistic):
        return []
    return [
        f"Across {len(points)} runs, Spearman's ρ of the mean KS statistic over the window with the standard deviation "
        f"of the segmentation AUROC is {difference(float(rho.statistic), 0, 2)} (p = {rho.pvalue:.2g})."
    ]
