"""Scoring of image files by a trained detector, which also writes anomaly maps and overlays."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.progress import track

from altub_exp.data.canvas import cropped
from altub_exp.data.decoding import read_rgb
from altub_exp.data.files import (
    DAMAGED,
    INVALID,
    READ_SUFFIXES,
    SUFFIXES,
    files_below,
    image_files,
    named,
    reading,
    reason_of,
)
from altub_exp.data.images import Placed
from altub_exp.detector.inference import Detector
from altub_exp.errors import UserError
from altub_exp.machine.terminal import console
from altub_exp.runs.pictures import overlay, write_map
from altub_exp.text import printable


class Item(NamedTuple):
    """An image to score, and the path of its results, relative to the output's folders and without suffix."""

    file: Path
    name: Path


def score(
    detector: Detector, items: Sequence[Item], output: Path, maps: str, overlays: bool
) -> Iterator[dict[str, str]]:
    """Score the images and write maps and overlays.

    Yields:
        The row of each image.
    """
    at_once = detector.images_at_once
    batches = [items[start : start + at_once] for start in range(0, len(items), at_once)]
    for batch in track(batches, "scoring", console=console, transient=True, disable=not console.is_terminal):
        images, errors = _read(batch, detector)
        scored = zip(images, *detector.score_placed(images), strict=True) if images else iter(())
        for item, error in zip(batch, errors, strict=True):
            row = {"file": str(item.file), "error": error}
            if not error:
                placed, canvas_map, image_score = next(scored)
                values = cropped(canvas_map, placed.box)
                row["score"] = repr(float(image_score))
                if maps != "none":
                    row["map"] = str(write_map(values, output / "maps" / item.name, maps, detector.limits))
                if overlays:
                    picture = read_rgb(item.file, detector.bit_depth)
                    row["overlay"] = str(overlay(picture, values, detector.limits, output / "overlays" / item.name))
            yield row


def _read(batch: Sequence[Item], detector: Detector) -> tuple[list[Placed], list[str]]:
    """Return the readable images of a batch, and for every image an error or an empty string."""
    images: list[Placed] = []
    errors = []
    for item in batch:
        try:
            images.append(detector.placed(item.file))
            errors.append("")
        except INVALID as error:
            reason = reason_of(error)
            errors.append("cannot be read as an image" + ("" if reason == DAMAGED else f" ({reason})"))
    return images, errors


def left_out(places: Sequence[Path]) -> list[str]:
    """Return a sentence about the files in and below the given folders that :func:`find_images` leaves out, if any."""
    files = [file for place in places for file in files_below(place) if file.suffix.lower() not in SUFFIXES]
    return [f"{len(files)} files have no suffix of an image and are left out: {named(files)}"] if files else []


def find_images(places: Sequence[Path]) -> list[Item]:
    """List the given images and those in and below the given folders, in natural order.

    Raises:
        UserError: a path does not exist or has no image, or two results would have the same name.
    """
    files: list[tuple[Path, Path]] = []
    for place in places:
        if os.path.isdir(place):
            with reading():
                inside = image_files(place)
            if not inside:
                raise UserError(f"{printable(place)} holds no images: files with {READ_SUFFIXES} are read.")
            files += [(file, file.relative_to(place)) for file in inside]
        elif os.path.lexists(place):  # what is no image gets a row that says so
            files.append((place, Path(place.name)))
        else:
            raise UserError(f"There is no file or folder {printable(place)}.")
    stems = Counter(name.with_suffix("") for _, name in files)
    items = [Item(file, name.with_suffix("") if stems[name.with_suffix("")] == 1 else name) for file, name in files]
    name, count = Counter(item.name for item in items).most_common(1)[0]
    if count > 1:
        same = [printable(item.file) for item in items if item.name == name][:2]
        raise UserError(f"{' and '.join(same)} would have one result {printable(name)}: score them in two commands.")
    return items
