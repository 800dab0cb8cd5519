"""Average precision and F1-max against scikit-learn, ties included."""

import numpy as np
import pytest
from hypothesis import given, settings
from sklearn.metrics import average_precision_score, f1_score, precision_recall_curve

from altub_exp.metrics.precision_recall import precision_recall
from tests.metrics.rankings import many_pixels, with_ties


def f1_of_scikit_learn(labels, scores):
    precisions, recalls, _ = precision_recall_curve(labels, scores)
    return np.max(2 * precisions * recalls / np.maximum(precisions + recalls, 1e-300))


@settings(max_examples=200, deadline=None)
@given(with_ties())
def test_equals_scikit_learn_with_ties(drawn):
    scores, labels = drawn
    ours = precision_recall(scores, labels)
    assert ours.average == pytest.approx(average_precision_score(labels, scores), abs=1e-12)
    assert ours.f1_max == pytest.approx(f1_of_scikit_learn(labels, scores), abs=1e-12)
    assert f1_score(labels, scores >= ours.threshold) == pytest.approx(ours.f1_max, abs=1e-12)


@pytest.mark.parametrize("share", [0.002, 0.5, 0.98])
@pytest.mark.parametrize("decimals", [2, None])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_scikit_learn_on_many_pixels(share, decimals, dtype):
    scores, labels = many_pixels(share, decimals, dtype)
    before = scores.copy()
    ours = precision_recall(scores, labels, threads=3)
    assert np.array_equal(scores, before)
    assert ours == precision_recall(scores, labels)
    flat = labels.ravel(), scores.ravel()
    assert ours.average == pytest.approx(average_precision_score(*flat), abs=1e-10)
    assert ours.f1_max == pytest.approx(f1_of_scikit_learn(*flat), abs=1e-10)


def test_perfect_and_uninformative_scores():
    labels = np.array([True, True, False, False, False])
    assert precision_recall(np.array([5.0, 4.0, 1.0, 2.0, 3.0]), labels) == (1.0, 1.0, 4.0)
    assert precision_recall(np.zeros(5), labels) == pytest.approx((0.4, 4 / 7, 0.0))


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([0.1, float("nan")], [True, False], "NaN"),
        ([float("nan"), 0.1], [True, False], "NaN"),
        ([0.1, 0.2], [True, True], "positives and negatives"),
        ([0.1, 0.2], [False, False], "positives and negatives"),
        ([0.1, 0.2, 0.3], [True, False], "shape"),
    ],
)
def test_what_has_no_precision_is_refused(scores, labels, message):
    with pytest.raises(ValueError, match=message):
        precision_recall(np.array(scores), np.array(labels))
