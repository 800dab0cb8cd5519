"""Images that a file of the data set lists, with split, kind and mask of each, whatever the folders are called."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from altub_exp.data.files import complain_about, natural
from altub_exp.data.layout import Published
from altub_exp.data.samples import ImageSet, Sample


def image_set(dataset: str, category: str, root: Path, rows: Iterable[tuple[str, Sample]]) -> ImageSet:
    """Return listed images, unchecked, in natural order and normal ones first, whatever the order of the list.

    Args:
        dataset: name of the data set.
        category: name of the category.
        root: the category's folder.
        rows: ``train`` or ``test``, and the image.
    """
    parts: dict[str, list[Sample]] = {"train": [], "test": []}
    for split, sample in sorted(
        rows, key=lambda row: (row[1].defective, natural(row[1].image), str(row[1].image), row[0])
    ):
        parts[split].append(sample)
    return ImageSet(dataset, category, root, tuple(parts["train"]), tuple(parts["test"]))


def checked(images: ImageSet, table: Path, published: Published) -> ImageSet:
    """Return the same images if they suffice for training.

    Args:
        images: the listed images.
        table: the file that lists them.
        published: the data set that the file comes with.

    Raises:
        UserError: a listed file is missing; an anomalous image is listed for training, or without a mask.
    """
    source = f"{published.title} ({published.source})"
    remedy = f"Use the one that comes with {source}."
    if anomalous := [sample.image for sample in images.train if sample.defective]:
        raise complain_about(f"{table} trains on anomalies", anomalous, remedy)
    if bare := [sample.image for sample in images.test if sample.defective and sample.mask is None]:
        raise complain_about(f"{table} names no mask for", bare, remedy)
    if missing := [file for file in images.files() if not file.is_file()]:
        raise complain_about(f"{len(missing)} files that {table} names are missing", missing, f"Unpack {source} again.")
    return images.checked()
