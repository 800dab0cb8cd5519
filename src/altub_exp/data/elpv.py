"""elpv-dataset: electroluminescence images of solar cells, in the installed package or a copy of its data.

The images and their labels are those of Deitsch et al. 2019, https://doi.org/10.1016/j.solener.2019.02.067.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path

from altub_exp.data.files import complain_about, natural
from altub_exp.data.layout import Published
from altub_exp.data.samples import GOOD, ImageSet, Sample
from altub_exp.errors import UserError
from altub_exp.machine.disk import package_folder
from altub_exp.machine.terminal import console

PACKAGE = "package:elpv-dataset"
"""The value of ``dataset.root`` that stands for the installed package."""

LICENCE = (
    "The images of elpv-dataset are CC BY-NC-SA 4.0 (non-commercial); please cite Deitsch et al. 2019, "
    "https://doi.org/10.1016/j.solener.2019.02.067"
)
INSTALL = "pip install 'altub-exp[elpv]' (about 90 MB; CC BY-NC-SA 4.0, non-commercial)"

PROBABILITIES = (33, 67, 100)
"""The defect probabilities above 0, in percent."""

# Training images, normal test images, and cells of the probabilities above 0: labels.csv of elpv-dataset 1.0.0
COUNTS: dict[str, tuple[int, int, int]] = {"mono": (392, 196, 486), "poly": (613, 307, 630)}


@dataclass(frozen=True)
class Cells:
    """The table ``labels.csv``, with one line ``images/NAME PROBABILITY TYPE`` for each cell; the type is its category.

    Of the N normal cells (probability 0) of a category, 2N / 3, rounded down, are for training: those whose file names
    come first in the order of their SHA-256. The others are the normal test images. The order of the table does not
    matter.

    Attributes:
        probabilities: the defect probabilities of the defective test images, in percent, ascending.
    """

    probabilities: tuple[int, ...]
    published = Published(
        "elpv-dataset", source="https://github.com/zae-bayern/elpv-dataset", landmark="labels.csv", counts=COUNTS
    )

    def __post_init__(self) -> None:
        allowed = [percent for percent in PROBABILITIES if percent in self.probabilities]
        if not allowed or list(self.probabilities) != allowed:
            raise UserError(
                f"dataset.probabilities={list(self.probabilities)} are not the defect probabilities of elpv-dataset: "
                f"give one or more of {', '.join(map(str, PROBABILITIES))} (percent), in this order."
            )

    def fits(self, root: Path) -> bool:
        """True if the root holds the table and the folder of images."""
        return (root / self.published.landmark).is_file() and (root / "images").is_dir()

    def categories(self, root: Path) -> list[str]:
        """Return the types of cells in the table; [] if there is no such root.

        Raises:
            UserError: the table is missing, or one of its lines is wrong.
        """
        return list(dict.fromkeys(category for _, _, category in self._rows(root))) if root.is_dir() else []

    def listed(self, root: Path, category: str, dataset: str | None = None) -> ImageSet:
        """Return the images of one type of cells, unchecked: files may be missing; ``p33`` is the kind of 33 percent.

        Raises:
            UserError: there is no such root or category, or a line of the table is wrong.
        """
        present = self.categories(root)
        if category not in present:
            raise self.published.lacks(root, category, present)
        images: dict[int, list[Path]] = {0: [], **{percent: [] for percent in PROBABILITIES}}
        for image, percent, kind in self._rows(root):
            if kind == category:
                images[percent].append(image)
        normal = sorted(images[0], key=lambda image: hashlib.sha256(image.name.encode()).digest())
        count = 2 * len(normal) // 3
        train = [Sample(image, GOOD) for image in sorted(normal[:count], key=natural)]
        test = [Sample(image, GOOD) for image in sorted(normal[count:], key=natural)]
        for percent in self.probabilities:
            test += [Sample(image, f"p{percent}") for image in sorted(images[percent], key=natural)]
        return ImageSet(dataset or "elpv", category, root, tuple(train), tuple(test))

    def read(self, root: Path, category: str, dataset: str | None = None) -> ImageSet:
        """Return the images of one type of cells.

        Raises:
            UserError: the root, the table, the category or a listed file is missing; a line of the table is wrong.
        """
        images = self.listed(root, category, dataset)
        files = [sample.image for sample in images.train + images.test]
        if missing := [file for file in files if not file.is_file()]:
            table = root / self.published.landmark
            raise complain_about(
                f"{len(missing)} files that {table} names are missing", missing, f"Get them again: {INSTALL}."
            )
        return images.checked()

    def _rows(self, root: Path) -> list[tuple[Path, int, str]]:
        """Return image, defect probability in percent and type of each cell."""
        table = root / self.published.landmark
        if not table.is_file():
            raise UserError(
                f"There is no table {table}: it comes with {self.published.title}, get it again with {INSTALL}, or set "
                "dataset.root to the folder that holds it."
            )
        try:
            lines = table.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise UserError(f"{table} cannot be read as a table ({error}): get it again with {INSTALL}.") from error
        rows = []
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                image, probability, category = line.split()
                percent = round(100 * float(probability))
            except (ValueError, OverflowError):
                percent = -1
            if percent not in (0, *PROBABILITIES) or category not in COUNTS:
                raise UserError(
                    f"Line {number} of {table} is {line!r}: write images/NAME, the defect probability "
                    f"(0.0, 0.3333333333333333, 0.6666666666666666 or 1.0) and {' or '.join(COUNTS)}."
                )
            rows.append((root / image, percent, category))
        return rows


def package_data() -> Path:
    """Return the folder of the installed package that holds ``labels.csv`` and ``images``; nothing is imported.

    Raises:
        UserError: the package is not installed.
    """
    folder = package_folder("elpv_dataset")
    if folder is None:
        raise UserError(
            f"dataset=elpv reads the package elpv-dataset, which is not installed: {INSTALL}, or set dataset.root to "
            "a folder that holds its labels.csv and images."
        )
    return folder / "data"


@functools.cache
def print_licence() -> None:
    """Print licence and source of the images on the terminal, once in a process."""
    console.print(LICENCE, highlight=False, soft_wrap=True)
