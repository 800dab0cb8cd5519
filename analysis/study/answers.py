"""All numbers of the study's page, computed from the recorded runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from analysis.runs import provenance
from analysis.runs.records import Records
from analysis.study.controls import Control, controls, in_place_of_altub
from analysis.study.effects import Effect, Verdict, contrast_effect, verdicts
from analysis.study.foretelling import Correlations, correlations
from analysis.study.grid import PlannedRun, part
from analysis.study.protocol import CHOOSING, DECOMPOSITION, IMAGE, NORMS, PARTS, Contrast, between
from analysis.study.recipe import Choice, choose


@dataclass(frozen=True)
class Answers:
    """The study's results.

    Attributes:
        parts: the planned runs of every part.
        primary: the verdicts with the primary AUROCs.
        secondary: the verdicts with the image AUROC.
        roughness: for each norm the effect on the standard deviation of the differences between epochs.
        backbone: the primary claims' effects in part b, by claim and norm.
        decomposition: the contrasts' effects on the mean AUROC and on the logarithm of its standard deviation.
        controls: the settings of the parts c, d and e beside ``none`` and ``alternating``.
        correlations: the rank correlations of quantities without labels.
        choice: the recipe and its check.
        provenance: sentences on commits, versions and epochs of the runs.
    """

    parts: Mapping[str, Sequence[PlannedRun]]
    primary: Sequence[Verdict]
    secondary: Sequence[Verdict]
    roughness: Sequence[Effect]
    backbone: Sequence[tuple[Verdict, Effect]]
    decomposition: Mapping[Contrast, tuple[Effect, Effect]]
    controls: Mapping[str, Sequence[Control]]
    correlations: Sequence[Correlations]
    choice: Choice
    provenance: Sequence[str]

    @property
    def grid(self) -> Sequence[PlannedRun]:
        """The runs of part a, which the claims are about."""
        return self.parts["a"]

    @cached_property
    def replacements(self) -> Mapping[str, Mapping[str, Control]]:
        """The settings that have pairs with ``alternating`` of part a, by data set and norm, then by name."""
        return in_place_of_altub(self.controls)


def answers(records: Records) -> Answers:
    """Compute all answers."""
    parts = {name: part(name, records.runs) for name in PARTS}
    grid = parts["a"]
    primary = verdicts(grid)
    used = {run.run.run_id: run.run for runs in parts.values() for run in runs if run.run is not None}
    return Answers(
        parts=parts,
        primary=primary,
        secondary=verdicts(grid, IMAGE),
        roughness=[contrast_effect(grid, between("alternating", "none", norm), "log_roughness") for norm in NORMS],
        backbone=[
            (
                verdict,
                contrast_effect(parts["b"], between("alternating", "none", verdict.norm), statistic, None, CHOOSING),
            )
            for verdict in primary
            for statistic in [verdict.claim.statistic]
        ],
        decomposition={
            contrast: (contrast_effect(grid, contrast, "mean"), contrast_effect(grid, contrast, "log_sd"))
            for contrast in DECOMPOSITION
        },
        controls=controls(parts, "c", "d", "e"),
        correlations=correlations(grid),
        choice=choose(grid),
        # without the time and place of reading, so that the same records always make the same page
        provenance=provenance.sentences(records, used.values())[1:-1],
    )
