"""The images of one category, with their kinds and masks."""

from __future__ import annotations

import functools
import hashlib
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from altub_exp.data.digests import content_digests
from altub_exp.data.files import READ_SUFFIXES, complain_about, files_below, named
from altub_exp.errors import UserError
from altub_exp.text import printable

GOOD = "good"
"""The kind of normal images."""


def kind_of_defect(name: str) -> str:
    """Return the kind of the defective images in a folder of this name; one called ``good`` gets another name.

    >>> kind_of_defect("scratch"), kind_of_defect("good")
    ('scratch', 'good (defective)')
    """
    return f"{GOOD} (defective)" if name == GOOD else name


@dataclass(frozen=True)
class Sample:
    """One image.

    Attributes:
        image: its file.
        kind: ``good``, or the name of its kind of defect.
        mask: the file of its mask, or the folder of ``parts``; None if it has none.
        class_ids: True if the mask certainly holds ids of kinds of defect (0: none), False if its values decide.
        parts: the files of a mask that consists of several: a pixel is defective if one of them marks it.
    """

    image: Path
    kind: str
    mask: Path | None = None
    class_ids: bool = False
    parts: tuple[Path, ...] = ()

    @property
    def defective(self) -> bool:
        """True if the image shows a defect."""
        return self.kind != GOOD

    def mask_files(self) -> list[Path]:
        """Return the files of its mask; [] if it has none."""
        return list(self.parts) or ([] if self.mask is None else [self.mask])

    def files(self) -> list[Path]:
        """Return the image and the files of its mask."""
        return [self.image, *self.mask_files()]


@dataclass(frozen=True)
class ImageSet:
    """The images of one category.

    Attributes:
        dataset: name of the data set.
        category: name of the category.
        root: the category's folder.
        train: normal training images.
        test: normal and defective test images.
        folders: the folders that are to hold nothing but images and masks of the set.
        cache: where the digests of the files are kept; None: only this process remembers them.
    """

    dataset: str
    category: str
    root: Path
    train: tuple[Sample, ...]
    test: tuple[Sample, ...]
    folders: tuple[Path, ...] = ()
    cache: Path | None = None

    @property
    def has_masks(self) -> bool:
        """True if there are defective test images, and each of them has a mask."""
        masked = [sample.mask is not None for sample in self.test if sample.defective]
        return bool(masked) and all(masked)

    def counts(self) -> tuple[int, int, int]:
        """Return the numbers of training images, of normal and of defective test images."""
        defective = sum(sample.defective for sample in self.test)
        return len(self.train), len(self.test) - defective, defective

    @functools.cached_property
    def digests(self) -> dict[Path, str]:
        """SHA-256 of the content of every image and mask, in hex digits.

        Raises:
            UserError: some files cannot be read.
        """
        return content_digests(self.files(), self.cache)

    def fingerprint(self) -> str:
        """Return 32 hex digits over names (relative to the category's folder), contents, split and kind of all files.

        The same files in another place have the same fingerprint; it changes if a file is added, removed, renamed,
        changed or used for something else.

        Raises:
            UserError: some files cannot be read.
        """
        lines = []
        for split, samples in (("train", self.train), ("test", self.test)):
            for sample in samples:
                line = [os.fsencode(split), os.fsencode(sample.kind)]
                for file in sample.files():
                    line += [os.fsencode(os.path.relpath(file, self.root)), self.digests[file].encode()]
                lines.append(b"\0".join(line))
        return hashlib.blake2b(b"\n".join(sorted(lines)), digest_size=16).hexdigest()

    def files(self) -> list[Path]:
        """Return the files of all images and masks."""
        return [file for sample in self.train + self.test for file in sample.files()]

    def checked(self) -> ImageSet:
        """Return the same images if they suffice for training.

        Raises:
            UserError: there are no training images, or defective test images without normal ones; a file stands in two
                places.
        """
        if twice := [file for file, count in Counter(self.files()).items() if count > 1]:
            raise complain_about("files that are used twice", twice, "Give each image one place and one mask.")
        if not self.train:
            others = "".join(f" ({sentence})" for sentence in self.left_out())
            raise UserError(
                f"{self.root} has no normal images to train on: put them where the layout expects them, as "
                f"{READ_SUFFIXES}{others}."
            )
        if self.test and all(sample.defective for sample in self.test):
            raise UserError(
                f"{self.root} has no normal test images: AUROC compares normal with defective ones, add some."
            )
        return self

    def without_auroc(self) -> list[str]:
        """Return a sentence about the lack of defective test images, if there are none."""
        if any(sample.defective for sample in self.test):
            return []
        lacking = "defective test images" if self.test else "test images"
        return [
            f"There are no {lacking}, so that a run has no AUROC, AUPRO, AP or F1-max, which compare normal with "
            "defective ones; loss, KS and predict --threshold quantile=… work"
        ]

    def copies(self) -> list[str]:
        """Return a sentence about images of equal content in different places, if there are any.

        Raises:
            UserError: some files cannot be read.
        """
        places: dict[str, dict[tuple[str, str], Path]] = {}
        for split, samples in (("train", self.train), ("test", self.test)):
            for sample in samples:
                places.setdefault(self.digests[sample.image], {})[split, sample.kind] = sample.image
        copies = [place for place in places.values() if len(place) > 1]
        copies.sort(key=lambda place: all(kind == GOOD for _, kind in place))
        contradictory = sum(len({kind == GOOD for _, kind in place}) > 1 for place in copies)
        shown = [" = ".join(printable(file) for file in place.values()) for place in copies[:3]]
        more = f" and {len(copies) - 3} more" if len(copies) > 3 else ""
        both = f", {contradictory} of them as normal and as defective ones" if contradictory else ""
        return [f"{len(copies)} images have copies in another place{both}: {', '.join(shown)}{more}"] if copies else []

    def left_out(self) -> list[str]:
        """Return a sentence about files in the folders of images that are no part of the set, if there are any."""
        used = set(self.files())
        below = dict.fromkeys(file for folder in self.folders for file in files_below(folder))  # one may lie in another
        files = [file for file in below if file not in used]
        return [f"{len(files)} files are not used: {named(files)}"] if files else []
