"""A user's own images: root/CATEGORY with a folder of normal training images, test images, and optional masks."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

from altub_exp.data.samples import GOOD, ImageSet, Sample, complain_about, image_files, subfolders
from altub_exp.errors import UserError


@dataclass(frozen=True)
class Folders:
    """Which folder below ``root/CATEGORY`` holds what.

    Attributes:
        train_dir: normal images to train on.
        normal_dir: normal test images.
        defect_dir: defective ones, all together or a folder per kind of defect.
        mask_dir: masks named NAME.* or NAME_mask.* in the same arrangement; None or missing: no masks.
    """

    train_dir: str
    normal_dir: str
    defect_dir: str
    mask_dir: str | None
    published = None

    def fits(self, root: Path) -> bool:
        """Whether any folder below the root holds the three folders of images."""
        parts = (self.train_dir, self.normal_dir, self.defect_dir)
        return any(all((folder / part).is_dir() for part in parts) for folder in subfolders(root))

    def categories(self, root: Path) -> list[str]:
        """The categories on disk: every folder below the root."""
        return [path.name for path in subfolders(root)]

    def listed(self, root: Path, category: str, dataset: str | None = None) -> ImageSet:
        """The images of one category as they lie there, unchecked; what is missing is left out."""
        folder = root / category
        masks = _masks(folder / self.mask_dir) if self.mask_dir is not None else {}
        train = tuple(Sample(file, GOOD) for file in image_files(folder / self.train_dir))
        test = [Sample(file, GOOD) for file in image_files(folder / self.normal_dir)]
        defective = folder / self.defect_dir
        for place, kind in [(Path(), "defective"), *((Path(p.name), p.name) for p in subfolders(defective))]:
            test += [Sample(f, kind, masks.get(str(place / f.stem))) for f in image_files(defective / place)]
        return ImageSet(dataset or "folder", category, folder, train, tuple(test))

    def read(self, root: Path, category: str, dataset: str | None = None) -> ImageSet:
        """The images of one category.

        Raises:
            UserError: a folder is missing or empty, or masks are there but not for every defective image.
        """
        folder = root / category
        if not folder.is_dir():
            present = self.categories(root)
            close = difflib.get_close_matches(category, present, n=1)
            meant = f" (did you mean {close[0]}?)" if close else ""
            raise UserError(
                f"There is no folder {folder}{meant}: set dataset.root and dataset.category so that "
                f"ROOT/CATEGORY/{self.train_dir} holds your normal images; {root} holds "
                f"{', '.join(present) or 'no folder'}."
            )
        for key in ("train_dir", "normal_dir", "defect_dir"):
            part = getattr(self, key)
            if not (folder / part).is_dir():
                raise UserError(f"{folder} has no folder {part}: make it, or name yours by dataset.{key}=….")
        images = self.listed(root, category, dataset)
        without = [sample.image for sample in images.test if sample.defective and sample.mask is None]
        if without and self.mask_dir is not None and (folder / self.mask_dir).is_dir():
            raise complain_about(
                f"defective images without a mask in {folder / self.mask_dir}",
                without,
                "Add NAME.png or NAME_mask.png for each, or set dataset.mask_dir=null to do without masks.",
            )
        return images.checked()


def _masks(folder: Path) -> dict[str, Path]:
    """{path of the image below its folder, without suffix: mask}."""
    return {
        str(place / file.stem.removesuffix("_mask")): file
        for place in [Path(), *(Path(p.name) for p in subfolders(folder))]
        for file in image_files(folder / place)
    }
