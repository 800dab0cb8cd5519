"""Thresholds on the image score, which divide images into normal and defective ones."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from altub_exp.errors import UserError
from altub_exp.metrics.precision_recall import precision_recall
from altub_exp.runs.checkpoint import ImageScores

NORMAL, DEFECTIVE = "normal", "defective"


class Rule(NamedTuple):
    """The origin of a threshold.

    Attributes:
        kind: ``quantile``, ``f1`` or ``number``.
        value: the quantile, 0 to 1, or the threshold itself; of no meaning for ``f1``.
    """

    kind: str
    value: float = 0.0


class Threshold(NamedTuple):
    """A threshold; an image is defective if its score is above it.

    Attributes:
        value: on the scale of the image scores.
        origin: the scores that it is derived from, in words.
    """

    value: float
    origin: str

    def decision(self, score: float) -> str:
        """Return ``normal`` or ``defective``; a score that is NaN is defective."""
        return NORMAL if score <= self.value else DEFECTIVE


def parse_rule(text: str) -> Rule:
    """Read the rule ``quantile=Q``, ``f1`` or a number.

    Raises:
        UserError: it is none of them, or out of its bounds.

    >>> parse_rule("quantile=0.99"), parse_rule("f1"), parse_rule("-0.5")
    (Rule(kind='quantile', value=0.99), Rule(kind='f1', value=0.0), Rule(kind='number', value=-0.5))
    """
    if text == "f1":
        return Rule("f1")
    name, equals, number = text.rpartition("=")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if equals and name == "quantile":
        if not 0 <= value <= 1:
            raise UserError(f"--threshold {text}: a quantile is a number from 0 to 1, such as quantile=0.99.")
        return Rule("quantile", value)
    if equals or not math.isfinite(value):
        raise UserError(f"--threshold {text} is no threshold: give quantile=0.99, f1 or a number.")
    return Rule("number", value)


def find_threshold(rule: Rule, images: ImageScores | None) -> Threshold:
    """Derive a threshold from the image scores that a run has stored.

    * ``quantile``: of the scores of the normal test images, or, if the run has no test images, of its training images;
      between two scores it is interpolated linearly (numpy's default).
    * ``f1``: in the middle between the lowest score that counts as defective at the largest F1 over all test images
      and the next lower score.

    Raises:
        UserError: the run has stored no scores, or no defective test images.
    """
    if rule.kind == "number":
        return Threshold(rule.value, "as given")
    if images is None:
        raise UserError(
            "An earlier version has recorded the run, without the scores of its images: give --threshold as a "
            "number, or train the run again with resume=never."
        )
    scores, defective = images.scores.double().numpy(), images.defective.numpy()
    if rule.kind == "quantile":
        normal = scores[~defective]
        origin = f"quantile {rule.value:g} of the scores of {len(normal)} "
        if images.split == "test":
            origin += "normal test images"
        else:
            origin += "training images: there are no test images, and new normal images may score higher"
        return Threshold(float(np.quantile(normal, rule.value)), origin)
    if not defective.any():
        raise UserError(
            "The run has no defective test images, which f1 needs: give --threshold quantile=0.99 or a number."
        )
    best = precision_recall(scores, defective)
    lower, value = scores[scores < best.threshold], np.nextafter(best.threshold, -np.inf)
    if len(lower):
        value = min(value, (best.threshold + lower.max()) / 2)  # the middle may be rounded to the score itself
    return Threshold(float(value), f"F1 of {best.f1_max:.4f}, the largest, on {len(scores)} test images")


def usual_thresholds(images: ImageScores | None) -> dict[str, float]:
    """Return the thresholds of two quantiles, and of ``f1`` where there are defective test images, by their rules."""
    if images is None:
        return {}
    rules = ["quantile=0.95", "quantile=0.99", *(["f1"] if images.defective.any() else [])]
    return {rule: find_threshold(parse_rule(rule), images).value for rule in rules}
