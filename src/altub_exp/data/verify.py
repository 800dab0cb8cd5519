"""Verification of a dataset folder: every file is decoded, and the counts are compared with the published ones."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from altub_exp.data import LAYOUTS
from altub_exp.data.folder import Folders
from altub_exp.data.images import unreadable
from altub_exp.data.layout import DiskLayout
from altub_exp.data.samples import ImageSet, image_files
from altub_exp.errors import UserError


def report(root: Path, layout: DiskLayout, category: str | None) -> list[str]:
    """Print the counts of one category or of all, and the findings; return the findings.

    Raises:
        UserError: there is no such category, or none at all.
    """
    console = Console()
    if not console.is_terminal:
        console.width = 160
    categories = choose_categories(root, layout, category)
    published = layout.published.counts if layout.published else {}
    table = Table("category", "train", "test good", "test defective", "kinds", "masks", "verdict", box=box.SIMPLE_HEAD)
    findings: list[str] = []
    for name in categories:
        wrong = verify(root, name, layout, console)
        findings += [f"{name}: {finding}" for finding in wrong]
        verdict = f"{len(wrong)} findings" if wrong else "complete" if name in published else "readable"
        table.add_row(name, *_row(layout.listed(root, name)), verdict)
    console.print(table)
    absent = [name for name in published if name not in categories]
    if layout.published and category is None and len(absent) < len(published):
        rest = ", ".join(absent) or f"none, all {len(published)} are present"
        console.print(f"missing from {layout.published.title}: {rest}")
    for finding in findings:
        console.print(f"[red]✗[/red] {finding}", highlight=False)
    console.print(f"{len(findings)} findings" if findings else "no problems found")
    return findings


def choose_layout(root: Path, name: str, folders: Folders) -> DiskLayout:
    """Return the layout of this name; ``folders`` is the layout "folder".

    Raises:
        UserError: there is no such root, or it evidently has another layout.
    """
    if not root.is_dir():
        raise UserError(f"There is no folder {root}: name the one that holds a folder per category.")
    layouts = {**LAYOUTS, "folder": folders}
    fitting = [key for key, layout in layouts.items() if layout.fits(root)]
    if fitting and name not in fitting:
        raise UserError(f"{root} is not laid out as {name} but as {fitting[0]}: add --layout {fitting[0]}.")
    return layouts[name]


def choose_categories(root: Path, layout: DiskLayout, wanted: str | None) -> list[str]:
    """Return the wanted category, or all that are on disk.

    Raises:
        UserError: there is no such category, or none at all.
    """
    present = layout.categories(root)
    if wanted is not None and wanted not in present:
        raise UserError(f"{root} has no category {wanted!r}: choose one of {', '.join(present)}.")
    if not present:
        landmark = layout.published.landmark if layout.published else "CATEGORY/train and …/test"
        raise UserError(f"{root} holds no category: expected {root}/{landmark}.")
    return present if wanted is None else [wanted]


def verify(root: Path, category: str, layout: DiskLayout, console: Console) -> list[str]:
    """Return one sentence about each thing that is wrong with a category."""
    findings: list[str] = []
    try:
        layout.read(root, category)
    except UserError as error:
        findings.append(str(error))
    folders = [root / category, *(path for path in (root / category).rglob("*") if path.is_dir())]
    files = [file for place in folders for file in image_files(place)]
    images = layout.listed(root, category)
    files += [sample.image for sample in images.train + images.test if sample.image.is_file()]
    files = list(dict.fromkeys(files))  # most layouts keep a category's images in its folder
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"decoding {category}", total=len(files))
        findings += [f"{file} cannot be read" for file in unreadable(files, lambda: progress.advance(task))]
    if layout.published and category in layout.published.counts:
        names = ("training images", "normal test images", "defective test images")
        expected = layout.published.counts[category]
        for name, published, count in zip(names, expected, images.counts(), strict=True):
            if count != published:
                findings.append(f"{count} {name}, {layout.published.title} has {published}")
    return findings


def _row(images: ImageSet) -> list[str]:
    """Cells of the table, from the number of training images to that of masks."""
    kinds = Counter(sample.kind for sample in images.test if sample.defective)
    masks = sum(sample.mask is not None for sample in images.test)
    return [*map(str, images.counts()), ", ".join(f"{kind} {count}" for kind, count in kinds.items()), str(masks)]
