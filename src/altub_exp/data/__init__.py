"""Images, masks and labels: a module for each layout, and two for the built-in images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from altub_exp.config.schema import DatasetConfig, ElpvConfig, FolderConfig, RealIadConfig, SyntheticConfig
from altub_exp.data import btad, elpv, loco, mvtec, mvtec2, realiad, synthetic, visa
from altub_exp.data.files import reading
from altub_exp.data.folder import Folders
from altub_exp.data.images import load_images
from altub_exp.data.layout import DiskLayout
from altub_exp.data.masks import load_masks
from altub_exp.data.samples import ImageSet, Sample
from altub_exp.errors import UserError

__all__ = ["ImageSet", "Sample", "list_categories", "load_images", "load_masks", "open_category"]


LAYOUTS: dict[str, DiskLayout] = {
    "loco": loco.LAYOUT,  # before mvtec, whose folders it has too
    "mvtec": mvtec.LAYOUT,
    "btad": btad.LAYOUT,
    "visa": visa.LAYOUT,
    "elpv": elpv.Cells(elpv.PROBABILITIES),
    "mvtec2": mvtec2.LAYOUT,
    "realiad": realiad.SplitJson("realiad_1024", realiad.SPLIT),
}


def open_category(dataset: DatasetConfig, cache: str | None = None) -> ImageSet:
    """Return the images of the category that the configuration names; built-in ones are drawn on first use.

    For ``dataset=elpv`` the licence is printed too, once in a process.

    Args:
        dataset: names the category.
        cache: the folder where the digests of files are kept; None: only this process remembers them.

    Raises:
        UserError: the category is ``all`` or unknown, or its images are missing, incomplete or laid out differently, or
            a folder cannot be read.
    """
    if dataset.category == "all":
        raise UserError(
            "dataset.category=all is not one category: name one, or several with -m "
            f"(-m dataset.category={','.join(list_categories(dataset))})."
        )
    root = _root(dataset)
    if isinstance(dataset, SyntheticConfig):
        drawing = synthetic.Drawing(
            size=dataset.size,
            train_images=dataset.train_images,
            good_images=dataset.good_images,
            defect_images=dataset.defect_images,
            seed=dataset.seed,
        )
        synthetic.draw(root, dataset.category, drawing)
    with reading():
        images = _layout(dataset).read(root, dataset.category, dataset.name)
    images = replace(images, cache=None if cache is None else Path(cache).expanduser())
    if isinstance(dataset, ElpvConfig):
        elpv.print_licence()
    return images


def list_categories(dataset: DatasetConfig) -> list[str]:
    """Return the categories that ``all`` stands for: those of the configuration, otherwise those on disk."""
    if dataset.categories is not None:
        return dataset.categories
    with reading():
        return _layout(dataset).categories(_root(dataset))


def _root(dataset: DatasetConfig) -> Path:
    if isinstance(dataset, ElpvConfig) and dataset.root == elpv.PACKAGE:
        return elpv.package_data()
    return Path(dataset.root).expanduser()


def _layout(dataset: DatasetConfig) -> DiskLayout:
    if isinstance(dataset, FolderConfig):
        return Folders(dataset.train_dir, dataset.normal_dir, dataset.defect_dir, dataset.mask_dir)
    if isinstance(dataset, ElpvConfig):
        return elpv.Cells(tuple(dataset.probabilities))
    if isinstance(dataset, RealIadConfig):
        return realiad.SplitJson(dataset.image_dir, dataset.split_dir)
    return mvtec.LAYOUT if isinstance(dataset, SyntheticConfig) else LAYOUTS[dataset.layout]
