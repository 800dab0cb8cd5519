"""The tables of the study's page, every entry as its text."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from altub_exp.runs.states import RunState
from analysis.paper.values import BACKBONES
from analysis.study.answers import Answers
from analysis.study.controls import BASES, STATISTICS, Control, Gap, names_of
from analysis.study.effects import Effect, Verdict
from analysis.study.grid import MISSING, PlannedRun
from analysis.study.measures import LOGARITHMS, is_complete, measure
from analysis.study.protocol import ARMS, CHOOSING, CLAIMS, DATA, INDICATORS, NORMS, STEPS, step
from analysis.study.table6 import COMPARISONS, papers, runs_of
from analysis.tables.table import MINUS, difference, number

NONE = "—"

RUN_STATES = (RunState.finished, RunState.crashed, RunState.running, RunState.failed, MISSING)


@dataclass(frozen=True)
class Sheet:
    """A table: its heads and rows, of which the first ``labels`` columns are texts and the others numbers."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    labels: int


def shown(value: float | None, statistic: str) -> str:
    """Return a difference as text: in points with its sign, or as a factor.

    >>> shown(-1.234, "mean"), shown(math.log(0.5), "log_sd"), shown(None, "mean")
    ('−1.23', '×0.50', '—')
    """
    if value is None:
        return NONE
    return f"×{math.exp(value):.2f}" if statistic in LOGARITHMS else difference(value, 0, 2)


def with_interval(effect: Effect, statistic: str) -> str:
    """Return an effect with its interval as text."""
    if effect.value is None:
        return MISSING
    return f"{shown(effect.value, statistic)} [{shown(effect.low, statistic)}, {shown(effect.high, statistic)}]"


def p_text(p: float | None) -> str:
    """Return a p-value as text.

    >>> p_text(0.0123), p_text(1.9e-6), p_text(None)
    ('0.012', '1.9e−06', '—')
    """
    return NONE if p is None else f"{p:.2g}".replace("-", MINUS)


def pair_counts(effect: Effect) -> str:
    """Return the number of pairs of an effect: complete ones of the planned, crashed ones, missing data sets."""
    entered, planned, crashed = effect.counts
    text = f"{entered} of {planned}" + (f", {crashed} crashed" if crashed else "")
    return text + (f"; without {', '.join(effect.missing)}" if effect.missing else "")


def with_missing(effect: Effect, statistic: str) -> str:
    """Return an effect with its interval as text, and its numbers of pairs if data sets are missing."""
    return with_interval(effect, statistic) + (f" ({pair_counts(effect)})" if effect.missing else "")


def runs(answers: Answers) -> Sheet:
    """Return the states of the planned runs by part."""
    rows = []
    for name, planned in answers.parts.items():
        counts = Counter(run.state for run in planned)
        rows.append([name, str(len(planned)), *(str(counts[state]) for state in RUN_STATES)])
    return Sheet(("part", "planned", *RUN_STATES), rows, 1)


def levels(answers: Answers) -> Sheet:
    """Return the means over the seeds of each arm, norm and data set of part a."""
    rows = []
    for data in DATA:
        for norm in NORMS:
            for arm in ARMS:
                base = "none" if arm == "fitted" else arm
                planned = [run for run in answers.grid if (run.data, run.norm, run.base) == (data, norm, base)]
                rows.append([data.name, norm, f"`{arm}`", *_level(planned, arm, data.primary)])
    heads = ("data", "norm", "arm", "runs", "mean", "sd", "last epoch", "KS")
    return Sheet(heads, rows, 3)


def _level(planned: Sequence[PlannedRun], arm: str, metric: str) -> list[str]:
    """Return the number of complete runs, and their mean, standard deviation, last epoch and KS statistic."""
    complete = [run.run for run in planned if run.run is not None and is_complete(run.run, arm, metric)]
    texts = [f"{len(complete)} of {len(planned)}"]
    if not complete:
        return [*texts, *[NONE] * 4]

    def mean(statistic: str, of: Callable[[float], float] = lambda value: value) -> float:
        return float(np.mean([of(measure(run, arm, metric, statistic)) for run in complete]))

    ks = mean("ks")
    return [
        *texts,
        number(mean("mean"), 2),
        number(100 * mean("log_sd", math.exp), 2),
        number(mean("last"), 2),
        NONE if math.isnan(ks) else number(ks, 2),
    ]


