"""A user's own images: root/CATEGORY with a folder of normal training images, test images, and optional masks."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from altub_exp.data.files import complain_about, image_files, subfolders
from altub_exp.data.samples import GOOD, ImageSet, Sample, kind_of_defect
from altub_exp.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Folders:
    """The folders below ``root/CATEGORY``.

    Attributes:
        train_dir: holds normal training images.
        normal_dir: holds normal test images; None: there are no test images.
        defect_dir: holds defective test images, all together or in a folder for each kind of defect; None: there are
            none.
        mask_dir: holds masks named NAME.* or NAME_mask.* in the same arrangement; if None or missing, there are none.
    """

    train_dir: str
    normal_dir: str | None
    defect_dir: str | None
    mask_dir: str | None
    published = None

    def fits(self, root: Path) -> bool:
        """True if any folder below the root holds the folders of images."""
        parts = (self.train_dir, self.normal_dir, self.defect_dir)
        return any(all((folder / part).is_dir() for part in parts if part) for folder in subfolders(root))

    def categories(self, root: Path) -> list[str]:
        """Return the categories on disk: every folder below the root."""
        return [path.name for path in subfolders(root)]

    def listed(self, root: Path, category: str, dataset: str | None = None) -> ImageSet:
        """Return the images of one category as they are on disk, unchecked; missing folders count as empty.

        A folder that lies in another one, as ``test/normal`` in ``test``, is no part of that one.

        Raises:
            UserError: an image has two masks.
        """
        folder = root / category
        train_dir, normal_dir, defect_dir, mask_dir = (
            None if part is None else Path(os.path.normpath(folder / part))
            for part in (self.train_dir, self.normal_dir, self.defect_dir, self.mask_dir)
        )
        places = [place for place in (train_dir, normal_dir, defect_dir, mask_dir) if place is not None]

        def files(place: Path | None) -> list[Path]:
            return image_files(place, without=[other for other in places if place in other.parents]) if place else []

        masks = _masks(mask_dir, files(mask_dir)) if mask_dir else {}
        train = tuple(Sample(file, GOOD) for file in files(train_dir))
        test = [Sample(file, GOOD) for file in files(normal_dir)]
        for file in files(defect_dir):
            assert defect_dir is not None
            name = file.relative_to(defect_dir)
            kind = kind_of_defect(name.parts[0]) if len(name.parts) > 1 else "defective"
            test.append(Sample(file, kind, masks.get(name.with_suffix(""))))
        return ImageSet(dataset or "folder", category, folder, train, tuple(test), tuple(places))

    def read(self, root: Path, category: str, dataset: str | None = None) -> ImageSet:
        """Return the images of one category.

        Raises:
            UserError: a folder is missing or empty, or only some of the defective images have a mask.
        """
        folder = root / category
        if not folder.is_dir():
            present = self.categories(root)
            raise UserError(
                f"There is no folder {folder}{did_you_mean(category, present)}: set dataset.root and dataset.category "
                f"so that ROOT/CATEGORY/{self.train_dir} holds your normal images; {root} holds "
                f"{', '.join(present) or 'no folder'}."
            )
        parts = {"train_dir": self.train_dir, "normal_dir": self.normal_dir, "defect_dir": self.defect_dir}
        for key, part in parts.items():
            if part is not None and not (folder / part).is_dir():
                none = "" if key == "train_dir" else f", or set dataset.{key}=null if there are no such images"
                raise UserError(f"{folder} has no folder {part}: make it, or name yours with dataset.{key}=…{none}.")
        images = self.listed(root, category, dataset)
        without = [sample.image for sample in images.test if sample.defective and sample.mask is None]
        if without and self.mask_dir is not None and (folder / self.mask_dir).is_dir():
            raise complain_about(
                f"defective images without a mask in {folder / self.mask_dir}",
                without,
                "Add NAME.png or NAME_mask.png for each, or set dataset.mask_dir=null to do without masks.",
            )
        return images.checked()


def _masks(folder: Path, files: list[Path]) -> dict[Path, Path]:
    """Return {path of the image below its folder, without suffix: mask}.

    Raises:
        UserError: an image has two masks.
    """
    masks: dict[Path, Path] = {}
    for file in files:
        name = file.relative_to(folder).with_name(file.stem.removesuffix("_mask"))
        if name in masks:
            raise complain_about("two masks of one image", [masks[name], file], "Remove one of them.")
        masks[name] = file
    return masks
