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

from altub_exp.data import folder, mvtec
from altub_exp.data.images import unreadable
from altub_exp.data.samples import GOOD, ImageSet, image_files, subfolders
from altub_exp.errors import UserError

EPILOG = """examples:
  python -m altub_exp.data data/mvtec
  python -m altub_exp.data data/mvtec --category screw
  python -m altub_exp.data ~/images --layout folder --defect-dir test/broken

Every image and mask is decoded. The exit status is 1 where anything is missing, damaged, or not as many as in
MVTec AD."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print counts and findings; returns the exit status."""
    options = _parser().parse_args(arguments)
    root, console = options.root.expanduser(), Console()
    if not console.is_terminal:
        console.width = 160
    try:
        if not root.is_dir():
            raise UserError(f"There is no folder {root}: name the one that holds a folder per category.")
        present = mvtec.categories(root) if options.layout == "mvtec" else folder.categories(root)
        if options.category is not None:
            if options.category not in present:
                raise UserError(f"{root} has no category {options.category!r}: choose one of {', '.join(present)}.")
            present = [options.category]
        if not present:
            raise UserError(f"{root} holds no category: expected {root}/CATEGORY/train and …/test below it.")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    table = Table("category", "train", "test good", "test defective", "kinds", "masks", "verdict", box=box.SIMPLE_HEAD)
    findings: list[str] = []
    for category in present:
        found, images = verify(root, category, options, console)
        findings += [f"{category}: {finding}" for finding in found]
        verdict = f"{len(found)} findings" if found else "complete" if category in mvtec.COUNTS else "readable"
        table.add_row(category, *_counts(images, root / category, options), verdict)
    console.print(table)
    absent = [name for name in mvtec.COUNTS if name not in present]
    if options.layout == "mvtec" and options.category is None and len(absent) < len(mvtec.COUNTS):
        console.print(f"not present of MVTec AD: {', '.join(absent) or 'none, all 15 are there'}")
    for finding in findings:
        console.print(f"[red]✗[/red] {finding}", highlight=False)
    console.print("nothing wrong was found" if not findings else f"{len(findings)} findings")
    return int(bool(findings))


def verify(
    root: Path, category: str, options: argparse.Namespace, console: Console
) -> tuple[list[str], ImageSet | None]:
    """What is wrong with a category, each in one sentence; and its images, if the layout could be read."""
    findings: list[str] = []
    images: ImageSet | None = None
    try:
        images = _read(root, category, options)
    except UserError as error:
        findings.append(str(error))
    folders = [root / category, *(path for path in (root / category).rglob("*") if path.is_dir())]
    files = [file for place in folders for file in image_files(place)]
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"decoding {category}", total=len(files))
        findings += [f"{file} cannot be read" for file in unreadable(files, lambda: progress.advance(task))]
    if images is not None and options.layout == "mvtec" and category in mvtec.COUNTS:
        names = ("training images", "normal test images", "defective test images")
        for name, expected, count in zip(names, mvtec.COUNTS[category], _totals(images), strict=True):
            if count != expected:
                findings.append(f"{count} {name}, MVTec AD has {expected}")
    return findings, images


def _read(root: Path, category: str, options: argparse.Namespace) -> ImageSet:
    if options.layout == "mvtec":
        return mvtec.read(root, category)
    return folder.read(
        root,
        category,
        train_dir=options.train_dir,
        normal_dir=options.normal_dir,
        defect_dir=options.defect_dir,
        mask_dir=options.mask_dir,
    )


def _totals(images: ImageSet) -> tuple[int, int, int]:
    defective = sum(sample.defective for sample in images.test)
    return len(images.train), len(images.test) - defective, defective


def _counts(images: ImageSet | None, place: Path, options: argparse.Namespace) -> list[str]:
    if images is None:  # count what is there all the same
        if options.layout != "mvtec":
            return ["?"] * 5
        kinds = {kind.name: len(image_files(kind)) for kind in subfolders(place / "test")}
        good = kinds.pop(GOOD, 0)
        masks = sum(len(image_files(kind)) for kind in subfolders(place / "ground_truth"))
        train = len(image_files(place / "train" / GOOD))
        return [str(train), str(good), str(sum(kinds.values())), _kinds(kinds), str(masks)]
    kinds = dict(Counter(sample.kind for sample in images.test if sample.defective))
    masks = sum(sample.mask is not None for sample in images.test)
    return [*map(str, _totals(images)), _kinds(kinds), str(masks)]


def _kinds(kinds: dict[str, int]) -> str:
    return ", ".join(f"{kind} {count}" for kind, count in kinds.items())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m altub_exp.data",
        description="Verify a dataset folder: counts per split and class, images without masks, unreadable files.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("root", type=Path, help="the folder that holds a folder per category")
    parser.add_argument("--layout", choices=["mvtec", "folder"], default="mvtec", help="default: %(default)s")
    parser.add_argument("--category", help="only this one")
    for name, default in (
        ("train", "train"),
        ("normal", "test/normal"),
        ("defect", "test/defective"),
        ("mask", "masks"),
    ):
        parser.add_argument(f"--{name}-dir", default=default, help="of the layout folder (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
