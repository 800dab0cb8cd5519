"""The built-in images on disk: draws a category once, in MVTec AD's layout, the same wherever it is drawn."""

from __future__ import annotations

import difflib
import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image

from altub_exp.data import painting
from altub_exp.data.painting import CATEGORIES, KINDS
from altub_exp.errors import UserError

VERSION = 1
"""Raised whenever the same parameters give other pixels."""

EDGE = 0.35
"""Opacity from which a pixel belongs to the mask."""

SMALLEST = 0.0005
"""Smallest share of the image that a defect covers."""


@dataclass(frozen=True)
class Drawing:
    """How much is drawn.

    Attributes:
        size: pixels per side.
        train_images: normal images for training.
        good_images: normal images for testing.
        defect_images: images of each kind of defect.
        seed: of everything random.
    """

    size: int
    train_images: int
    good_images: int
    defect_images: int
    seed: int


def draw(root: Path, category: str, drawing: Drawing) -> Path:
    """Draw the category below root, unless it is there already; several processes may ask at once.

    Returns:
        The category's folder.

    Raises:
        UserError: an unknown category, or the folder holds other images than these.
    """
    if category not in CATEGORIES:
        close = difflib.get_close_matches(category, CATEGORIES, n=1)
        meant = f" (did you mean {close[0]}?)" if close else ""
        raise UserError(f"There are no built-in images {category!r}{meant}: choose one of {', '.join(CATEGORIES)}.")
    small = {key: value for key, value in asdict(drawing).items() if key != "seed" and value < 1}
    if small or drawing.size < 32:
        key, value = next(iter(small.items()), ("size", drawing.size))
        raise UserError(f"dataset.{key}={value} is too small: give at least {32 if key == 'size' else 1}.")
    folder, label = root / category, {"version": VERSION, "category": category, **asdict(drawing)}
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f".{category}.lock"):
        if folder.exists():
            _must_be(folder, label)
            return folder
        unfinished = root / f".{category}.{os.getpid()}.part"
        try:
            for number, kind in enumerate(["train", "good", *KINDS[category]]):
                many = {"train": drawing.train_images, "good": drawing.good_images}.get(kind, drawing.defect_images)
                for index in range(many):
                    stream = [drawing.seed, CATEGORIES.index(category), number, index]
                    _write(unfinished, category, kind, index, drawing.size, np.random.default_rng(stream))
            (unfinished / "generator.json").write_text(json.dumps(label, indent=1) + "\n")
            unfinished.rename(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def image(category: str, kind: str | None, size: int, random: np.random.Generator) -> tuple[NDArray[np.uint8], ...]:
    """One image, uint8 [S, S, 3], and its mask, uint8 [S, S] with 255 where the defect is; ``kind`` None: normal."""
    clean, surface = getattr(painting, category)(size, random)
    pixels, mask = clean, np.zeros((size, size))
    while kind is not None and (mask > EDGE).sum() < SMALLEST * size**2:  # a defect may fall beside the surface
        pixels, mask = getattr(painting, f"{category}_{kind}")(clean, surface, random)
    pixels = painting.light(pixels, random)
    return (pixels.clip(0, 1) * 255).round().astype(np.uint8), ((mask > EDGE) * 255).astype(np.uint8)


def _write(folder: Path, category: str, kind: str, index: int, size: int, random: np.random.Generator) -> None:
    normal = kind in ("train", "good")
    pixels, mask = image(category, None if normal else kind, size, random)
    file = folder / ("train/good" if kind == "train" else f"test/{kind}") / f"{index:03}.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    # wood is photographed in gray: both modes are met on the way
    Image.fromarray(pixels if category != "grain" else pixels[..., 0]).save(file)
    if not normal:
        file = folder / "ground_truth" / kind / f"{index:03}_mask.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(file)


def _must_be(folder: Path, label: dict[str, object]) -> None:
    try:
        found = json.loads((folder / "generator.json").read_text())
    except (OSError, ValueError):
        found = None
    if found != label:
        raise UserError(
            f"{folder} holds other images than these (see generator.json there): set dataset.root to another folder, "
            "or remove that one."
        )
