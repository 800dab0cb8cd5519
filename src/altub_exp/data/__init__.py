"""Images, masks and labels: one module per layout, one for the built-in images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from altub_exp.config import DatasetConfig, FolderConfig, Layout, SyntheticConfig
from altub_exp.data import folder, mvtec, synthetic
from altub_exp.data.images import load_images, load_masks
from altub_exp.data.samples import ImageSet, Sample
from altub_exp.errors import UserError

__all__ = ["ImageSet", "Sample", "list_categories", "load_images", "load_masks", "open_category"]


def _mvtec(root: Path, dataset: DatasetConfig) -> ImageSet:
    return mvtec.read(root, dataset.category, dataset=dataset.name)


def _folder(root: Path, dataset: DatasetConfig) -> ImageSet:
    assert isinstance(dataset, FolderConfig)
    return folder.read(
        root,
        dataset.category,
        train_dir=dataset.train_dir,
        normal_dir=dataset.normal_dir,
        defect_dir=dataset.defect_dir,
        mask_dir=dataset.mask_dir,
        dataset=dataset.name,
    )


def _synthetic(root: Path, dataset: DatasetConfig) -> ImageSet:
    assert isinstance(dataset, SyntheticConfig)
    drawing = synthetic.Drawing(
        size=dataset.size,
        train_images=dataset.train_images,
        good_images=dataset.good_images,
        defect_images=dataset.defect_images,
        seed=dataset.seed,
    )
    synthetic.draw(root, dataset.category, drawing)
    return mvtec.read(root, dataset.category, dataset=dataset.name)


LAYOUTS: dict[Layout, Callable[[Path, DatasetConfig], ImageSet]] = {
    Layout.mvtec: _mvtec,
    Layout.folder: _folder,
    Layout.synthetic: _synthetic,
}


def open_category(dataset: DatasetConfig) -> ImageSet:
    """The images of the category that the configuration names; built-in ones are drawn on first use.

    Raises:
        UserError: what is missing or does not fit, with the remedy.
    """
    if dataset.category == "all":
        raise UserError(
            "dataset.category=all is not one category: name one, or several with -m "
            f"(-m dataset.category={','.join(list_categories(dataset))})."
        )
    return LAYOUTS[dataset.layout](Path(dataset.root).expanduser(), dataset)


def list_categories(dataset: DatasetConfig) -> list[str]:
    """The categories that ``all`` stands for: those of the configuration, else what is on disk."""
    return dataset.categories if dataset.categories is not None else folder.categories(Path(dataset.root).expanduser())
