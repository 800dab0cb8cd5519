"""How close the standardised latents come to N(0, 1) (paper: section 5.3)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr


def ks_statistic(samples: NDArray[np.floating]) -> NDArray[np.float64]:
    """One-sample Kolmogorov-Smirnov statistic sup_x |F_n(x) − Φ(x)| of every row (paper: Eq. 8).

    Args:
        samples: [R, n]; each row is one sample of size n.

    Returns:
        [R], fractions.

    >>> float(ks_statistic(np.zeros((1, 10)))[0])
    0.5
    """
    n = samples.shape[1]
    cdf = ndtr(np.sort(samples, axis=1).astype(np.float64))
    steps = np.arange(n + 1) / n
    return np.asarray(np.maximum((steps[1:] - cdf).max(axis=1), (cdf - steps[:-1]).max(axis=1)))


def channel_ks(q: NDArray[np.floating]) -> NDArray[np.float64]:
    """KS statistic of each channel of q [N, C, H, W], its values flattened over images × H × W → [C] (Table 5)."""
    return np.concatenate([ks_statistic(q[:, channel].reshape(1, -1)) for channel in range(q.shape[1])])
