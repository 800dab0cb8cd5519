"""The latents of normal images: fitting ψ to them, and statistics of how normal they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from altub_exp.errors import Divergence
from altub_exp.features.maps import FeatureMaps, room_on_device
from altub_exp.flows.flow import Shape
from altub_exp.machine.cuda_graphs import CudaGraphs, passed
from altub_exp.method.base import LearnedNormal, Moments
from altub_exp.method.density import Density
from altub_exp.metrics import on_gpu as on_device
from altub_exp.metrics.kolmogorov import channel_ks
from altub_exp.metrics.normality import UnitNormality


@torch.no_grad()
def fit_psi(density: Density, features: FeatureMaps, graphs: CudaGraphs | None = None) -> None:
    """Set ψ to the moments of the latents of all images, unit by unit, in place; the latents are not kept.

    The bases have the method ``fit`` of :class:`~altub_exp.method.base.LearnedNormal`.
    """

    def work(*maps: Tensor) -> list[Tensor]:
        return [latent.z for latent in density.flow(maps)]

    moments = [Moments() for _ in density.bases]
    for rows in features.batches():
        latents = passed(graphs, "latents", work, features.batch(rows))
        for moment, z in zip(moments, latents, strict=True):
            moment.add(z)
    for base, moment in zip(density.bases, moments, strict=True):
        cast("LearnedNormal", base).fit(moment.mean, moment.variance)


def normality(
    density: Density,
    features: FeatureMaps,
    rows: Tensor | None = None,
    *,
    memory_gb: float,
    graphs: CudaGraphs | None = None,
) -> dict[str, float]:
    """Compare the latents of the images ``rows`` to N(0, 1), channel by channel.

    Returns:
        ``ks``, the KS statistic's mean over the channels of all scales; ``ks_std``, its standard deviation over them
        (n − 1); ``ks_channels``, n; ``mean_square``, the mean of E[q²] over all units.

    Raises:
        Divergence: a latent is not finite.

    Source: Eq. 8, section 5.3 and Fig. 3 (a) of https://arxiv.org/abs/2210.14913.
    """
    statistics: list[NDArray[np.float64]] = []
    squares, count = 0.0, 0
    for _, _, q in latent_blocks(density, features, rows, memory_gb=memory_gb, graphs=graphs):
        statistics.append(channel_ks(q.numpy()) if q.device.type == "cpu" else on_device.channel_ks(q).cpu().numpy())
        squares += float(sum(image.double().square().sum() for image in q))  # a single read: a GPU waits for it
        count += q.numel()
    ks = np.concatenate(statistics)
    return {
        "ks": float(ks.mean()),
        "ks_std": float(ks.std(ddof=1)) if len(ks) > 1 else 0.0,
        "ks_channels": float(len(ks)),
        "mean_square": squares / count,
    }


@torch.no_grad()
def parameter_statistics(density: Density) -> dict[str, float]:
    """Summarise the parameters that the parts of a density report, over the units of all scales.

    A part, such as a norm or a base distribution, reports by a method ``unit_values()``, which returns tensors by name.

    Returns:
        For each name the mean, and as ``NAME_std`` the standard deviation, over the values of all parts.
    """
    values: dict[str, list[Tensor]] = {}
    for module in density.modules():
        if report := getattr(module, "unit_values", None):
            for name, of_units in report().items():
                values.setdefault(name, []).append(of_units.flatten())
    found: dict[str, Tensor] = {}
    for name, scales in values.items():
        units = torch.cat(scales).double()
        found |= {name: units.mean(), f"{name}_std": units.std(correction=0)}
    read = torch.stack([*found.values()]).tolist() if found else []  # a single read: a GPU waits for it
    return dict(zip(found, read, strict=True))


def unit_normality(
    density: Density, features: FeatureMaps, rows: Tensor | None = None, *, memory_gb: float
) -> UnitNormality:
    """Run Shapiro-Wilk and KS tests of every unit (c, h, w) over the images ``rows`` (paper: Fig. 1).

    Raises:
        Divergence: a latent is not finite.
    """
    units = UnitNormality()
    for scale, first_channel, q in latent_blocks(density, features, rows, memory_gb=memory_gb):
        units.add(q.cpu().numpy(), scale, first_channel)
    return units


@torch.no_grad()
def latent_blocks(
    density: Density,
    features: FeatureMaps,
    rows: Tensor | None = None,
    *,
    memory_gb: float,
    graphs: CudaGraphs | None = None,
) -> Iterator[tuple[int, int, Tensor]]:
    """Yield standardised latents of all images ``rows`` at once, some channels at a time.

    The images pass the flow several times if needed, so that at most ``memory_gb`` GiB are held, and on a GPU at most a
    quarter of its free memory.

    Yields:
        Scale, first channel, and q [N·V, c, H, W] of V rotations of each image, on the density's device.

    Raises:
        Divergence: a latent is not finite.
    """

    def work(*maps: Tensor) -> list[Tensor]:
        return [units.q for units in density(maps)]

    count = (len(features) if rows is None else len(rows)) * features.rotations
    device = features.device
    if device.type == "cuda":
        memory_gb = min(memory_gb, room_on_device(torch.cuda.mem_get_info(device)[0]) / 2**30)
    for blocks in passes(density.flow.shapes, count, memory_gb):
        held = [
            torch.empty(count, last - first, *density.flow.shapes[scale][1:], device=device)
            for scale, first, last in blocks
        ]
        done = 0
        for batch in features.batches(rows):
            scales = passed(graphs, ("standardised", density), work, features.batch(batch))
            for (scale, first, last), q in zip(blocks, held, strict=True):
                q[done : done + len(scales[scale])] = scales[scale][:, first:last]
            done += len(scales[0])
        for scale, first, _ in blocks:
            q = held.pop(0)
            if not torch.isfinite(q).all():
                raise Divergence(f"a latent of scale {scale + 1} became infinite or NaN")
            yield scale, first, q


def passes(shapes: Sequence[Shape], count: int, memory_gb: float) -> list[list[tuple[int, int, int]]]:
    """Plan the channels (scale, first, last + 1) of each pass over ``count`` images, at least one channel per pass.

    >>> passes([(4, 8, 8), (2, 4, 4)], count=2**18, memory_gb=0.25)
    [[(0, 0, 4)], [(1, 0, 2)]]
    """
    plan: list[list[tuple[int, int, int]]] = [[]]
    room = memory_gb * 2**30
    for scale, (channels, height, width) in enumerate(shapes):
        size, first = 4 * count * height * width, 0
        while first < channels:
            fitting = min(channels - first, int(room // size))
            if fitting <= 0 and plan[-1]:
                plan.append([])
                room = memory_gb * 2**30
                continue
            last = first + max(1, fitting)
            plan[-1].append((scale, first, last))
            room -= (last - first) * size
            first = last
    return plan
