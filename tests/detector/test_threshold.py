"""Thresholds from stored image scores."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from altub_exp.detector.threshold import Rule, find_threshold
from altub_exp.runs.checkpoint import ImageScores


def stored(scores, defective, split="test"):
    return ImageScores(torch.tensor(scores, dtype=torch.float32), torch.tensor(defective), split)


def decisions(threshold, scores):
    return [threshold.decision(score) == "defective" for score in scores]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([-2.0, -1.0, 0.5, 0.75, 3.0]), st.booleans()), min_size=2))
def test_f1_is_that_of_the_best_threshold(images):
    scores, defective = [*zip(*images, strict=True)]
    scores, defective = [*scores, 1.0, 0.0], [*defective, True, False]
    truth = np.array(defective)

    def f1(decided):
        hits = np.sum(np.array(decided) & truth)
        return 2 * hits / (np.sum(decided) + np.sum(truth))

    threshold = find_threshold(Rule("f1"), stored(scores, defective))
    best = max(f1([score >= limit for score in scores]) for limit in scores)
    assert f1(decisions(threshold, scores)) == pytest.approx(best)
    assert f"F1 of {best:.4f}" in threshold.origin


def test_f1_lies_in_the_middle_of_a_gap_so_that_last_digits_do_not_matter():
    images = stored([0.0, 1.0, 3.0, 4.0], [False, False, True, True])
    assert find_threshold(Rule("f1"), images).value == 2.0


@pytest.mark.parametrize("score", [float(np.nextafter(np.float32(1), np.float32(2))), np.inf])
def test_f1_finds_a_defect_whose_score_is_next_to_a_normal_one_or_infinite(score):
    threshold = find_threshold(Rule("f1"), stored([0.0, 1.0, score], [False, False, True]))
    assert decisions(threshold, [0.0, 1.0, score]) == [False, False, True]


def test_f1_where_every_image_is_best_called_defective():
    images = stored([1.0, 2.0, 3.0], [True, False, True])
    threshold = find_threshold(Rule("f1"), images)
    assert decisions(threshold, [1.0, 2.0, 3.0]) == [True, True, True]
    assert threshold.value == pytest.approx(1.0)


def test_a_quantile_is_of_normal_images_only():
    images = stored([0.0, 1.0, 2.0, 9.0], [False, False, False, True])
    for quantile, value in ((0.0, 0.0), (0.5, 1.0), (0.75, 1.5), (1.0, 2.0)):
        threshold = find_threshold(Rule("quantile", quantile), images)
        assert threshold.value == pytest.approx(value)
        assert threshold.origin == f"quantile {quantile:g} of the scores of 3 normal test images"


def test_a_score_at_the_threshold_is_normal_and_one_that_is_not_a_number_defective():
    threshold = find_threshold(Rule("number", 1.5), None)
    assert [threshold.decision(score) for score in (1.5, np.nextafter(1.5, 2), np.nan, -np.inf)] == [
        "normal",
        "defective",
        "defective",
        "normal",
    ]
