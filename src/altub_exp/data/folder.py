"""A user's own images: root/CATEGORY with a folder of normal training images, test images, and optional masks."""

from __future__ import annotations

import difflib
from pathlib import Path

from altub_exp.data.samples import GOOD, ImageSet, Sample, complain_about, image_files, subfolders
from altub_exp.errors import UserError


def read(
    root: Path,
    category: str,
    *,
    train_dir: str,
    normal_dir: str,
    defect_dir: str,
    mask_dir: str | None,
    dataset: str = "folder",
) -> ImageSet:
    """The images of one category.

    Args:
        root: holds a folder per category.
        category: its name.
        train_dir: normal images, below ``root/category`` like the rest.
        normal_dir: normal test images.
        defect_dir: defective ones, all together or a folder per kind of defect.
        mask_dir: masks named NAME.* or NAME_mask.* in the same arrangement; None or missing: no masks.
        dataset: how to call it.

    Raises:
        UserError: a folder is missing or empty, or masks are there but not for every defective image.
    """
    folder = root / category
    if not folder.is_dir():
        present = [path.name for path in subfolders(root)]
        close = difflib.get_close_matches(category, present, n=1)
        meant = f" (did you mean {close[0]}?)" if close else ""
        raise UserError(
            f"There is no folder {folder}{meant}: set dataset.root and dataset.category so that "
            f"ROOT/CATEGORY/{train_dir} holds your normal images; {root} holds {', '.join(present) or 'no folder'}."
        )
    for key, part in (("train_dir", train_dir), ("normal_dir", normal_dir), ("defect_dir", defect_dir)):
        if not (folder / part).is_dir():
            raise UserError(f"{folder} has no folder {part}: make it, or name yours by dataset.{key}=….")
    masks = _masks(folder / mask_dir) if mask_dir is not None and (folder / mask_dir).is_dir() else None
    defective: list[Sample] = []
    for place, kind in [(Path(), "defective"), *((Path(p.name), p.name) for p in subfolders(folder / defect_dir))]:
        defective += [
            Sample(file, kind, masks.get(str(place / file.stem)) if masks is not None else None)
            for file in image_files(folder / defect_dir / place)
        ]
    if masks is not None:
        without = [sample.image for sample in defective if sample.mask is None]
        if without:
            raise complain_about(
                f"defective images without a mask in {folder / str(mask_dir)}",
                without,
                "Add NAME.png or NAME_mask.png for each, or set dataset.mask_dir=null to do without masks.",
            )
    normal = [Sample(file, GOOD) for file in image_files(folder / normal_dir)]
    train = tuple(Sample(file, GOOD) for file in image_files(folder / train_dir))
    return ImageSet(dataset, category, folder, train, tuple(normal + defective)).checked()


def categories(root: Path) -> list[str]:
    """The categories on disk: every folder below the root."""
    return [path.name for path in subfolders(root)]


def _masks(folder: Path) -> dict[str, Path]:
    """{path of the image below its folder, without suffix: mask}."""
    return {
        str(place / file.stem.removesuffix("_mask")): file
        for place in [Path(), *(Path(p.name) for p in subfolders(folder))]
        for file in image_files(folder / place)
    }
