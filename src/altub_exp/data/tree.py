"""A tree of folders named by split and kind, CATEGORY/{train/NORMAL, test/KIND, ground_truth/KIND}: MVTec AD, BTAD."""

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
        mask_ending: a mask's name is its image's name with this ending; their suffixes may differ.
    """

    name: str
    published: Published
    normal: str
    mask_ending: str

    def fits(self, root: Path) -> bool:
        """True if any folder below the root holds ``train/NORMAL``."""
        return any((folder / "train" / self.normal).is_dir() for folder in subfolders(root))

    def categories(self, root: Path) -> list[str]:
        """Return the categories on disk: every folder below the root that holds ``train`` or ``test``."""
        return [path.name for path in subfolders(root) if (path / "train").is_dir() or (path / "test").is_dir()]

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
        for kind in subfolders(folder / "test"):
            if kind.name == self.normal:
                test += [Sample(file, GOOD) for file in image_files(kind)]
            else:
                place = folder / "ground_truth" / kind.name
                masks = {mask.relative_to(place).with_suffix(""): mask for mask in image_files(place)}
                for file in image_files(kind):
                    name = file.relative_to(kind).with_name(file.stem + self.mask_ending)
                    test.append(Sample(file, kind_of_defect(kind.name), masks.get(name)))
        places = tuple(folder / part for part in ("train", "test", "ground_truth"))
        return ImageSet(dataset or self.name, category, folder, train, tuple(test), places)

    def read(self, root: Path, category: str, dataset: str | None = None) -> ImageSet:
        """Return the images of one category.

        Raises:
            UserError: the root, the category or a part of it is missing; a defective image has no mask, or a mask no
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
        matched = {sample.mask for sample in images.test}
        for kind in subfolders(folder / "ground_truth"):
            unmatched = [mask for mask in image_files(kind) if mask not in matched]
            if unmatched and not (folder / "test" / kind.name).is_dir():
                raise UserError(f"{kind} holds masks, but there is no folder {folder / 'test' / kind.name}: add it.")
            if unmatched and kind.name != self.normal:
                raise complain_about("masks without their image", unmatched, "Add the image or remove the mask.")
        if without := [sample.image for sample in images.test if sample.defective and sample.mask is None]:
            first = folder / "ground_truth" / without[0].parent.name / f"{without[0].stem}{self.mask_ending}.png"
            raise complain_about(
                "defective images without a mask",
                without,
                f"Add the mask ({first}, white where the defect is), or use dataset=folder, where masks are optional.",
            )
        return images.checked()
