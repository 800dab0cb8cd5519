"""The passes of an image through a backbone: once as it is, or at several sizes and rotations."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Passes:
    """The passes of an image.

    Attributes:
        divisors: one pass for each, over the image with its side divided by it.
        rotations: the number V of these sets of passes, over the image rotated by 0, 360/V, … degrees.
        pooled: True to take the mean of each map over its positions, a map [C, 1, 1].
        halved: True to take the mean of each map over 3×3 positions around every second one, zeros beyond the edge.
    """

    divisors: tuple[int, ...] = (1,)
    rotations: int = 1
    pooled: bool = False
    halved: bool = False

    def sizes(self, size: int) -> list[int]:
        """Return the sides of the passes of an image.

        >>> Passes((1, 2, 4)).sizes(448)
        [448, 224, 112]
        """
        return [size // divisor for divisor in self.divisors]

    def facts(self) -> dict[str, Any]:
        """Return the facts that identify passes other than the plain one; {} for that.

        >>> Passes((1, 2)).facts()
        {'divisors': (1, 2), 'rotations': 1, 'pooled': False}
        """
        facts = {key: value for key, value in asdict(self).items() if key != "halved" or value}
        return {} if self == Passes() else facts
