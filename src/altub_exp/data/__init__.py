"""Images, masks and labels: one module per layout, one for the built-in images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from altub_exp.config.schema import DatasetConfig, FolderConfig, Layout, SyntheticConfig
from altub_exp.data import btad, mvtec, synthetic, visa
from altub_exp.data.folder import Folders
from altub_exp.data.images import load_images, load_masks
from altub_exp.data.layout import DiskLayout
from altub_exp.data.samples import ImageSet, Sample
from altub_exp.errors import UserError

__all__ = ["ImageSet", "Sample", "list_categories", "load_images", "load_masks", "open_category"]


def _folder(dataset: DatasetConfig) -> DiskLayout:
    assert isinstance(dataset, FolderConfig)
    return Folders(dataset.train_dir, dataset.normal_dir, dataset.defect_dir, dataset.mask_dir)


LAYOUTS: dict[Layout, Callable[[DatasetConfig], DiskLayout]] = {
    Layout.mvtec: lambda _: mvtec.LAYOUT,
    Layout.btad: lambda _: btad.LAYOUT,
    Layout.visa: lambda _: visa.LAYOUT,
    Layout.folder: _folder,
    Layout.synthetic: lambda _: mvtec.LAYOUT,
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
    root = Path(dataset.root).expanduser()
    if isinstance(dataset, SyntheticConfig):
        drawing = synthetic.Drawing(
            size=dataset.size,
            train_images=dataset.train_images,
            good_images=dataset.good_images,
            defect_images=dataset.defect_images,
            seed=dataset.seed,
        )
        synthetic.draw(root, dataset.category, drawing)
    return LAYOUTS[dataset.layout](dataset).read(root, dataset.category, dataset.name)


def list_categories(dataset: DatasetConfig) -> list[str]:
    """The categories that ``all`` stands for: those of the configuration, else what is on disk."""
    if dataset.categories is not None:
        return dataset.categories
    return LAYOUTS[dataset.layout](dataset).categories(Path(dataset.root).expanduser())
