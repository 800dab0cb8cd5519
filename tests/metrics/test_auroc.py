"""Exact AUROC against scikit-learn, ties included."""

import numpy as np
import pytest
from hypothesis import given, settings
from sklearn.metrics import roc_auc_score

from altub_exp.metrics.auroc import auroc
from tests.metrics.rankings import many_pixels, with_ties


@settings(max_examples=200, deadline=None)
@given(with_ties())
def test_equals_scikit_learn_with_ties(drawn):
    scores, labels = drawn
    assert auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


@pytest.mark.parametrize("share", [0.002, 0.5, 0.98])
@pytest.mark.parametrize("decimals", [2, 4, None])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_scikit_learn_on_many_pixels(share, decimals, dtype):
    scores, labels = many_pixels(share, decimals, dtype)
    assert auroc(scores, labels) == pytest.approx(roc_auc_score(labels.ravel(), scores.ravel()), abs=1e-12)


@pytest.mark.parametrize("threads", [2, 3, 64])
def test_the_number_of_threads_changes_nothing_and_the_arguments_stay(threads):
    random = np.random.default_rng(1)
    labels = random.random(50) < 0.3
    scores = random.normal(size=50).round(1)
    before = scores.copy()
    assert auroc(scores, labels, threads=threads) == auroc(scores, labels)
    assert np.array_equal(scores, before)


def test_perfect_reversed_and_uninformative_scores():
    labels = np.array([True, True, False, False, False])
    scores = np.array([5.0, 4.0, 1.0, 2.0, 3.0])
    assert auroc(scores, labels) == 1.0
    assert auroc(-scores, labels) == 0.0
    assert auroc(np.zeros(5), labels) == 0.5


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([0.1, float("nan")], [True, False], "NaN"),
        ([0.1, 0.2], [True, True], "positives and negatives"),
        ([0.1, 0.2, 0.3], [True, False], "shape"),
    ],
)
def test_what_has_no_auroc_is_refused(scores, labels, message):
    with pytest.raises(ValueError, match=message):
        auroc(np.array(scores), np.array(labels))
