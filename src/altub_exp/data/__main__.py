"""Verifies a dataset folder.   python -m altub_exp.data data/mvtec"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from altub_exp.data import LAYOUTS, elpv
from altub_exp.data.folder import Folders
from altub_exp.data.images import unreadable
from altub_exp.data.layout import DiskLayout
from altub_exp.data.samples import ImageSet, image_files
from altub_exp.errors import UserError
from altub_exp.machine.command_line import command_parser, run_command

EPILOG = """examples:
  python -m altub_exp.data data/mvtec
  python -m altub_exp.data data/mvtec --category screw
  python -m altub_exp.data data/btad --layout btad
  python -m altub_exp.data --layout elpv
  python -m altub_exp.data ~/images --layout folder --defect-dir test/broken

Every image and mask is decoded. The exit status is 1 if a file is missing or damaged, or if the numbers of images
differ from those of the published data set."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Verify the folder that the command line names; return the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.root is None and options.layout != "elpv":
        parser.error("the following arguments are required: root")
    return run_command(lambda: _verify(options))


def _verify(options: argparse.Namespace) -> int:
    """Print counts and findings; return 1 if there are findings."""
    root = options.root.expanduser() if options.root else elpv.package_data()
    console = Console()
    if not console.is_terminal:
        console.width = 160
    folders = Folders(options.train_dir, options.normal_dir, options.defect_dir, options.mask_dir)
    layout = choose_layout(root, options.layout, folders)
    categories = choose_categories(root, layout, options.category)
    published = layout.published.counts if layout.published else {}
    table = Table("category", "train", "test good", "test defective", "kinds", "masks", "verdict", box=box.SIMPLE_HEAD)
    findings: list[str] = []
    if options.layout == "elpv":
        elpv.print_licence()
    for category in categories:
        wrong = verify(root, category, layout, console)
        findings += [f"{category}: {finding}" for finding in wrong]
        verdict = f"{len(wrong)} findings" if wrong else "complete" if category in published else "readable"
        table.add_row(category, *_row(layout.listed(root, category)), verdict)
    console.print(table)
    absent = [name for name in published if name not in categories]
    if layout.published and options.category is None and len(absent) < len(published):
        rest = ", ".join(absent) or f"none, all {len(published)} are present"
        console.print(f"missing from {layout.published.title}: {rest}")
    for finding in findings:
        console.print(f"[red]✗[/red] {finding}", highlight=False)
    console.print(f"{len(findings)} findings" if findings else "no problems found")
    return int(bool(findings))


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
        for name, published, count in zip(names, expected, _totals(images), strict=True):
            if count != published:
                findings.append(f"{count} {name}, {layout.published.title} has {published}")
    return findings


def _totals(images: ImageSet) -> tuple[int, int, int]:
    """Numbers of training images, of normal and of defective test images."""
    defective = sum(sample.defective for sample in images.test)
    return len(images.train), len(images.test) - defective, defective


def _row(images: ImageSet) -> list[str]:
    """Cells of the table, from the number of training images to that of masks."""
    kinds = Counter(sample.kind for sample in images.test if sample.defective)
    masks = sum(sample.mask is not None for sample in images.test)
    return [*map(str, _totals(images)), ", ".join(f"{kind} {count}" for kind, count in kinds.items()), str(masks)]


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("data", "Verify a dataset folder: counts, images without masks, unreadable files.", EPILOG)
    parser.add_argument(
        "root",
        type=Path,
        nargs="?",
        help="the folder that holds a folder for each category; for --layout elpv that of labels.csv, and if left out "
        "the installed package",
    )
    parser.add_argument("--layout", choices=[*LAYOUTS, "folder"], default="mvtec", help="default: %(default)s")
    parser.add_argument("--category", help="verify this category only")
    defaults = {"train": "train", "normal": "test/normal", "defect": "test/defective", "mask": "masks"}
    for name, default in defaults.items():
        parser.add_argument(f"--{name}-dir", default=default, help="for --layout folder (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
