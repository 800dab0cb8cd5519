"""The study's protocol in numbers: data sets, arms, parts and claims, as ``docs/study-protocol.md`` explains them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

PIXEL, IMAGE = "pixel_auroc", "image_auroc"
FITTED = "_fitted"
"""The suffix of a metric of ``none`` with its latents standardised, see ``eval.fitted``."""


@dataclass(frozen=True)
class DataSet:
    """One data set of the study.

    Attributes:
        name: its name on the page.
        dataset: the tag ``dataset`` of its runs.
        category: the tag ``category`` of its runs.
        primary: the metric of the claims.
    """

    name: str
    dataset: str
    category: str
    primary: str


DATA = (
    DataSet("screw", "mvtec", "screw", PIXEL),
    DataSet("elpv", "elpv", "mono", IMAGE),
    DataSet("hazelnut_toy", "mvtec", "hazelnut_toy", PIXEL),
    DataSet("ksdd", "folder", "ksdd_cut3", PIXEL),
)
"""In the order of the grid; a recipe is chosen on the first two and checked on the others."""

CHOOSING, CHECKING = DATA[:2], DATA[2:]

NORMS = ("trainable", "none", "counted")
ARMS = ("none", "fitted", "alternating")

PARTS = {
    "a": ("study_a",),
    "b": ("study_b",),
    "c": ("study_c", "study_c_nonaffine"),
    "d": ("study_d", "study_d_nats"),
    "e": ("study_e_freezing", "study_e_rate", "study_e_clipping", "study_e_lite2", "study_e_256px"),
    "f": ("study_f",),
}
"""The sweeps of each part of the grid."""

SEEDS = {"a": 5, "b": 3, "c": 3, "d": 3, "e": 3, "f": 1}
"""The number of seeds, counted from 1, of each part."""

FEWEST_PAIRS = 3
"""A data set with fewer complete pairs does not enter an effect."""

LEVEL = 0.05
"""Of a p-value after Holm's correction."""

SMALLEST_SD = 1e-4
"""A smaller standard deviation of an AUROC counts as this one: 0.01 points."""


class Claim(NamedTuple):
    """A claim about AltUB.

    Attributes:
        name: H1 to H4.
        text: the claim in words.
        statistic: the statistic of a run, see :func:`analysis.study.measures.measure`.
        sign: the claimed sign of ``alternating`` minus ``none``.
    """

    name: str
    text: str
    statistic: str
    sign: int


CLAIMS = (
    Claim("H1", "higher", "mean", 1),
    Claim("H2", "steadier", "log_sd", -1),
    Claim("H3", "last epoch better", "last", 1),
    Claim("H4", "closer to the base", "ks", -1),
)


class Term(NamedTuple):
    """One term of a contrast: the sign, the feature norm and the arm."""

    sign: int
    norm: str
    arm: str


class Contrast(NamedTuple):
    """A difference between runs of the same data set and seed: the signed sum of its terms."""

    name: str
    terms: tuple[Term, ...]


def between(arm: str, other: str, norm: str, name: str = "") -> Contrast:
    """Return the contrast of an arm minus another one, with the same norm.

    >>> between("alternating", "none", "counted").name
    'alternating − none, norm counted'
    """
    return Contrast(name or f"{arm} − {other}, norm {norm}", (Term(1, norm, arm), Term(-1, norm, other)))


STEPS = {"standardising": ("fitted", "none"), "alternating": ("alternating", "fitted")}
"""The steps that add up to AltUB, each an arm minus another one."""


def step(name: str, norm: str) -> Contrast:
    """Return the contrast of a step with a norm."""
    return between(*STEPS[name], norm, f"{name}, norm {norm}")


def _of_norms(norm: str, arm: str, name: str) -> Contrast:
    return Contrast(f"{name}, `{arm}`", (Term(1, norm, arm), Term(-1, "trainable", arm)))


CHANGES = (
    *(_of_norms("none", arm, "removing the norm") for arm in ("none", "alternating")),
    *(_of_norms("counted", arm, "counting the norm") for arm in ("none", "alternating")),
    Contrast(
        "AltUB as a repair of the norm",
        (
            *between("alternating", "none", "trainable").terms,
            *(term._replace(sign=-term.sign) for term in between("alternating", "none", "none").terms),
        ),
    ),
)
"""The contrasts of the norms."""

DECOMPOSITION = (*(step(name, norm) for name in STEPS for norm in NORMS), *CHANGES)
"""The contrasts that divide the effect."""

INDICATORS = {"ks": "KS statistic", "norm_gain": "mean |γ|", "loss": "loss per dimension"}
"""The quantities that may foretell the AUROC without labels, by their metrics."""