def short(answers: Answers) -> Sheet:
    """Return the verdicts of the primary family, one row per claim, one column per norm."""

    def entry(verdict: Verdict) -> str:
        if verdict.p is None:
            return f"missing ({'{} of {}'.format(*verdict.effect.counts)} pairs)"
        return f"**{verdict.word}**: {with_interval(verdict.effect, verdict.claim.statistic)}, p = {p_text(verdict.p)}"

    rows = [
        [f"{claim.name} {claim.text}", *(entry(verdict) for verdict in answers.primary if verdict.claim == claim)]
        for claim in CLAIMS
    ]
    return Sheet(("AltUB is …", *(f"norm {norm}" for norm in NORMS)), rows, 1 + len(NORMS))


def claims(verdicts: Iterable[Verdict]) -> Sheet:
    """Return effect, p and verdict of every claim and norm."""
    rows = [
        [
            f"{verdict.claim.name} {verdict.claim.text}",
            verdict.norm,
            with_interval(verdict.effect, verdict.claim.statistic),
            p_text(verdict.effect.p),
            p_text(verdict.p),
            pair_counts(verdict.effect),
            f"**{verdict.word}**",
        ]
        for verdict in verdicts
    ]
    return Sheet(("claim", "norm", "effect [95 %]", "p", "p (Holm)", "pairs", "verdict"), rows, 2)


def by_set(verdicts: Iterable[Verdict]) -> Sheet:
    """Return the mean difference of every claim and norm on each data set, with the number of pairs."""
    rows = [
        [
            f"{verdict.claim.name} {verdict.claim.text}",
            verdict.norm,
            *(
                f"{shown(pairs.mean, verdict.claim.statistic)} ({len(pairs.differences)} of {pairs.planned})"
                for pairs in verdict.effect.pairs
            ),
        ]
        for verdict in verdicts
    ]
    return Sheet(("claim", "norm", *(data.name for data in DATA)), rows, 2)


def roughness(answers: Answers) -> Sheet:
    """Return the effects on the roughness of the curves."""
    rows = [
        [norm, with_interval(effect, "log_roughness"), p_text(effect.p), pair_counts(effect)]
        for norm, effect in zip(NORMS, answers.roughness, strict=True)
    ]
    return Sheet(("norm", "factor [95 %]", "p", "pairs"), rows, 1)


def backbone(answers: Answers) -> Sheet:
    """Return the effects on the second backbone."""
    rows = [
        [
            f"{verdict.claim.name} {verdict.claim.text}",
            verdict.norm,
            with_interval(effect, verdict.claim.statistic),
            *(shown(pairs.mean, verdict.claim.statistic) for pairs in effect.pairs),
            pair_counts(effect),
        ]
        for verdict, effect in answers.backbone
    ]
    return Sheet(("claim", "norm", "effect [95 %]", *(data.name for data in CHOOSING), "pairs"), rows, 2)


def origins(answers: Answers) -> Sheet:
    """Return how standardising and alternating add up to the effect on the mean AUROC, one column per norm."""
    whole = {verdict.norm: verdict.effect for verdict in answers.primary if verdict.claim.statistic == "mean"}
    rows = [
        [name, *(with_missing(answers.decomposition[step(name, norm)][0], "mean") for norm in NORMS)] for name in STEPS
    ]
    rows.append(["AltUB altogether", *(with_missing(whole[norm], "mean") for norm in NORMS)])
    return Sheet(("", *(f"norm {norm}" for norm in NORMS)), rows, 1)


def decomposition(answers: Answers) -> Sheet:
    """Return the effects of the contrasts."""
    rows = [
        [mean.name, with_interval(mean, "mean"), with_interval(sd, "log_sd"), pair_counts(mean)]
        for mean, sd in answers.decomposition.values()
    ]
    return Sheet(("difference", "mean AUROC [95 %]", "sd, factor [95 %]", "pairs"), rows, 1)


def controls(answers: Answers, *names: str) -> Sheet:
    """Return the settings of parts of the grid, each beside ``none`` and ``alternating`` of the same surroundings."""
    rows = []
    for control in (control for name in names for control in answers.controls[name]):
        first = control.first
        texts = _level(control.runs, first.base, first.data.primary)
        against = (_with_range(control, base, "mean") for base in BASES)
        rows.append([first.data.name, first.backbone, first.norm, control.name, *texts[:4], *against])
    heads = ("data", "backbone", "norm", "setting", "runs", "mean", "sd", "last epoch", "Δ none", "Δ AltUB")
    return Sheet(heads, rows, 4)


