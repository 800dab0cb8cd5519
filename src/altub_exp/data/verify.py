"""Verification of a dataset folder: every file is decoded, and the counts are compared with the published ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from rich import box
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from altub_exp.data.files import reading
from altub_exp.data.images import findings
from altub_exp.data.layout import DiskLayout
from altub_exp.data.samples import ImageSet
from altub_exp.errors import UserError
from altub_exp.machine.terminal import PlainConsole


def report(root: Path, layout: DiskLayout, category: str | None, bit_depth: int | None = None) -> list[str]:
    """Print the counts of one category or of all, the findings, and notes of what a run warns of; return the findings.

    Raises:
        UserError: there is no such category, or none at all, or a folder cannot be read.
    """
    console = PlainConsole()
    if not console.is_terminal:
        console.width = 160
    with reading():
        categories = choose_categories(root, layout, category)
    published = layout.published.counts if layout.published else {}
    table = Table("category", "train", "test good", "test defective", "kinds", "masks", "verdict", box=box.SIMPLE_HEAD)
    findings: list[str] = []
    notes: list[str] = []
    for name in categories:
        wrong, noted = verify(root, name, layout, console, bit_depth)
        findings += [f"{name}: {finding}" for finding in wrong]
        notes += [f"{name}: {note}" for note in noted]
        verdict = f"{len(wrong)} findings" if wrong else "complete" if name in published else "readable"
        table.add_row(name, *_row(layout.listed(root, name)), verdict)
    console.print(table)
    absent = [name for name in published if name not in categories]
    if layout.published and category is None and len(absent) < len(published):
        rest = ", ".join(absent) or f"none, all {len(published)} are present"
        console.print(f"missing from {layout.published.title}: {rest}")
    for finding in findings:
        console.print(f"[red]✗[/red] {escape(finding)}", highlight=False)
    for note in notes:
        console.print(f"note: {escape(note)}", highlight=False)
    console.print(f"{len(findings)} findings" if findings else "no problems found")
    return findings


def choose_layout(root: Path, name: str, layouts: Mapping[str, DiskLayout]) -> DiskLayout:
    """Return the layout of this name.

    Raises:
        UserError: there is no such root, or it evidently has another layout.
    """
    if not root.is_dir():
        raise UserError(f"There is no folder {root}: name the one that holds a folder per category.")
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


def verify(
    root: Path, category: str, layout: DiskLayout, console: PlainConsole, bit_depth: int | None
) -> tuple[list[str], list[str]]:
    """Return a sentence about each thing that is wrong with a category, and about each that a run would warn of."""
    wrong: list[str] = []
    try:
        layout.read(root, category)
    except UserError as error:
        wrong.append(str(error))
    images = layout.listed(root, category)
    files = images.files()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"decoding {escape(category)}", total=len(files))
        refused, notes = findings(images, bit_depth, lambda: progress.advance(task))
    wrong += refused
    if not wrong:
        notes += images.copies() + images.without_auroc()
    notes += images.left_out()
    if layout.published and category in layout.published.counts:
        names = ("training images", "normal test images", "defective test images")
        expected = layout.published.counts[category]
        for name, published, count in zip(names, expected, images.counts(), strict=True):
            if count != published:
                wrong.append(f"{count} {name}, {layout.published.title} has {published}")
    return wrong, notes


def _row(images: ImageSet) -> list[str]:
    """Cells of the table, from the number of training images to that of masks."""
    kinds = Counter(sample.kind for sample in images.test if sample.defective)
    masks = sum(sample.mask is not None for sample in images.test)
    return [*map(str, images.counts()), ", ".join(f"{kind} {count}" for kind, count in kinds.items()), str(masks)]
