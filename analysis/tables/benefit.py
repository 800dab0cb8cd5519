"""The benefit of AltUB: paired differences from the baseline, and the recognition of good epochs without labels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from analysis.paper.cells import Cell
from analysis.paper.paper_cells import CFLOW_BACKBONE, METRICS, PAIR, PaperCells
from analysis.paper.values import BACKBONES, Key, Value, categories
from analysis.runs import provenance
from analysis.runs.run import Run
from analysis.tables.layout import label
from analysis.tables.table import Datum, Entry, Line, Table, difference

RESAMPLES = 9999
SEED = 25
"""Of the bootstrap, so that the same runs always give the same table."""

FEWEST_CHECKPOINTS = 5
"""A rank correlation over fewer points says nothing."""

ALL_BACKBONES = "FastFlow, all four"

REMARKS = (
    "Differences AltUB − baseline, in percentage points, each pair one category; in brackets the 95 % bootstrap "
    "interval of the mean difference (percentile, 9999 resamples); p of the two-sided Wilcoxon signed-rank test.",
    "mean ≥, sd <: number of pairs in which AltUB's mean is at least the baseline's, its sd smaller, at the "
    "digits that are printed (mean 1, sd 2 decimals). The paper's own numbers are in its lines.",
    "All four backbones share their categories: their pairs are not independent; p and interval there are too small.",
    "ρ: Spearman's rank correlation, within one run over its checkpoints, of the KS statistic on the normal training "
    "images with the segmentation AUROC: median over runs [quartiles], number of runs. Clearly negative would mean "
    "that good epochs can be recognised without labels.",
)


@dataclass(frozen=True)
class Comparison:
    """Paired differences over n pairs, in percentage points.

    Attributes:
        pairs: n.
        difference: their mean.
        low: lower end of its 95 % bootstrap interval; None for fewer than two pairs.
        high: upper end.
        p: p-value of the Wilcoxon signed-rank test; None for fewer than two pairs, or if all differences are zero.
    """

    pairs: int
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None


def compare(without: Sequence[float], with_altub: Sequence[float], decimals: int) -> Comparison:
    """Return the paired comparison; differences are rounded to ``decimals`` + 6 places, so that equal numbers tie.

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
    """Return Spearman's ρ of ``ks`` and ``pixel_auroc`` over the epochs that have both; None if it says nothing."""
    ks, auroc = run.series.get("ks", {}), run.series.get("pixel_auroc", {})
    points = np.array([(ks[epoch], auroc[epoch]) for epoch in sorted(ks.keys() & auroc.keys())])
    if _is_degenerate(points) or not np.isfinite(points).all():
        return None
    return float(stats.spearmanr(points[:, 0], points[:, 1]).statistic)


def _is_degenerate(points: np.ndarray) -> bool:
    return len(points) < FEWEST_CHECKPOINTS or bool((np.ptp(points, axis=0) == 0).any())


def benefit(source: PaperCells) -> Table:
    """Return the comparison for each backbone, for all four, and for CFLOW-AD: ours and the paper's."""
    groups = {
        f"FastFlow {label(backbone)}": [
            source.pair(category, "fastflow", backbone) for category in categories("table_a1")
        ]
        for backbone in BACKBONES
    }
    groups[ALL_BACKBONES] = [pair for pairs in groups.values() for pair in pairs]
    for task in METRICS:
        pairs = [source.pair(category, "cflow", CFLOW_BACKBONE, task) for category in categories("table_a1")]
        groups[f"CFLOW-AD, {task}"] = pairs
    blocks: list[list[Line]] = []
    data: list[Datum] = []
    used: dict[str, Run] = {}
    counts: dict[str, int] = {}
    correlations: dict[str, tuple[Run, Key, float]] = {}
    for name, pairs in groups.items():
        complete = [(without, altub) for (without, _), (altub, _) in pairs if without.complete and altub.complete]
        counts[name] = len(complete)
        used |= {run.run_id: run for pair in complete for cell in pair for run in cell.runs}
        of_base: dict[str, list[float]] = {}
        for cell, _ in (side for pair in pairs for side in pair):
            for run in cell.runs if cell.complete and cell.key.task == "segmentation" else ():
                rho = rank_correlation(run)
                if rho is not None:
                    of_base.setdefault(cell.key.altub, []).append(rho)
                    correlations[run.run_id] = run, cell.key, rho
                    used[run.run_id] = run
        ours, ours_data = _row(name, "ours", complete, len(pairs), of_base)
        printed = [(without, altub) for (_, without), (_, altub) in pairs]
        paper, paper_data = _row("", "paper", printed, len(pairs), {})
        blocks.append([ours, paper])
        data += [ours_data, {**paper_data, "group": name}]
    data += [_run_datum(run, key, rho) for run, key, rho in correlations.values()]
    return Table(
        name="benefit",
        title="Does AltUB help?",
        caption="Paired differences with − without AltUB on MVTec AD, over the window of epochs.",
        columns=("", "", "pairs", "Δ mean", "p", "Δ sd", "p", "mean ≥", "sd <", "ρ without", "ρ AltUB"),
        blocks=blocks,
        data=data,
        remarks=[*REMARKS, *_across([run for run, _, _ in correlations.values()])],
        provenance=provenance.sentences(source.records, used.values()),
        run_ids=list(used),
        count=f"{counts[ALL_BACKBONES]} of {len(groups[ALL_BACKBONES])} pairs of FastFlow",
    )


