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
    """

    divisors: tuple[int, ...] = (1,)
    rotations: int = 1
    pooled: bool = False

    def sizes(self, size: int) -> list[int]:
        """Return the sides of the passes of an image.

        >>> Passes((1, 2, 4)).sizes(448)
        [448, 224, 112]
        """
        return [size // divisor for divisor in self.divisors]

    def facts(self) -> dict[str, Any]:
        """Return the facts that identify passes other than the plain one; {} for that."""
        return {} if self == Passes() else asdict(self)
