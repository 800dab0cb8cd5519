"""A tree of folders named by split and kind, CATEGORY/{train/NORMAL, test/KIND, ground_truth/KIND}.

Those of MVTec AD, MVTec AD 2, MVTec LOCO AD and BTAD are such.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from altub_exp.data.files import complain_about, image_files, subfolders
from altub_exp.data.layout import Published
from altub_exp.data.samples import GOOD, ImageSet, Sample, kind_of_defect
from altub_exp.errors import UserError


@dataclass(frozen=True)
class Tree:
    """The names of a data set's folders and masks.

    Attributes:
        name: default name of the data set.
        published: the data set.
        normal: name of the folders of normal images.
        mask_ending: a mask's name is its image's name with this ending; their suffixes may differ. None: a mask is a
            folder with its image's name, which holds class ids in one or more files.
        test: the folder of the test images.
        ground_truth: the folder of the masks; it may lie in that of the test images.
    """

    name: str
    published: Published
    normal: str
    mask_ending: str | None
    test: str = "test"
    ground_truth: str = "ground_truth"

    def fits(self, root: Path) -> bool:
        """True if any folder below the root holds ``train/NORMAL`` and the folder of test images, with such masks."""
        return any(self._fits(folder) for folder in subfolders(root))

    def _fits(self, folder: Path) -> bool:
        if not (folder / "train" / self.normal).is_dir() or not (folder / self.test).is_dir():
            return False
        kinds = subfolders(folder / self.ground_truth)
        return self.mask_ending is not None or any(subfolders(kind) for kind in kinds)

    def categories(self, root: Path) -> list[str]:
        """Return the categories on disk: every folder below the root that holds training or test images."""
        return [path.name for path in subfolders(root) if (path / "train").is_dir() or (path / self.test).is_dir()]

    def listed(self, root: Path, category: str, dataset: str | None = None) -> ImageSet:
        """Return the images of one category as they are on disk, unchecked; defective ones may lack their mask.

        Raises:
            UserError: there is no such root or category.
        """
        folder = root / category
        if not folder.is_dir():
            raise self.published.lacks(root, category, self.categories(root))
        train = tuple(Sample(file, GOOD) for file in image_files(folder / "train" / self.normal))
        test: list[Sample] = []
        for kind in subfolders(folder / self.test):
            if kind.name == self.normal:
                test += [Sample(file, GOOD) for file in image_files(kind)]
            elif kind != folder / self.ground_truth:
                test += self._defective(kind, folder / self.ground_truth / kind.name)
        places = tuple(folder / part for part in ("train", self.test, self.ground_truth))
        return ImageSet(dataset or self.name, category, folder, train, tuple(test), places)

    def _defective(self, kind: Path, place: Path) -> list[Sample]:
        """Return the images of a kind of defect, with their masks in ``place``."""
        label, files = kind_of_defect(kind.name), image_files(kind)
        if self.mask_ending is not None:
            masks = {mask.relative_to(place).with_suffix(""): mask for mask in image_files(place)}
            names = [file.relative_to(kind).with_name(file.stem + self.mask_ending) for file in files]
            return [Sample(file, label, masks.get(name)) for file, name in zip(files, names, strict=True)]
        parts: dict[Path, list[Path]] = {}
        for mask in image_files(place):
            parts.setdefault(mask.parent, []).append(mask)
        folders = [place / file.relative_to(kind).with_name(file.stem) for file in files]
        return [
            Sample(file, label, folder, class_ids=True, parts=tuple(parts[folder]))
            if folder in parts
            else Sample(file, label)
            for file, folder in zip(files, folders, strict=True)
        ]

    def read(self, root: Path, category: str, dataset: str | None = None) -> ImageSet:
        """Return the images of one category.

        Raises:
            UserError: the root, the category or a part of it is missing; a defective image has no mask, or a mask no
                image.
        """
        images = self.listed(root, category, dataset)
        folder = images.root
        for part in (f"train/{self.normal}", self.test):
            if not (folder / part).is_dir():
                raise UserError(
                    f"{folder} has no folder {part}: the layout is {root}/CATEGORY/{{train/{self.normal}, "
                    f"{self.test}/{self.normal}, {self.test}/DEFECT, {self.ground_truth}/DEFECT}}; other layouts are "
                    "dataset=mvtec, mvtec2, loco, btad, visa, realiad, and dataset=folder for your own."
                )
        matched = {file for sample in images.test for file in sample.mask_files()}
        for kind in subfolders(folder / self.ground_truth):
            unmatched = [mask for mask in image_files(kind) if mask not in matched]
            if unmatched and not (folder / self.test / kind.name).is_dir():
                place = folder / self.test / kind.name
                raise UserError(f"{kind} holds masks, but there is no folder {place}: add it.")
            if unmatched and kind.name != self.normal:
                several = self.mask_ending is not None and unmatched[0].parent != kind
                other = "; a folder of masks for each image is read by dataset=loco" if several else ""
                raise complain_about(
                    "masks without their image", unmatched, f"Add the image or remove the mask{other}."
                )
        if without := [sample.image for sample in images.test if sample.defective and sample.mask is None]:
            name = "/000" if self.mask_ending is None else self.mask_ending
            first = folder / self.ground_truth / without[0].parent.name / f"{without[0].stem}{name}.png"
            raise complain_about(
                "defective images without a mask",
                without,
                f"Add the mask ({first}, white where the defect is), or use dataset=folder, where masks are optional.",
            )
        return images.checked()
