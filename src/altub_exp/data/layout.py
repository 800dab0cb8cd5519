"""The interface of a layout, and the facts about a published data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from altub_exp.data.downloads import read_downloads
from altub_exp.data.samples import ImageSet
from altub_exp.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Published:
    """A published data set.

    Attributes:
        title: name as published.
        source: address to get it from.
        landmark: a path that exists below the root once the data set is unpacked.
        counts: per category, the numbers of training images, normal and defective test images.
        download: its name for ``python -m altub_exp.data get``; None if that does not know it.
        terms: conditions and licence of a data set that is given on request only, as a part of a sentence.
    """

    title: str
    source: str
    landmark: str
    counts: dict[str, tuple[int, int, int]]
    download: str | None = None
    terms: str | None = None

    def remedy(self, root: Path, category: str) -> str:
        """Return how to get the data set, or a category that is missing from its root, as a part of a sentence."""
        download = None if self.download is None else read_downloads()[self.download]
        single = download is not None and category in download.categories
        if download is None or (root.is_dir() and not single):  # `get` overwrites nothing
            return f"get it from {self.source}{f' ({self.terms})' if self.terms else ''} and unpack it there"
        where = "" if root == Path("data") / download.name else f" --root {root}"
        command = f"python -m altub_exp.data get {download.name}{where}"
        if root.is_dir():
            return f"get it with `{command} --category {category}` (from {self.source})"
        only = f"; --category {category} gets only that" if single else ""
        return f"get it with `{command}` (from {self.source}{only})"

    def lacks(self, root: Path, category: str, present: list[str]) -> UserError:
        """Return the error for a root or a category that is missing: where to get it, or what is there instead."""
        if not root.is_dir():
            return UserError(
                f"There is no dataset folder {root} of {self.title} (expected: {root}/{self.landmark}, …): "
                f"{self.remedy(root, category)}, or set dataset.root to where it is."
            )
        if category in self.counts:
            return UserError(
                f"{root} has no category {category!r}: {self.remedy(root, category)}, or choose one that is there "
                f"({', '.join(present) or 'none'})."
            )
        meant = did_you_mean(category, [*present, *self.counts])
        return UserError(
            f"There is no category {category!r} in {root}{meant}: choose one of those there "
            f"({', '.join(present) or 'none, it is empty'})."
        )


class DiskLayout(Protocol):
    """The arrangement of a data set's categories below its root."""

    @property
    def published(self) -> Published | None:
        """The published data set that is laid out this way; None for a user's own images."""

    def fits(self, root: Path) -> bool:
        """True if the root is evidently laid out this way."""

    def categories(self, root: Path) -> list[str]:
        """Return the categories on disk."""

    def listed(self, root: Path, category: str, dataset: str | None = None) -> ImageSet:
        """Return the images of one category as they are on disk, unchecked; ``dataset`` is the name they get."""

    def read(self, root: Path, category: str, dataset: str | None = None) -> ImageSet:
        """Return the images of one category, checked."""
