"""What every layout offers, and what is known of a published data set before it is on disk."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from altub_exp.data.samples import ImageSet
from altub_exp.errors import UserError


@dataclass(frozen=True)
class Published:
    """A published data set.

    Attributes:
        title: its name.
        source: where to get it.
        landmark: what exists below the root once it is unpacked.
        counts: per category, images for training, normal and defective images for testing.
    """

    title: str
    source: str
    landmark: str
    counts: dict[str, tuple[int, int, int]]

    def lacks(self, root: Path, category: str, present: list[str]) -> UserError:
        """The sentence for a root or a category that is not there: where to get it, or what is there instead."""
        if not root.is_dir():
            return UserError(
                f"There is no dataset folder {root} (expected: {root}/{self.landmark}, …): get {self.title} from "
                f"{self.source} and unpack it there, or set dataset.root to where it is."
            )
        if category in self.counts:
            return UserError(
                f"{root} has no category {category!r}: get it from {self.source} and unpack it there, or choose one "
                f"that is there ({', '.join(present) or 'none'})."
            )
        close = difflib.get_close_matches(category, [*present, *self.counts], n=1)
        meant = f" (did you mean {close[0]}?)" if close else ""
        return UserError(
            f"There is no category {category!r} in {root}{meant}: choose one of those there "
            f"({', '.join(present) or 'none, it is empty'})."
        )


class DiskLayout(Protocol):
    """How the categories of a data set lie below its root."""

    @property
    def published(self) -> Published | None:
        """The data set that is laid out this way, if it is one."""

    def fits(self, root: Path) -> bool:
        """Whether the root is evidently laid out this way."""

    def categories(self, root: Path) -> list[str]:
        """The categories on disk."""

    def listed(self, root: Path, category: str, dataset: str | None = None) -> ImageSet:
        """The images of one category as they are found, unchecked; ``dataset`` is how to call them."""

    def read(self, root: Path, category: str, dataset: str | None = None) -> ImageSet:
        """The images of one category, checked."""
