"""VisA's layout: root/split_csv/1cls.csv lists split, label, image and mask of root/OBJECT/Data/{Images, Masks}."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from altub_exp.data.layout import Published
from altub_exp.data.listing import checked, image_set
from altub_exp.data.samples import GOOD, ImageSet, Sample
from altub_exp.errors import UserError

COLUMNS = ("object", "split", "label", "image", "mask")

# Training images, normal and anomalous test images, as listed in the split_csv/1cls.csv of Zou et al. 2022,
# https://arxiv.org/abs/2207.14315
COUNTS: dict[str, tuple[int, int, int]] = {
    "candle": (900, 100, 100),
    "capsules": (542, 60, 100),
    "cashew": (450, 50, 100),
    "chewinggum": (453, 50, 100),
    "fryum": (450, 50, 100),
    "macaroni1": (900, 100, 100),
    "macaroni2": (900, 100, 100),
    "pcb1": (904, 100, 100),
    "pcb2": (901, 100, 100),
    "pcb3": (905, 101, 100),
    "pcb4": (904, 101, 100),
    "pipe_fryum": (450, 50, 100),
}


@dataclass(frozen=True)
class SplitFile:
    """A table that lists split and label of each image, whatever the folders are called.

    Masks hold class ids: every pixel other than 0 is a defect (as in prepare_data.py of amazon-science/spot-diff).

    Attributes:
        name: default name of the data set.
        published: the data set; its landmark is the table.
    """

    name: str
    published: Published

    def fits(self, root: Path) -> bool:
        """True if the root holds the table."""
        return (root / self.published.landmark).is_file()

    def categories(self, root: Path) -> list[str]:
        """Return the objects of the table whose folder is on disk, in the table's order; [] if there is no such root.

        Raises:
            UserError: the table is missing or cannot be read.
        """
        objects = dict.fromkeys(row["object"] for row in self._rows(root)) if root.is_dir() else {}
        return [name for name in objects if (root / name).is_dir()]

    def listed(self, root: Path, category: str, dataset: str | None = None) -> ImageSet:
        """Return the images of one object as the table lists them, unchecked: files may be missing.

        They are in natural order, normal ones first, whatever the order of the table's lines.

        Raises:
            UserError: there is no such root or object, or the table has unknown columns or values.
        """
        present = self.categories(root)
        if category not in present:
            raise self.published.lacks(root, category, present)
        rows = []
        for row in self._rows(root):
            if row["object"] == category:
                kind = GOOD if row["label"] == "normal" else row["label"]
                mask = root / row["mask"] if row["mask"] and kind != GOOD else None
                rows.append((row["split"], Sample(root / row["image"], kind, mask, class_ids=True)))
        return image_set(dataset or self.name, category, root / category, rows)

    def read(self, root: Path, category: str, dataset: str | None = None) -> ImageSet:
        """Return the images of one object.

        Raises:
            UserError: the root, the table, the object or a listed file is missing; the table lists an anomalous image
                for training, or one without a mask.
        """
        return checked(self.listed(root, category, dataset), root / self.published.landmark, self.published)

    def _rows(self, root: Path) -> list[dict[str, str]]:
        table = root / self.published.landmark
        if not table.is_file():
            raise UserError(
                f"There is no table {table}: it comes with {self.published.title}, get it from "
                f"{self.published.source}, or set dataset.root to the folder that holds it."
            )
        try:
            with table.open(newline="", encoding="utf-8-sig") as lines:
                reader = csv.DictReader(lines, restval="")
                rows = list(reader)
        except (OSError, ValueError, csv.Error) as error:
            raise UserError(
                f"{table} cannot be read as a table ({error}): get it again from {self.published.source}."
            ) from error
        if absent := [name for name in COLUMNS if name not in (reader.fieldnames or [])]:
            raise UserError(f"{table} has no column {', '.join(absent)}: its first line must be {','.join(COLUMNS)}.")
        for number, row in enumerate(rows, start=2):
            for column, allowed in (("split", ("train", "test")), ("label", ("normal", "anomaly"))):
                if row[column] not in allowed:
                    raise UserError(
                        f"Line {number} of {table} has {column} {row[column]!r}: write {' or '.join(allowed)}."
                    )
        return rows


LAYOUT = SplitFile(
    "visa",
    Published(
        "VisA",
        source="https://github.com/amazon-science/spot-diff",
        landmark="split_csv/1cls.csv",
        counts=COUNTS,
        download="visa",
    ),
)
