"""Normality of the standardised latents, unit by unit (Fig. 1 and 3 (a) of the paper, arXiv 2210.14913)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from altub_exp.metrics.kolmogorov import ks_p_value, ks_statistic
from altub_exp.metrics.shapiro import shapiro_wilk

SIGNIFICANCE = 0.05  # paper: caption of Fig. 1
BINS = 50  # of a histogram of p-values
VALUES_AT_ONCE = 1 << 24  # larger blocks are divided by channels


def mean_square(q: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return E[q²] of every unit [C, H, W]: the mean over the images of q [N, C, H, W] (paper: Fig. 3 (a))."""
    total = np.zeros(q.shape[1:])
    for image in q:
        total += np.square(image, dtype=np.float64)
    return np.asarray(total / len(q))


@dataclass
class PValues:
    """The p-values of one test over all units.

    Attributes:
        histogram: counts in ``BINS`` equal bins on [0, 1].
        rejected: number of p-values below ``SIGNIFICANCE``.
    """

    histogram: list[int] = field(default_factory=lambda: [0] * BINS)
    rejected: int = 0

    def add(self, p: NDArray[np.float64]) -> None:
        """Count p-values of any shape, apart from NaN."""
        counts, _ = np.histogram(p[~np.isnan(p)], bins=BINS, range=(0, 1))
        self.histogram = (np.array(self.histogram) + counts).tolist()
        self.rejected += int((p < SIGNIFICANCE).sum())

    def to_json(self) -> dict[str, object]:
        """Return ``histogram``, the number of ``units`` in it, and ``rejected``, a fraction of them."""
        units = sum(self.histogram)
        return {"histogram": self.histogram, "units": units, "rejected": self.rejected / units if units else None}


class Unit(NamedTuple):
    """A latent unit with its sample: its position, its value for each image, p-values (NaN where undefined)."""

    scale: int
    channel: int
    row: int
    column: int
    values: list[float]
    ks: float
    ks_p: float
    shapiro_p: float

    @property
    def rank(self) -> tuple[float, ...]:
        """Order of units as examples for Fig. 1 (c), the best last: see :class:`UnitNormality`."""
        normal = self.shapiro_p > SIGNIFICANCE
        return (normal, self.ks, -self.scale, -self.channel, -self.row, -self.column)


@dataclass
class UnitNormality:
    """Normality of every latent unit (c, h, w) over images, summed up as Fig. 1 shows it.

    It is built block by block with :meth:`add`, in any order, because the latents may not fit in memory.

    Attributes:
        images: n, the size of every sample; 0 before the first block.
        units: number of units added.
        shapiro: p-values of "normal, of any mean and variance" (Fig. 1 (a)); a unit whose values are equal has none.
        kolmogorov: p-values of "N(0, 1)" (Fig. 1 (b)).
        example: for Fig. 1 (c), a unit that is roughly normal yet far from N(0, 1): the one with the largest KS
            statistic of those that pass the Shapiro-Wilk test (p > 0.05), or of all where none passes; among equals
            the first in the order of scale, channel, row, column.
    """

    images: int = 0
    units: int = 0
    shapiro: PValues = field(default_factory=PValues)
    kolmogorov: PValues = field(default_factory=PValues)
    example: Unit | None = None
    _squares: float = 0.0
    _distances: float = 0.0

    def add(self, q: NDArray[np.floating], scale: int, first_channel: int = 0) -> None:
        """Add a block: some channels of one scale, with the values of all images.

        It takes less than 1 GiB of memory beyond the block itself.

        Args:
            q: standardised latents [N, c, H, W].
            scale: index of the scale.
            first_channel: index of the block's first channel within the scale.

        Raises:
            ValueError: N differs from that of the blocks before or is below 3, or a value is not finite.
        """
        if self.images not in (0, len(q)):
            raise ValueError(f"a block of {len(q)} images after one of {self.images}")
        channels = max(1, VALUES_AT_ONCE // max(1, q[:, :1].size))
        for first in range(0, q.shape[1], channels):
            self._add_part(q[:, first : first + channels], scale, first_channel + first)

    def _add_part(self, q: NDArray[np.floating], scale: int, first_channel: int) -> None:
        squares = mean_square(q)
        if not np.isfinite(squares).all():
            raise ValueError(f"a latent of scale {scale} is not finite")
        samples = q.reshape(len(q), -1).T
        _, shapiro_p = shapiro_wilk(samples)
        ks = ks_statistic(samples)
        ks_p = ks_p_value(ks, len(q))

        best = int(np.argmax((shapiro_p > SIGNIFICANCE) + ks))  # a KS statistic is at most 1
        channel, row, column = (int(i) for i in np.unravel_index(best, q.shape[1:]))
        unit = Unit(
            scale,
            first_channel + channel,
            row,
            column,
            values=[float(value) for value in samples[best]],
            ks=float(ks[best]),
            ks_p=float(ks_p[best]),
            shapiro_p=float(shapiro_p[best]),
        )
        if self.example is None or unit.rank > self.example.rank:
            self.example = unit
        self.images = len(q)
        self.units += len(samples)
        self.shapiro.add(shapiro_p)
        self.kolmogorov.add(ks_p)
        self._squares += float(squares.sum())
        self._distances += float(ks.sum())

    def to_json(self) -> dict[str, object]:
        """Return everything that a figure needs, in the types of JSON.

        Returns:
            ``images``, ``units``, ``mean_square`` and ``ks_statistic`` (means over units, Fig. 3 (a)), ``shapiro_wilk``
            and ``kolmogorov_smirnov`` (:meth:`PValues.to_json`), ``example`` (the fields of :class:`Unit`).

        Raises:
            ValueError: no unit was added.
        """
        if self.example is None:
            raise ValueError("no unit was added")
        shapiro_p = self.example.shapiro_p
        return {
            "images": self.images,
            "units": self.units,
            "mean_square": self._squares / self.units,
            "ks_statistic": self._distances / self.units,
            "shapiro_wilk": self.shapiro.to_json(),
            "kolmogorov_smirnov": self.kolmogorov.to_json(),
            "example": self.example._asdict() | {"shapiro_p": None if np.isnan(shapiro_p) else shapiro_p},
        }
