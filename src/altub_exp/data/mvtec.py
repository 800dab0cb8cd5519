"""MVTec AD's layout: root/CATEGORY/{train/good, test/good, test/DEFECT, ground_truth/DEFECT/NAME_mask.png}."""

from __future__ import annotations

import difflib
from pathlib import Path

from altub_exp.data.samples import GOOD, ImageSet, Sample, complain_about, image_files, subfolders
from altub_exp.errors import UserError

SOURCE = "https://www.mvtec.com/company/research/datasets/mvtec-ad"

# images for training, normal and defective images for testing; Bergmann et al. 2019, Table 1
COUNTS: dict[str, tuple[int, int, int]] = {
    "carpet": (280, 28, 89),
    "grid": (264, 21, 57),
    "leather": (245, 32, 92),
    "tile": (230, 33, 84),
    "wood": (247, 19, 60),
    "bottle": (209, 20, 63),
    "cable": (224, 58, 92),
    "capsule": (219, 23, 109),
    "hazelnut": (391, 40, 70),
    "metal_nut": (220, 22, 93),
    "pill": (267, 26, 141),
    "screw": (320, 41, 119),
    "toothbrush": (60, 12, 30),
    "transistor": (213, 60, 40),
    "zipper": (240, 32, 119),
}


def read(root: Path, category: str, *, dataset: str = "mvtec") -> ImageSet:
    """The images of one category.

    Raises:
        UserError: the root, the category or a part of it is missing; a defective image has no mask or a mask no image.
    """
    folder = find(root, category)
    for part in ("train/good", "test"):
        if not (folder / part).is_dir():
            raise UserError(
                f"{folder} has no folder {part}: the layout is {root}/CATEGORY/{{train/good, test/good, test/DEFECT, "
                "ground_truth/DEFECT}; for other layouts use dataset=folder."
            )
    train = tuple(Sample(file, GOOD) for file in image_files(folder / "train" / GOOD))
    test: list[Sample] = []
    without: list[Path] = []
    kinds = {kind.name for kind in subfolders(folder / "test")}
    for masked in subfolders(folder / "ground_truth"):
        if masked.name not in kinds and image_files(masked):
            raise UserError(f"{masked} holds masks, but there is no folder {folder / 'test' / masked.name}: add it.")
    for kind in subfolders(folder / "test"):
        masks = {file.stem: file for file in image_files(folder / "ground_truth" / kind.name)}
        for file in image_files(kind):
            mask = masks.pop(f"{file.stem}_mask", None)
            if kind.name != GOOD and mask is None:
                without.append(file)
            test.append(Sample(file, kind.name, mask if kind.name != GOOD else None))
        if masks and kind.name != GOOD:
            raise complain_about("masks without their image", list(masks.values()), "Add the image or remove the mask.")
    if without:
        first = folder / "ground_truth" / without[0].parent.name / f"{without[0].stem}_mask.png"
        raise complain_about(
            "defective images without a mask",
            without,
            f"Add the mask ({first}, white where the defect is), or use dataset=folder, where masks are optional.",
        )
    return ImageSet(dataset, category, folder, train, tuple(test)).checked()


def find(root: Path, category: str) -> Path:
    """The folder of a category.

    Raises:
        UserError: there is none; the sentence tells where to get it or what is there instead.
    """
    if not root.is_dir():
        raise UserError(
            f"There is no dataset folder {root} (expected: {root}/CATEGORY/train/good, …): get MVTec AD from {SOURCE} "
            "and unpack it there, or set dataset.root to where it is."
        )
    folder = root / category
    if folder.is_dir():
        return folder
    present = categories(root)
    if category in COUNTS:
        raise UserError(
            f"{root} has no category {category!r}: get it from {SOURCE} and unpack it there, or choose one that is "
            f"there ({', '.join(present) or 'none'})."
        )
    close = difflib.get_close_matches(category, [*present, *COUNTS], n=1)
    meant = f" (did you mean {close[0]}?)" if close else ""
    raise UserError(
        f"There is no category {category!r} in {root}{meant}: choose one of those there "
        f"({', '.join(present) or 'none, it is empty'})."
    )


def categories(root: Path) -> list[str]:
    """The categories on disk."""
    return [folder.name for folder in subfolders(root) if (folder / "train").is_dir() or (folder / "test").is_dir()]