def replacements(answers: Answers) -> Sheet:
    """Return what other bases and settings change in place of ``alternating``, one column per data set and norm."""
    places = answers.replacements
    rows = [
        [name, *(_with_range(of_place.get(name), "alternating", *STATISTICS) for of_place in places.values())]
        for name in names_of(places)
    ]
    return Sheet(("in place of `alternating`", *places), rows, 1)


def table6(answers: Answers) -> Sheet:
    """Return the comparisons of the paper's Table 6, its own on each backbone and one column per data set and norm."""
    places = answers.replacements
    rows = []
    for comparison in COMPARISONS:
        base, reference = comparison
        for statistic, word in zip(STATISTICS, ("mean", "sd"), strict=True):
            found = [_with_range(control, reference, statistic) for control in runs_of(base, places)]
            paper = [papers(comparison, backbone, statistic) for backbone in BACKBONES]
            texts = [it if isinstance(it, str) else shown(it, statistic) for it in paper]
            rows.append([f"`{base}` against `{reference}`, {word}", " / ".join(texts), *found])
    return Sheet(("comparison", f"paper, capsule: {' / '.join(BACKBONES)}", *places), rows, 1)


def _with_range(control: Control | None, base: str, *statistics: str) -> str:
    """Return mean differences, the smallest and largest of several seeds, and their number if some are missing."""
    if control is None or (base, statistics[0]) not in control.gaps:
        return NONE
    gaps = [(control.gaps[base, statistic], statistic) for statistic in statistics]
    text = "; ".join(_of_gap(gap, statistic) for gap, statistic in gaps)
    pairs, planned = gaps[0][0].pairs, len(control.runs)
    return text if pairs == planned else f"{text} ({pairs} of {planned})"


def _of_gap(gap: Gap, statistic: str) -> str:
    mean, low, high = (shown(value, statistic) for value in (gap.mean, gap.low, gap.high))
    return mean if gap.pairs == 1 else f"{mean} [{low}, {high}]"


def foretelling(answers: Answers) -> Sheet:
    """Return the rank correlations within runs and over runs."""
    rows = []
    for found in answers.correlations:
        quartiles = NONE
        if found.quartiles is not None:
            low, middle, high = (difference(rho, 0, 2) for rho in found.quartiles)
            quartiles = f"{middle} [{low}, {high}]"
        over = (difference(rho, 0, 2) for rho in (found.over_runs, *(found.over_runs_of.get(norm) for norm in NORMS)))
        negative = f"{found.negative} of {len(found.within)}"
        rows.append([INDICATORS[found.indicator], found.data.name, quartiles, negative, *over])
    heads = ("quantity", "data", "within runs", "negative", "over runs", *(f"norm {norm}" for norm in NORMS))
    return Sheet(heads, rows, 2)


def candidates(answers: Answers) -> Sheet:
    """Return the recipes on the data sets of the choice."""
    rows = [
        [candidate.norm, f"`{candidate.arm}`", number(candidate.mean, 2), number(candidate.sd, 2)]
        for candidate in answers.choice.candidates
    ]
    return Sheet(("norm", "arm", "mean AUROC", "sd"), rows, 2)


def regrets(answers: Answers) -> Sheet:
    """Return the regrets of the rules for when to stop, in points."""
    rows = [
        [regret.rule, *(shown(regret.by_set.get(data.name), "mean") for data in DATA)]
        for regret in answers.choice.regrets
    ]
    return Sheet(("rule", *(data.name for data in DATA)), rows, 1)


def checks(answers: Answers) -> Sheet:
    """Return the effects of the recipe against the published ones."""
    choice = answers.choice
    rows = [
        [
            check.name,
            with_interval(check, "mean"),
            *(shown(pairs.mean, "mean") for pairs in check.pairs),
            p_text(check.p),
            p_text(p),
            pair_counts(check),
        ]
        for check, p in zip(choice.checks, choice.p, strict=True)
    ]
    sets = [pairs.data.name for check in choice.checks[:1] for pairs in check.pairs]
    return Sheet(("comparison", "effect [95 %]", *sets, "p", "p (Holm)", "pairs"), rows, 1)