Pair = tuple[Cell | Value, Cell | Value]
"""Without and with AltUB."""


def _row(
    name: str, kind: str, pairs: Sequence[Pair], possible: int, correlations: Mapping[str, Sequence[float]]
) -> tuple[Line, Datum]:
    """Return the line of a group and its row of the CSV; ``correlations`` are by base distribution."""
    means = [[float(cell.mean or 0) for cell in side] for side in zip(*pairs, strict=True)] or [[], []]
    stds = [[float(cell.std or 0) for cell in side] for side in zip(*pairs, strict=True)] or [[], []]
    mean, std = compare(means[0], means[1], 1), compare(stds[0], stds[1], 2)
    higher = sum(round(altub, 1) >= round(without, 1) for without, altub in zip(*means, strict=True))
    steadier = sum(round(altub, 2) < round(without, 2) for without, altub in zip(*stds, strict=True))
    count = len(pairs)
    texts = [
        name,
        kind,
        f"{count} of {possible}",
        *_texts(mean),
        *_texts(std),
        f"{higher}/{count}" if count else "—",
        f"{steadier}/{count}" if count else "—",
        *(_quartiles(correlations.get(altub, ())) if kind == "ours" else "" for altub in PAIR),
    ]
    datum: dict[str, object] = {
        "row": kind,
        "group": name,
        "pairs": count,
        "possible_pairs": possible,
        **{f"mean_{key}": value for key, value in vars(mean).items() if key != "pairs"},
        **{f"std_{key}": value for key, value in vars(std).items() if key != "pairs"},
        "mean_at_least": higher,
        "std_smaller": steadier,
    }
    for altub in PAIR:
        of_base = correlations.get(altub, ())
        datum[f"rho_{altub}_median"] = float(np.median(of_base)) if of_base else None
        datum[f"rho_{altub}_runs"] = len(of_base)
        datum[f"rho_{altub}_negative"] = sum(rho < 0 for rho in of_base)
    runs = (run for pair in pairs for cell in pair if isinstance(cell, Cell) for run in cell.runs)
    datum["run_ids"] = ";".join(run.run_id for run in runs)
    return [Entry(text) for text in texts], datum


def _texts(compared: Comparison) -> tuple[str, str]:
    """Return the texts of the difference with its interval, and of p."""
    if compared.difference is None:
        return "—", "—"
    text = difference(compared.difference, 0, 2)
    if compared.low is not None and compared.high is not None:
        text += f" [{difference(compared.low, 0, 2)}, {difference(compared.high, 0, 2)}]"
    return text, "—" if compared.p is None else f"{compared.p:.2g}"


def _quartiles(correlations: Sequence[float]) -> str:
    if not correlations:
        return "—"
    low, middle, high = (difference(float(rho), 0, 2) for rho in np.quantile(correlations, (0.25, 0.5, 0.75)))
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


def _across(runs: Sequence[Run]) -> list[str]:
    """Return a sentence on the correlation, across runs, of the KS statistic with the steadiness; none if undefined."""
    points = []
    for run in runs:
        first, last = run.window
        ks = [value for epoch, value in run.series["ks"].items() if first <= epoch <= last]
        statistics = run.statistics("pixel_auroc")
        if ks and statistics is not None:
            points.append((float(np.mean(ks)), statistics.std))
    array = np.array(points)
    if _is_degenerate(array):
        return []
    rho = stats.spearmanr(array[:, 0], array[:, 1])
    if math.isnan(rho.statistic):
        return []
    return [
        f"Across {len(points)} runs, Spearman's ρ of the mean KS statistic over the window with the standard deviation "
        f"of the segmentation AUROC is {difference(float(rho.statistic), 0, 2)} (p = {rho.pvalue:.2g})."
    ]
