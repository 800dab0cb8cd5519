"""What a layout finds on disk: the images of one category, with their kinds and masks."""

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
        mask: the file of its mask, or None where it has none.
        class_ids: whether the mask holds ids of kinds of defect (0: none) and not white where the defect is.
    """

    image: Path
    kind: str
    mask: Path | None = None
    class_ids: bool = False

    @property
    def defective(self) -> bool:
        """Whether the image shows a defect."""
        return self.kind != GOOD


@dataclass(frozen=True)
class ImageSet:
    """The images of one category.

    Attributes:
        dataset: name of the data set.
        category: name of the category.
        root: the category's folder.
        train: normal images to train on.
        test: normal and defective images.
    """

    dataset: str
    category: str
    root: Path
    train: tuple[Sample, ...]
    test: tuple[Sample, ...]

    @property
    def has_masks(self) -> bool:
        """Whether every defective test image has a mask."""
        return all(sample.mask is not None for sample in self.test if sample.defective)

    def fingerprint(self) -> str:
        """32 hex digits over names (relative to the category's folder), sizes, split and kind of all files.

        The same files elsewhere have the same fingerprint; a file added, removed, renamed, re-encoded or put to another
        use changes it.
        """
        lines = []
        for split, samples in (("train", self.train), ("test", self.test)):
            for sample in samples:
                files = [sample.image] if sample.mask is None else [sample.image, sample.mask]
                sizes = [f"{os.path.relpath(file, self.root)} {file.stat().st_size}" for file in files]
                lines.append(f"{' '.join([split, sample.kind, *sizes])}\n")
        return hashlib.blake2b("".join(sorted(lines)).encode(), digest_size=16).hexdigest()

    def checked(self) -> ImageSet:
        """The same, if one can train and judge with it.

        Raises:
            UserError: no training images, or not both normal and defective test images.
        """
        if not self.train:
            raise UserError(f"{self.root} has no normal images to train on: put them where the layout expects them.")
        kinds = {sample.defective for sample in self.test}
        for defective, word in ((False, "normal"), (True, "defective")):
            if defective not in kinds:
                raise UserError(
                    f"{self.root} has no {word} test images: AUROC compares normal with defective ones, add some."
                )
        return self


def image_files(folder: Path) -> list[Path]:
    """The image files directly in a folder, in natural order (2 before 10), hidden ones left out; [] if none."""
    if not folder.is_dir():
        return []
    found = [p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith(".") and p.is_file()]
    return sorted(found, key=natural)


def subfolders(folder: Path) -> list[Path]:
    """The folders directly in a folder, by name, hidden ones left out; [] if there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def natural(path: Path) -> list[tuple[int, int | str]]:
    """Sort key that takes digits as numbers.

    >>> sorted([Path("10.png"), Path("2.png")], key=natural)[0].name
    '2.png'
    """
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", path.name)]


def complain_about(what: str, files: list[Path], remedy: str) -> UserError:
    """One sentence that names up to three of the files."""
    shown = ", ".join(str(file) for file in files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
    return UserError(f"{what}: {shown}. {remedy}")
