"""The images of one category, with their kinds and masks, and the files of a folder."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from altub_exp.errors import UserError

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
GOOD = "good"


@dataclass(frozen=True)
class Sample:
    """One image.

    Attributes:
        image: its file.
        kind: ``good``, or the name of its kind of defect.
        mask: the file of its mask; None if it has none.
        class_ids: True if the mask holds ids of kinds of defect (0: none), False if it is white where the defect is.
    """

    image: Path
    kind: str
    mask: Path | None = None
    class_ids: bool = False

    @property
    def defective(self) -> bool:
        """True if the image shows a defect."""
        return self.kind != GOOD


@dataclass(frozen=True)
class ImageSet:
    """The images of one category.

    Attributes:
        dataset: name of the data set.
        category: name of the category.
        root: the category's folder.
        train: normal training images.
        test: normal and defective test images.
    """

    dataset: str
    category: str
    root: Path
    train: tuple[Sample, ...]
    test: tuple[Sample, ...]

    @property
    def has_masks(self) -> bool:
        """True if every defective test image has a mask."""
        return all(sample.mask is not None for sample in self.test if sample.defective)

    def counts(self) -> tuple[int, int, int]:
        """Return the numbers of training images, of normal and of defective test images."""
        defective = sum(sample.defective for sample in self.test)
        return len(self.train), len(self.test) - defective, defective

    def fingerprint(self) -> str:
        """Return 32 hex digits over names (relative to the category's folder), sizes, split and kind of all files.

        The same files in another place have the same fingerprint; it changes if a file is added, removed, renamed,
        re-encoded or used for something else.
        """
        lines = []
        for split, samples in (("train", self.train), ("test", self.test)):
            for sample in samples:
                files = [sample.image] if sample.mask is None else [sample.image, sample.mask]
                sizes = [f"{os.path.relpath(file, self.root)} {file.stat().st_size}" for file in files]
                lines.append(f"{' '.join([split, sample.kind, *sizes])}\n")
        return hashlib.blake2b("".join(sorted(lines)).encode(), digest_size=16).hexdigest()

    def checked(self) -> ImageSet:
        """Return the same images if they suffice for training and evaluation.

        Raises:
            UserError: there are no training images, or not both normal and defective test images.
        """
        if not self.train:
            raise UserError(f"{self.root} has no normal images to train on: put them where the layout expects them.")
        present = {sample.defective for sample in self.test}
        for defective, word in ((False, "normal"), (True, "defective")):
            if defective not in present:
                raise UserError(
                    f"{self.root} has no {word} test images: AUROC compares normal with defective ones, add some."
                )
        return self


def image_files(folder: Path) -> list[Path]:
    """Return the image files in a folder, but not hidden ones, in natural order (2 before 10); [] without a folder."""
    if not folder.is_dir():
        return []
    files = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file()]
    return sorted((file for file in files if not file.name.startswith(".")), key=natural)


SYSTEM_FOLDERS = frozenset({"__MACOSX", "lost+found", "$RECYCLE.BIN", "System Volume Information", "@eaDir"})
"""Folders that archives and operating systems leave among a user's own."""


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in a folder, but not hidden ones and those of a system, by name; [] without a folder."""
    if not folder.is_dir():
        return []
    own = (path for path in folder.iterdir() if not path.name.startswith(".") and path.name not in SYSTEM_FOLDERS)
    return sorted(path for path in own if path.is_dir())


def natural(path: Path) -> list[tuple[int, int | str]]:
    """Return a sort key that takes digits as numbers.

    >>> sorted([Path("10.png"), Path("2.png")], key=natural)[0].name
    '2.png'
    """
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", path.name)]


def complain_about(problem: str, files: list[Path], remedy: str) -> UserError:
    """Return an error that names up to three of the files."""
    shown = ", ".join(str(file) for file in files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
    return UserError(f"{problem}: {shown}. {remedy}")
