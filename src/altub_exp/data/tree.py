"""Folders that name split and kind, CATEGORY/{train/NORMAL, test/KIND, ground_truth/KIND}: MVTec AD's and BTAD's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from altub_exp.data.layout import Published
from altub_exp.data.samples import GOOD, ImageSet, Sample, complain_about, image_files, subfolders
from altub_exp.errors import UserError


@dataclass(frozen=True)
class Tree:
    """How one data set names its folders and masks.

    Attributes:
        name: what the images are called where nothing else is said.
        published: the data set.
        normal: the folder of normal images.
        mask_ending: what the name of a mask adds to that of its image; their suffixes may differ.
    """

    name: str
    published: Published
    normal: str
    mask_ending: str

    def fits(self, root: Path) -> bool:
        """Whether any folder below the root holds ``train/NORMAL``."""
        return any((folder / "train" / self.normal).is_dir() for folder in subfolders(root))

    def categories(self, root: Path) -> list[str]:
        """The categories on disk: every folder below the root that holds ``train`` or ``test``."""
        return [f.name for f in subfolders(root) if (f / "train").is_dir() or (f / "test").is_dir()]

    def listed(self, root: Path, category: str, dataset: str | None = None) -> ImageSet:
        """The images of one category as they lie there, unchecked; defective ones may lack their mask.

        Raises:
            UserError: there is no such root or category.
        """
        folder = root / category
        if not folder.is_dir():
            raise self.published.lacks(root, category, self.categories(root))
        train = tuple(Sample(file, GOOD) for file in image_files(folder / "train" / self.normal))
        test: list[Sample] = []
        for kind in subfolders(folder / "test"):
            if kind.name == self.normal:
                test += [Sample(file, GOOD) for file in image_files(kind)]
            else:
                masks = {mask.stem: mask for mask in image_files(folder / "ground_truth" / kind.name)}
                test += [Sample(f, kind.name, masks.get(f.stem + self.mask_ending)) for f in image_files(kind)]
        return ImageSet(dataset or self.name, category, folder, train, tuple(test))

    def read(self, root: Path, category: str, dataset: str | None = None) -> ImageSet:
        """The images of one category.

        Raises:
            UserError: the root, the category or a part of it is missing; a defective image has no mask or a mask no
                image.
        """
        images = self.listed(root, category, dataset)
        folder = images.root
        for part in (f"train/{self.normal}", "test"):
            if not (folder / part).is_dir():
                raise UserError(
                    f"{folder} has no folder {part}: the layout is {root}/CATEGORY/{{train/{self.normal}, "
                    f"test/{self.normal}, test/DEFECT, ground_truth/DEFECT}}; other layouts are dataset=mvtec, btad, "
                    "visa, and dataset=folder for your own."
                )
        taken = {sample.mask for sample in images.test}
        for kind in subfolders(folder / "ground_truth"):
            left = [mask for mask in image_files(kind) if mask not in taken]
            if left and not (folder / "test" / kind.name).is_dir():
                raise UserError(f"{kind} holds masks, but there is no folder {folder / 'test' / kind.name}: add it.")
            if left and kind.name != self.normal:
                raise complain_about("masks without their image", left, "Add the image or remove the mask.")
        if without := [sample.image for sample in images.test if sample.defective and sample.mask is None]:
            first = folder / "ground_truth" / without[0].parent.name / f"{without[0].stem}{self.mask_ending}.png"
            raise complain_about(
                "defective images without a mask",
                without,
                f"Add the mask ({first}, white where the defect is), or use dataset=folder, where masks are optional.",
            )
        return images.checked()
