"""AUROC and Kolmogorov-Smirnov statistics of tensors on a GPU: copying them to the processor would take longer."""

from __future__ import annotations

import torch
from torch import Tensor

from altub_exp.metrics.auroc import area, classes

VALUES_AT_ONCE = 2**24  # sorted together: 0.4 GiB with the indices that PyTorch's sort makes


def auroc(scores: Tensor, positive: Tensor) -> float:
    """Compute :func:`altub_exp.metrics.auroc.auroc` on the scores' device, by the same counts.

    Args:
        scores: any shape; higher means positive.
        positive: bool, the same shape, on the same device.

    Returns:
        A fraction, 0 to 1.

    Raises:
        ValueError: a score is NaN, the shapes differ, or one of the classes is empty.

    >>> auroc(torch.tensor([0.1, 0.4, 0.4, 0.8]), torch.tensor([False, False, True, True]))
    0.875
    """
    few, many, swapped = classes(scores, positive)
    few = few.sort().values
    unknown, below_twice = few[-1].isnan(), torch.zeros((), dtype=torch.int64, device=scores.device)
    for part in torch.split(many, VALUES_AT_ONCE):
        part = part.sort().values  # NaN is sorted last
        unknown |= part[-1].isnan()
        for right in (False, True):
            below_twice += torch.searchsorted(part, few, right=right).sum()
    if unknown:
        raise ValueError("a score is NaN")
    return area(int(below_twice), len(few) * len(many), swapped)


def channel_ks(q: Tensor) -> Tensor:
    """Compute :func:`altub_exp.metrics.kolmogorov.channel_ks` [C], in float64, on the device of q [N, C, H, W].

    It takes less than 1 GiB of memory beyond q, unless a single channel takes more.
    """
    count = q[:, 0].numel()
    middles = (torch.arange(count, dtype=torch.float64, device=q.device) + 0.5) / count  # of the steps of F_n
    distances = []
    for channels in torch.split(q, max(1, VALUES_AT_ONCE // count), dim=1):
        rows = channels.transpose(0, 1).flatten(1).sort(dim=1).values
        distances.append((torch.special.ndtr(rows.double()) - middles).abs().amax(dim=1))
    return torch.cat(distances) + 0.5 / count
