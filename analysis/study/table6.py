"""The comparisons of other bases than AltUB's in the paper's Table 6, beside the study's runs of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from analysis.paper.values import Key, value
from analysis.study.controls import STATISTICS, Control, in_every_seed

WORDS = {"mean": ("higher on", "lower on", "neither on"), "log_sd": ("less steady on", "steadier on", "neither on")}


class Comparison(NamedTuple):
    """A base of the table and the one that the paper finds better."""

    base: str
    reference: str


COMPARISONS = (Comparison("stereotype", "alternating"), Comparison("cnn", "none"))
"""Section 5.4: the learning rate of ``stereotype`` is too small; ``cnn`` lowers the AUROC."""


def papers(comparison: Comparison, backbone: str, statistic: str) -> float | str:
    """Return the paper's difference on capsule, of the means or of the logarithms of the sd; a text if it has none."""
    mine, other = (value("table6", Key("capsule", "fastflow", backbone, base, "segmentation")) for base in comparison)
    if mine.mean is None or mine.std is None or other.mean is None or other.std is None:
        return mine.text or other.text
    return mine.mean - other.mean if statistic == "mean" else math.log(mine.std / other.std)


def runs_of(base: str, places: Mapping[str, Mapping[str, Control]]) -> list[Control | None]:
    """Return the runs of a base on every data set and with every norm; None where there are none."""
    return [of_place.get(f"`{base}`") for of_place in places.values()]


def findings(places: Mapping[str, Mapping[str, Control]]) -> list[str]:
    """Return for each comparison on which data sets and norms it has which sign in every seed of enough pairs."""
    sentences = []
    for base, reference in COMPARISONS:
        found = [control for control in runs_of(base, places) if control is not None]
        parts = []
        for statistic in STATISTICS:
            gaps = {
                f"{control.first.data.name} with norm {control.first.norm}": gap
                for control in found
                if (gap := control.gaps.get((reference, statistic)))
            }
            if part := in_every_seed(gaps, *WORDS[statistic]):
                parts.append(part)
        if parts:
            sentences.append(f"`{base}` against `{reference}`: {'; '.join(parts)}")
    return sentences
