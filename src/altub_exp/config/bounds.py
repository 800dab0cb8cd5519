"""Bounds of the values of a configuration, which its dataclasses declare in the types of their fields.

A field of the type ``Annotated[float, Range(above=0, most=1)]``, or of a type of this module such as :data:`Count`, has
bounds; elements of lists and values of mappings may have their own. A plug-in declares the bounds
of its own configuration in the same way. :mod:`altub_exp.config.fields` enforces them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Protocol


class Bound(Protocol):
    """A condition on a value."""

    def complaint(self, value: Any) -> str | None:
        """Return the fault of a value and its remedy, to follow ``KEY=VALUE``; None if there is no fault."""

    def __str__(self) -> str:
        """Return the condition in a few words."""


@dataclass(frozen=True)
class Range:
    """An interval of numbers.

    Attributes:
        least: the smallest allowed number.
        most: the largest allowed number.
        above: all numbers are larger than this.
        below: all numbers are smaller than this.
        finite: False also allows infinity.
        multiple_of: a whole number that divides all allowed ones.
        noun: the name of an allowed number, such as "a learning rate".
        otherwise: another remedy, to follow the first.

    >>> print(Range(above=0, most=1))
    above 0, at most 1
    >>> Range(least=1).complaint(0)
    'is too small: give at least 1'
    """

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    finite: bool = True
    multiple_of: int = 1
    noun: str = ""
    otherwise: str = ""

    def complaint(self, value: float) -> str | None:
        """Return the fault of a number, or None."""
        if math.isnan(value) or (self.finite and math.isinf(value)):
            return self._unlike(f"is not a {'finite ' if self.finite else ''}number", str(self) or "a finite number")
        if (self.least is not None and value < self.least) or (self.above is not None and value <= self.above):
            return self._unlike("is too small", self._lower())
        if (self.most is not None and value > self.most) or (self.below is not None and value >= self.below):
            return self._unlike("is too large", self._upper())
        if self.multiple_of > 1 and value % self.multiple_of:
            return f"is no multiple of {self.multiple_of}: give one"
        return None

    def _unlike(self, fault: str, remedy: str) -> str:
        number = "" if remedy.startswith(("a ", "at ")) else "a number "
        return f"{f'is not {self.noun}' if self.noun else fault}: give {number}{remedy}{self.otherwise}"

    def _lower(self) -> str:
        return f"above {_number(self.above)}" if self.least is None else f"at least {_number(self.least)}"

    def _upper(self) -> str:
        return f"below {_number(self.below)}" if self.most is None else f"at most {_number(self.most)}"

    def __str__(self) -> str:
        sides = []
        if self.least is not None or self.above is not None:
            sides.append(self._lower())
        if self.most is not None or self.below is not None:
            sides.append(self._upper())
        return ", ".join([*sides, *([f"a multiple of {self.multiple_of}"] if self.multiple_of > 1 else [])])


@dataclass(frozen=True)
class Length:
    """The allowed numbers of elements of a list; ``most=None`` has no upper limit."""

    least: int = 1
    most: int | None = None

    def complaint(self, value: Sequence[Any]) -> str | None:
        """Return the fault of a list, or None."""
        if len(value) < self.least or (self.most is not None and len(value) > self.most):
            return f"has {len(value)} elements: give {self}"
        return None

    def __str__(self) -> str:
        if self.least == self.most:
            return f"exactly {self.least} elements"
        return f"{self.least} or more elements" if self.most is None else f"{self.least} to {self.most} elements"


@dataclass(frozen=True)
class Distinct:
    """A list without repetitions."""

    def complaint(self, value: Sequence[Any]) -> str | None:
        """Return the fault of a list, or None."""
        repeated = next((item for number, item in enumerate(value) if item in value[:number]), None)
        return None if repeated is None else f"repeats {repeated}: give each element once"

    def __str__(self) -> str:
        return "all different"


@dataclass(frozen=True)
class Text:
    """A text that is not empty and has at most ``most`` characters."""

    most: int = 4000

    def complaint(self, value: str) -> str | None:
        """Return the fault of a text, or None."""
        if not value.strip():
            return "is empty: give a text"
        return f"has {len(value)} characters: give at most {self.most}" if len(value) > self.most else None

    def __str__(self) -> str:
        return f"not empty, at most {self.most} characters"


@dataclass(frozen=True)
class Grid:
    """Numbers of rows and columns, ``2x3``, each 1 to ``most``.

    >>> Grid().complaint("0x2")
    'is no grid of tiles: give ROWSxCOLUMNS, each 1 to 16, such as 2x3'
    """

    most: int = 16

    def complaint(self, value: str) -> str | None:
        """Return the fault of a text, or None."""
        if re.fullmatch(r"[1-9][0-9]?x[1-9][0-9]?", value) and max(grid(value)) <= self.most:
            return None
        return f"is no grid of tiles: give {self}, such as 2x3"

    def __str__(self) -> str:
        return f"ROWSxCOLUMNS, each 1 to {self.most}"


def grid(text: str) -> tuple[int, int]:
    """Return the numbers of rows and columns of a text that :class:`Grid` accepts."""
    rows, columns = text.split("x")
    return int(rows), int(columns)


def tile_overlap(size: int, overlap: float) -> int:
    """Return the pixels that neighbouring tiles of this size share, at most half a tile, so that no three do."""
    return min(round(overlap * size), size // 2)


def canvas_side(size: int, count: int, overlap: float) -> int:
    """Return the pixels that a row or column of tiles of this size covers.

    >>> canvas_side(256, 1, 0.125), canvas_side(256, 3, 0.125)
    (256, 704)
    """
    return size + (count - 1) * (size - tile_overlap(size, overlap))


@dataclass(frozen=True)
class PathName:
    """A path, absolute or relative, that a file system can hold.

    Attributes:
        home: True if the program replaces a ``~`` at its beginning.
        off: words that are no path.
        otherwise: another remedy, to follow the first.
    """

    longest_part = 255
    home: bool = True
    off: tuple[str, ...] = ()
    otherwise: str = ""

    def complaint(self, value: str) -> str | None:
        """Return the fault of a path, or None."""
        if not value.strip() or value.lower() in self.off:
            return f"is not a folder: give one{self.otherwise}" if self.off else "is empty: give a path"
        if value.startswith("~") and not self.home:
            return "begins with ~, which only the command line replaces: give the whole path"
        if len(value.encode()) >= 4096 or any(len(part.encode()) > self.longest_part for part in value.split("/")):
            return f"is too long: give a path of names of at most {self.longest_part} bytes"
        return None

    def __str__(self) -> str:
        return "a path"


@dataclass(frozen=True)
class PathComponent:
    """A name that becomes a part of paths: not empty, not hidden, without a slash."""

    longest = 160  # bytes: a folder's name holds two of them at most, and 255 is the file systems' limit

    def complaint(self, value: str) -> str | None:
        """Return the fault of a name, or None."""
        if not value.strip():
            return "is empty: give a name"
        if "/" in value:
            name = value.strip("/").rpartition("/")[2]
            return "is a path, and a name is needed: " + (
                f"give {name}" if self.complaint(name) is None else "give one"
            )
        if value.startswith("."):
            return "begins with a dot, as hidden files do: give another name"
        if len(value.encode()) > self.longest:
            return f"is too long: give a name of at most {self.longest} bytes"
        return None

    def __str__(self) -> str:
        return f"a name without /, at most {self.longest} bytes, that does not begin with a dot"


@dataclass(frozen=True)
class Secret:
    """A text that no message prints, since it may hold a password."""

    def complaint(self, value: str) -> str | None:
        """Return None: any text may be secret."""
        return None

    def __str__(self) -> str:
        return ""


def _number(value: float | None) -> str:
    return str(value) if isinstance(value, int) else f"{value:.15g}"


LARGEST = 2**31 - 1
LARGEST_SIDE = 16_384

Count = Annotated[int, Range(least=1, most=LARGEST)]
CountOrNone = Annotated[int, Range(least=0, most=LARGEST)]
Epochs = Annotated[int, Range(least=1, most=1_000_000)]
Pixels = Annotated[int, Range(least=16, most=LARGEST_SIDE)]
LearningRate = Annotated[float, Range(above=0, most=1e6, noun="a learning rate")]
Decay = Annotated[float, Range(least=0, most=1e6)]
Fraction = Annotated[float, Range(above=0, most=1)]
Moment = Annotated[float, Range(least=0, below=1)]
Positive = Annotated[float, Range(above=0, most=1e9)]
NotNegative = Annotated[float, Range(least=0, most=1e9)]
Name = Annotated[str, PathComponent()]
FilePath = Annotated[str, PathName()]
Label = Annotated[str, Text(250)]
"""The types of fields with bounds that several fields have."""
