"""Scores new images with a finished run.   python -m altub_exp.predict --help"""

from __future__ import annotations

import argparse
import csv
import logging
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from rich.progress import track

from altub_exp.build import prepare_device
from altub_exp.config import Device
from altub_exp.data.images import load_images
from altub_exp.data.samples import GOOD, Sample, image_files, subfolders
from altub_exp.detector import Detector, load_detector
from altub_exp.errors import UserError
from altub_exp.features.maps import PIXELS_AT_ONCE
from altub_exp.pictures import overlay, write_map
from altub_exp.progress import console
from altub_exp.scoring import image_score

EPILOG = """examples:
  python -m altub_exp.predict runs/folder/bolts/fastflow-r18/alternating/seed25-1a2b3c4d new/bolts
  python -m altub_exp.predict RUN part1.png part2.png --output today --maps tiff --no-overlays

OUTPUT/scores.csv has a row per image: file, score (the larger the more anomalous: the map's largest pixel), map,
overlay, error. OUTPUT/maps/ has one map per image at the model's input size: 16-bit PNG on the scale of the run's own
test images (0: their smallest value, 65535: their largest; what lies beyond is cut off; the texts
minimum and maximum of the PNG say both), or TIFF with the values themselves.
OUTPUT/overlays/ has the map as colours over the image, on the same scale. What cannot be read is named in the column
error and at the end, and the exit status is 1."""


class Item(NamedTuple):
    """An image to score, and the path of what is written for it, relative to the output's folders, without suffix."""

    file: Path
    name: Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Score the images that the command line names; returns the exit status."""
    options = _parser().parse_args(arguments)
    logging.getLogger("altub_exp").addHandler(logging.NullHandler())
    table = options.output / "scores.csv"
    try:
        items = find_images(options.images)
        if table.exists() and not options.overwrite:
            raise UserError(f"{table} exists: give another folder with --output, or --overwrite.")
        detector = load_detector(options.run, prepare_device(Device(options.device)), options.weights)
        options.output.mkdir(parents=True, exist_ok=True)
        broken = 0
        with table.open("w", newline="", encoding="utf-8") as file:
            rows = csv.DictWriter(file, ["file", "score", "map", "overlay", "error"])
            rows.writeheader()
            for row in predict(detector, items, options.output, options.maps, options.overlays):
                rows.writerow(row)
                file.flush()
                broken += bool(row["error"])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"interrupted; what was scored until now is in {table}", file=sys.stderr)
        return 130
    print(f"{len(items) - broken} images scored: {table}")
    if broken:
        print(f"error: {broken} files could not be read as images; {table} names them.", file=sys.stderr)
    return int(bool(broken))


def predict(
    detector: Detector, items: Sequence[Item], output: Path, maps: str, overlays: bool
) -> Iterator[dict[str, str]]:
    """Score image by image and write maps and overlays.

    Args:
        detector: the trained detector.
        items: what to score.
        output: folder for ``maps/`` and ``overlays/``.
        maps: ``png``, ``tiff`` or ``none``.
        overlays: whether to write them.

    Yields:
        The row of each image.
    """
    at_once = max(1, PIXELS_AT_ONCE // detector.size**2)
    batches = [items[start : start + at_once] for start in range(0, len(items), at_once)]
    for batch in track(batches, "scoring", console=console, transient=True, disable=not console.is_terminal):
        pixels, errors = _read(batch, detector)
        scored = iter(detector.maps(torch.stack(pixels))) if pixels else iter(())
        for item, error in zip(batch, errors, strict=True):
            row = {"file": str(item.file), "error": error}
            if not error:
                values = next(scored)
                row["score"] = repr(float(image_score(values[None])))
                if maps != "none":
                    row["map"] = str(write_map(values, output / "maps" / item.name, maps, detector.limits))
                if overlays:
                    row["overlay"] = str(overlay(item.file, values, detector.limits, output / "overlays" / item.name))
            yield row


def _read(batch: Sequence[Item], detector: Detector) -> tuple[list[torch.Tensor], list[str]]:
    """The images of a batch that can be read, and for each of them all what is wrong with it, or nothing."""
    pixels: list[torch.Tensor] = []
    errors = []
    for item in batch:
        try:
            pixels += load_images([Sample(item.file, GOOD)], detector.size, detector.interpolation)
            errors.append("")
        except UserError:
            errors.append("cannot be read as an image")
    return pixels, errors


def find_images(places: Sequence[Path]) -> list[Item]:
    """The images that files and folders name, those of a folder with what lies below it, in natural order.

    Raises:
        UserError: a place does not exist or holds no image, or two results would have the same name.
    """
    found: list[tuple[Path, Path]] = []
    for place in places:
        if place.is_dir():
            inside = list(_below(place))
            if not inside:
                raise UserError(f"{place} holds no images.")
            found += [(file, file.relative_to(place)) for file in inside]
        elif place.is_file():
            found.append((place, Path(place.name)))
        else:
            raise UserError(f"There is no file or folder {place}.")
    stems = Counter(name.with_suffix("") for _, name in found)
    items = [Item(file, name.with_suffix("") if stems[name.with_suffix("")] == 1 else name) for file, name in found]
    name, often = Counter(item.name for item in items).most_common(1)[0]
    if often > 1:
        twice = [str(item.file) for item in items if item.name == name][:2]
        raise UserError(f"{' and '.join(twice)} would have one result {name}: score them in two commands.")
    return items


def _below(folder: Path) -> Iterator[Path]:
    yield from image_files(folder)
    for inner in subfolders(folder):
        yield from _below(inner)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m altub_exp.predict",
        description="Score new images with a finished run: image scores, anomaly maps and heat-map overlays.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, help="the folder of a finished run")
    parser.add_argument("images", type=Path, nargs="+", help="image files, or folders of them")
    parser.add_argument("--output", type=Path, default=Path("predictions"), help="default: %(default)s")
    parser.add_argument("--overwrite", action="store_true", help="replace the results of an earlier command there")
    parser.add_argument("--maps", choices=("png", "tiff", "none"), default="png", help="default: %(default)s")
    parser.add_argument("--no-overlays", dest="overlays", action="store_false", help="write none")
    parser.add_argument("--weights", help="the backbone's weights file, if it lies elsewhere than in training")
    parser.add_argument("--device", choices=[device.value for device in Device], default="auto", help="default: auto")
    return parser


if __name__ == "__main__":
    sys.exit(main())
