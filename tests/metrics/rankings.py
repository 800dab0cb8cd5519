"""Scores and labels for tests of metrics of a ranking."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays


@st.composite
def with_ties(draw):
    """Draw a few scores, many of them equal, and labels of both classes."""
    n = draw(st.integers(2, 60))
    scores = draw(arrays(np.float32, n, elements=st.sampled_from([-1.0, -0.5, -0.0, 0.0, 0.25, 1e-30, 3.0])))
    labels = draw(arrays(np.bool_, n))
    labels[0], labels[1] = True, False
    return scores, labels


def many_pixels(share, decimals, dtype):
    """Return the scores of 120,000 pixels, rounded if there are decimals, and labels of which this share is True."""
    random = np.random.default_rng(0)
    labels = random.random((3, 200, 200)) < share
    scores = random.normal(size=labels.shape) + labels
    return (scores if decimals is None else scores.round(decimals)).astype(dtype), labels
