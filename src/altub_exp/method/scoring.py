"""Anomaly maps and image scores from standardised latents: numbers per position, then per pixel and per image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from altub_exp.method.density import Units, log_likelihood

FLOAT32_EXPONENT = 80.0  # exp(88.7) is the largest float32


class Scoring(Protocol):
    """The scores of a model; higher is more anomalous.

    A scoring whose maps have no places, since each pixel is the score of its image, sets the class attribute
    ``localises = False``: no metric of pixels is computed, and no map is drawn.

    Attributes:
        reference: the images that a map is relative to, ``test`` or ``train``; None if it is absolute.
    """

    reference: str | None

    def positions(self, units: Sequence[Units]) -> list[Tensor]:
        """Return the numbers per position that maps and image scores are made of, such as [B, H, W] per scale."""

    def extremes(self, positions: Sequence[Tensor]) -> list[float]:
        """Return the values of the reference images, from their positions, that :meth:`maps` refers to."""

    def maps(self, positions: Sequence[Tensor], size: int, extremes: Sequence[float]) -> Tensor:
        """Return anomaly maps [B, size, size]."""

    def image_scores(self, positions: Sequence[Tensor], maps: Tensor) -> Tensor:
        """Return one score per image, [B], from the positions or the maps made of them."""


class LikelihoodMap:
    r"""FastFlow's map (https://arxiv.org/abs/2111.07677), with the base learned (arXiv 2210.14913, Eq. 6).

    Per scale :math:`-\exp(-\frac{1}{C}\sum_c(\frac{1}{2}q_c^2 + \ln\sigma_c))`, resized bilinearly
    (``align_corners=False``), averaged over the scales; without log-determinant and without smoothing (map as in
    anomalib 0.3). With ln σ = 0 it is Eq. 1. The exponential may exceed 1; where σ ≪ 1 would take it out of float32's
    range, it is computed in float64.
    """

    reference: str | None = None

    def positions(self, units: Sequence[Units]) -> list[Tensor]:
        """Return the mean over the channels of ½q² + ln σ."""
        return [(0.5 * u.q**2 + u.log_sigma).mean(dim=1) for u in units]

    def extremes(self, positions: Sequence[Tensor]) -> list[float]:
        """Return nothing: the maps are absolute."""
        return []

    def maps(self, positions: Sequence[Tensor], size: int, extremes: Sequence[float] = ()) -> Tensor:
        """Return maps [B, size, size], float32, or float64 where needed.

        An exported graph, whose operations cannot depend on values, cuts energies off at −80 instead.
        """
        if torch.compiler.is_compiling():
            positions = [energy.clamp_min(-FLOAT32_EXPONENT) for energy in positions]
        elif any(energy.min() < -FLOAT32_EXPONENT for energy in positions):
            positions = [energy.double() for energy in positions]
        scales = [_resized(-torch.exp(-energy), size, align_corners=False) for energy in positions]
        total = scales[0]
        for scale in scales[1:]:
            total += scale
        return total.div_(len(scales))

    def image_scores(self, positions: Sequence[Tensor], maps: Tensor) -> Tensor:
        """Return the largest pixel."""
        return largest_pixel(maps)


class FibreProbability:
    r"""CFLOW-AD's map (https://arxiv.org/abs/2107.12571), in float64.

    Per scale :math:`\exp(\log p / C - m)`, m the largest :math:`\log p / C` of that scale over the reference images,
    resized bilinearly (``align_corners=True``) and summed over the L scales; the map is L minus this. The published
    code takes the test set's largest sum for L: the difference is one constant for all pixels, which no AUROC sees.

    Args:
        reference: ``test``, as published: a map depends on the images it is scored with; or ``train``.
    """

    def __init__(self, reference: str) -> None:
        self.reference: str | None = reference

    def positions(self, units: Sequence[Units]) -> list[Tensor]:
        """Return log p / C."""
        return [(log_likelihood(u) / u.q.shape[1]).double() for u in units]

    def extremes(self, positions: Sequence[Tensor]) -> list[float]:
        """Return the largest log p / C of each scale."""
        return [float(scale.max()) for scale in positions]

    def maps(self, positions: Sequence[Tensor], size: int, extremes: Sequence[float]) -> Tensor:
        """Return maps [B, size, size]; from 0 to L on the reference images."""
        total = torch.zeros((), dtype=torch.float64)
        for scale, largest in zip(positions, extremes, strict=True):
            likelihood = torch.exp(scale - largest)
            if torch.compiler.is_compiling():
                likelihood = likelihood.float()  # ONNX Runtime resizes no float64
            total = total + _resized(likelihood, size, align_corners=True)
        return len(positions) - total

    def image_scores(self, positions: Sequence[Tensor], maps: Tensor) -> Tensor:
        """Return the largest pixel."""
        return largest_pixel(maps)


class CrossScaleEnergy:
    r"""CS-Flow's scores (https://arxiv.org/abs/2110.02855), with the learned base distribution as in the paper's Eq. 6.

    The energy of a unit is :math:`\frac{1}{2}q^2 + \ln\sigma`. The map is twice its mean over the channels of the
    first scale, the finest, resized bilinearly (``align_corners=False``): with ln σ = 0 the mean of z². The image's
    score is its mean over all units of all scales. Both without log-determinant, as in the published code.
    """

    reference: str | None = None

    def positions(self, units: Sequence[Units]) -> list[Tensor]:
        """Return the mean over the channels per position of the finest scale, [B, H, W], and per image, [B, 1, 1]."""
        energies = [0.5 * u.q**2 + u.log_sigma for u in units]
        image = torch.cat([energy.flatten(1) for energy in energies], dim=1).mean(dim=1)
        return [energies[0].mean(dim=1), image[:, None, None]]

    def extremes(self, positions: Sequence[Tensor]) -> list[float]:
        """Return nothing: the maps are absolute."""
        return []

    def maps(self, positions: Sequence[Tensor], size: int, extremes: Sequence[float] = ()) -> Tensor:
        """Return maps [B, size, size]."""
        return _resized(2 * positions[0], size, align_corners=False)

    def image_scores(self, positions: Sequence[Tensor], maps: Tensor) -> Tensor:
        """Return the mean over all units."""
        return positions[1].flatten()


class ImageEnergy:
    r"""DifferNet's score (https://arxiv.org/abs/2008.12577), with the learned base distribution as in Eq. 6.

    It is the mean of :math:`q^2 + 2 \ln\sigma` over all units and over V rotations of the image, without
    log-determinant: with ln σ = 0 the published mean of z². The publication shows gradients as maps, and does not
    measure them; the map here is the score at every pixel.

    Args:
        rotations: V; that many consecutive latents are of one image.
    """

    reference: str | None = None
    localises = False

    def __init__(self, rotations: int) -> None:
        self._rotations = rotations

    def positions(self, units: Sequence[Units]) -> list[Tensor]:
        """Return the score of each image, [B, 1, 1]."""
        energies = torch.cat([(u.q**2 + 2 * u.log_sigma).flatten(1) for u in units], dim=1)
        return [energies.mean(dim=1).view(-1, self._rotations).mean(dim=1)[:, None, None]]

    def extremes(self, positions: Sequence[Tensor]) -> list[float]:
        """Return nothing: the scores are absolute."""
        return []

    def maps(self, positions: Sequence[Tensor], size: int, extremes: Sequence[float] = ()) -> Tensor:
        """Return maps [B, size, size] that are constant."""
        return positions[0].expand(-1, size, size)

    def image_scores(self, positions: Sequence[Tensor], maps: Tensor) -> Tensor:
        """Return the scores."""
        return positions[0].flatten()


class SumAndProduct:
    r"""MSFlow's scores (https://arxiv.org/abs/2308.15300), with the learned base distribution as in Eq. 6.

    The energy of a position of scale l is :math:`e_l = \frac{1}{C}\sum_c(\frac{1}{2}q_c^2 + \ln\sigma_c)`, without
    log-determinant: with ln σ = 0 the published :math:`\frac{1}{2}` mean of z². With :math:`\uparrow` bilinear resizing
    (``align_corners=True``) and every minimum and maximum over the positions or pixels of an image, a pixel has

    .. math:: \max P - P, \quad P = \sum_l \uparrow \exp(\min e_l - e_l),

    which sums the likelihoods of the scales. The image has the mean of the largest values of

    .. math:: 1 - \exp(\min E - E), \quad E = \sum_l \uparrow e_l,

    which multiplies them.

    Args:
        top_share: the share of an image's pixels whose values are averaged; at least one is.
    """

    reference: str | None = None

    def __init__(self, top_share: float) -> None:
        self._top_share = top_share

    def positions(self, units: Sequence[Units]) -> list[Tensor]:
        """Return the mean over the channels of ½q² + ln σ."""
        return [(0.5 * u.q**2 + u.log_sigma).mean(dim=1) for u in units]

    def extremes(self, positions: Sequence[Tensor]) -> list[float]:
        """Return nothing: an image refers only to itself."""
        return []

    def maps(self, positions: Sequence[Tensor], size: int, extremes: Sequence[float] = ()) -> Tensor:
        """Return maps [B, size, size], 0 at the most likely pixel of each."""
        likelihood = _summed([torch.exp(e.amin(dim=(1, 2), keepdim=True) - e) for e in positions], size)
        return likelihood.amax(dim=(1, 2), keepdim=True) - likelihood

    def image_scores(self, positions: Sequence[Tensor], maps: Tensor) -> Tensor:
        """Return the mean of the largest values of the product; pixels whose map is −∞ do not count."""
        size = maps.shape[-1]
        outside = torch.isneginf(maps).flatten(1)
        energy = _summed(positions, size).flatten(1).masked_fill(outside, torch.inf)
        values = (1 - torch.exp(energy.amin(dim=1, keepdim=True) - energy)).masked_fill(outside, -torch.inf)
        largest = values.topk(max(1, int(size * size * self._top_share)), dim=1).values
        counted = ((~outside).sum(dim=1, keepdim=True).double() * self._top_share).long().clamp_min(1)
        ranks = torch.arange(largest.shape[1], device=maps.device)
        return largest.masked_fill(ranks >= counted, 0.0).sum(dim=1) / counted.squeeze(1)


def _summed(scales: Sequence[Tensor], size: int) -> Tensor:
    """Return the sum of maps [B, H, W] of several scales, resized (``align_corners=True``)."""
    return torch.stack([_resized(scale, size, align_corners=True) for scale in scales], dim=1).sum(dim=1)


def _resized(maps: Tensor, size: int, *, align_corners: bool) -> Tensor:
    """Resize maps [B, H, W] bilinearly to [B, size, size]."""
    shape = (size, size)
    return F.interpolate(maps.unsqueeze(1), shape, mode="bilinear", align_corners=align_corners).squeeze(1)


def localises(scoring: Scoring) -> bool:
    """Return True unless a scoring declares that its maps have no places."""
    return getattr(scoring, "localises", True)


def largest_pixel(maps: Tensor) -> Tensor:
    """Return the largest pixel of each map [B, H, W], [B], as anomalib 0.3 and CFLOW-AD do."""
    return maps.amax(dim=(1, 2))
