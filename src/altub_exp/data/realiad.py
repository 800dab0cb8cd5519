"""Real-IAD's layout: root/realiad_jsons/CATEGORY.json lists split, class, image and mask of root/realiad_1024/CATEGORY.

An object is photographed by five cameras; each of its images (``C1`` … ``C5`` in their names) is an image of the
category. An image of a defective object in which no defect is visible is listed as normal.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from altub_exp.data.layout import Published
from altub_exp.data.listing import checked, image_set
from altub_exp.data.samples import GOOD, ImageSet, Sample, kind_of_defect
from altub_exp.errors import UserError

NORMAL = "OK"
"""The class of normal images; the others are codes of kinds of defect, such as ``HS`` (scratch)."""

SPLIT = "realiad_jsons"
"""The folder of the published split with the images of all cameras, whose counts are below."""

# Training images, normal and defective test images, as listed in the realiad_jsons of Wang et al. 2024,
# https://arxiv.org/abs/2403.12580
COUNTS: dict[str, tuple[int, int, int]] = {
    "audiojack": (1235, 2519, 1296),
    "bottle_cap": (1230, 2154, 1631),
    "button_battery": (1210, 1640, 2150),
    "end_cap": (1205, 1622, 2183),
    "eraser": (1230, 2347, 1488),
    "fire_hood": (1255, 2420, 1350),
    "mint": (835, 2371, 2099),
    "mounts": (1250, 2462, 1338),
    "pcb": (1235, 1486, 2289),
    "phone_battery": (1210, 2240, 1550),
    "plastic_nut": (1255, 2509, 1246),
    "plastic_plug": (1215, 2361, 1419),
    "porcelain_doll": (1210, 2535, 1255),
    "regulator": (1245, 2775, 1080),
    "rolled_strip_base": (1245, 1280, 2525),
    "sim_card_set": (1245, 1716, 2069),
    "switch": (1230, 1826, 1994),
    "tape": (1250, 2407, 1443),
    "terminalblock": (1220, 1822, 2008),
    "toothbrush": (1225, 1753, 2027),
    "toy": (1250, 1585, 2190),
    "toy_brick": (1240, 2234, 1536),
    "transistor1": (1245, 1638, 2117),
    "u_block": (1250, 2526, 1214),
    "usb": (1230, 2066, 1754),
    "usb_adaptor": (1155, 2340, 1520),
    "vcpill": (1260, 2295, 1470),
    "wooden_beads": (1090, 2231, 1684),
    "woodstick": (1255, 2677, 1073),
    "zipper": (1255, 1419, 2331),
}

PUBLISHED = Published(
    "Real-IAD",
    source="https://realiad4ad.github.io/Real-IAD",
    landmark=f"{SPLIT}/CATEGORY.json",
    counts=COUNTS,
    terms="after its authors have approved a request; CC BY-NC-SA 4.0, non-commercial",
)


@dataclass(frozen=True)
class SplitJson:
    """A file for each category that lists split, class, image and mask of each of its images.

    Attributes:
        image_dir: the folder of the images, one of the published sizes: ``realiad_256``, ``realiad_512``,
            ``realiad_1024`` or ``realiad_raw``.
        split_dir: the folder of the files: ``realiad_jsons``, or ``realiad_jsons_sv`` with the first camera only.
    """

    image_dir: str
    split_dir: str

    @property
    def published(self) -> Published:
        """The data set; counts are known for its split with all cameras."""
        return PUBLISHED if self.split_dir == SPLIT else replace(PUBLISHED, counts={})

    def fits(self, root: Path) -> bool:
        """True if the root holds the folder of split files."""
        return self._split_folder(root).is_dir()

    def categories(self, root: Path) -> list[str]:
        """Return the categories whose split file and images are on disk; [] if there is no such root.

        Raises:
            UserError: there is no folder of split files, or none of images.
        """
        if not root.is_dir():
            return []
        images, splits = root / self.image_dir, self._split_folder(root)
        for folder, key in ((images, "image_dir"), (splits, "split_dir")):
            if not folder.is_dir():
                others = ", ".join(sorted(path.name for path in root.glob("realiad_*") if path.is_dir()))
                raise UserError(
                    f"{root} has no folder {folder.name} of Real-IAD: unpack it there, or name another one with "
                    f"dataset.{key}=… ({root} holds {others or 'no folder of this kind'})."
                )
        return [file.stem for file in sorted(splits.glob("*.json")) if (images / file.stem).is_dir()]

    def listed(self, root: Path, category: str, dataset: str | None = None) -> ImageSet:
        """Return the images of one category as its file lists them, unchecked: files may be missing.

        Raises:
            UserError: there is no such root or category, or its file is not such a list.
        """
        present = self.categories(root)
        folder, file = root / self.image_dir / category, self._file(root, category)
        if category not in present:
            if folder.is_dir() and root.is_dir():
                raise UserError(f"There is no file {file} for the images in {folder}: it comes with Real-IAD, add it.")
            raise self.published.lacks(root, category, present)
        rows = []
        for split, entry in _entries(file):
            name, mask = entry["anomaly_class"], entry["mask_path"]
            kind = GOOD if name == NORMAL else kind_of_defect(name)
            shown = None if mask is None or kind == GOOD else folder / mask
            rows.append((split, Sample(folder / entry["image_path"], kind, shown)))
        return image_set(dataset or "realiad", category, folder, rows)

    def read(self, root: Path, category: str, dataset: str | None = None) -> ImageSet:
        """Return the images of one category.

        Raises:
            UserError: the root, the category, its file or a listed file is missing; the file is not such a list, lists
                a defective image for training, or one without a mask.
        """
        return checked(self.listed(root, category, dataset), self._file(root, category), self.published)

    def _split_folder(self, root: Path) -> Path:
        """Return the folder of split files, which may lie in one of the name of the archive, ``realiad_jsons.zip``."""
        folder, within = root / self.split_dir, root / SPLIT / self.split_dir
        return within if within.is_dir() else folder

    def _file(self, root: Path, category: str) -> Path:
        return self._split_folder(root) / f"{category}.json"


def _entries(file: Path) -> list[tuple[str, dict[str, Any]]]:
    """Return ``train`` or ``test``, and what is said about it, for each image that a split file lists.

    Raises:
        UserError: the file cannot be read, or is no such list.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read as JSON ({error}): get it again from {PUBLISHED.source}.") from error
    entries = []
    for split in ("train", "test"):
        rows = content.get(split) if isinstance(content, dict) else None
        if not isinstance(rows, list):
            raise UserError(f"{file} has no list {split!r}: get it again from {PUBLISHED.source}.")
        for number, row in enumerate(rows, start=1):
            if not _is_entry(row):
                raise UserError(
                    f"Entry {number} of {split!r} in {file} is {row!r}: give it the texts anomaly_class and "
                    "image_path, and mask_path, which is null if there is no mask."
                )
            entries.append((split, row))
    return entries


def _is_entry(row: object) -> bool:
    """True if a row of a split file has the three values that are read."""
    if not isinstance(row, dict) or "mask_path" not in row:
        return False
    texts = [row.get("anomaly_class"), row.get("image_path")]
    if row["mask_path"] is not None:
        texts.append(row["mask_path"])
    return all(isinstance(text, str) and text for text in texts)
