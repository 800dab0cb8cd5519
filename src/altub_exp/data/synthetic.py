"""The built-in images on disk: a category is drawn once, in MVTec AD's layout, and is the same on every machine."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image

from altub_exp.data import painting
from altub_exp.data.painting import CATEGORIES, DEFECTS
from altub_exp.errors import UserError, did_you_mean
from altub_exp.machine.disk import make_folder

VERSION = 1  # must be raised whenever the same parameters give other pixels
EDGE = 0.35  # opacity above which a pixel belongs to the mask
SMALLEST = 0.0005  # smallest share of the image that a defect covers


@dataclass(frozen=True)
class Drawing:
    """The parameters of the images of a category.

    Attributes:
        size: pixels per side.
        train_images: number of normal training images.
        good_images: number of normal test images.
        defect_images: number of test images with each kind of defect.
        seed: seed of all random numbers.
    """

    size: int
    train_images: int
    good_images: int
    defect_images: int
    seed: int


def draw(root: Path, category: str, drawing: Drawing) -> Path:
    """Draw the category below the root unless it is there already; several processes may do so at once.

    Returns:
        The category's folder.

    Raises:
        UserError: the category is unknown, a parameter is too small, or the folder holds other images than these.
    """
    if category not in CATEGORIES:
        meant = did_you_mean(category, CATEGORIES)
        raise UserError(f"There are no built-in images {category!r}{meant}: choose one of {', '.join(CATEGORIES)}.")
    small = {key: value for key, value in asdict(drawing).items() if key != "seed" and value < 1}
    if small or drawing.size < 32:
        key, value = next(iter(small.items()), ("size", drawing.size))
        raise UserError(f"dataset.{key}={value} is too small: give at least {32 if key == 'size' else 1}.")
    folder, label = root / category, {"version": VERSION, "category": category, **asdict(drawing)}
    make_folder(root, "dataset.root")
    with FileLock(root / f".{category}.lock"):
        if folder.exists():
            _must_be(folder, label)
            return folder
        unfinished = root / f".{category}.part"
        shutil.rmtree(unfinished, ignore_errors=True)  # of a process that was killed
        try:
            for number, kind in enumerate(["train", "good", *DEFECTS[category]]):
                count = {"train": drawing.train_images, "good": drawing.good_images}.get(kind, drawing.defect_images)
                for index in range(count):
                    stream = [drawing.seed, list(CATEGORIES).index(category), number, index]
                    _write(unfinished, category, kind, index, drawing.size, np.random.default_rng(stream))
            (unfinished / "generator.json").write_text(json.dumps(label, indent=1) + "\n")
            unfinished.rename(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def image(category: str, kind: str | None, size: int, random: np.random.Generator) -> tuple[NDArray[np.uint8], ...]:
    """Draw an image, uint8 [S, S, 3], and its mask, uint8 [S, S] with 255 where the defect is.

    Args:
        category: category of the image.
        kind: kind of defect; None for a normal image.
        size: side S in pixels.
        random: generator of all random numbers.
    """
    clean, surface = CATEGORIES[category](size, random)
    pixels, mask = clean, np.zeros((size, size))
    while kind is not None and (mask > EDGE).sum() < SMALLEST * size**2:  # a defect may miss the surface
        pixels, mask = DEFECTS[category][kind](clean, surface, random)
    pixels = painting.light(pixels, random)
    return (pixels.clip(0, 1) * 255).round().astype(np.uint8), ((mask > EDGE) * 255).astype(np.uint8)


def _write(folder: Path, category: str, kind: str, index: int, size: int, random: np.random.Generator) -> None:
    normal = kind in ("train", "good")
    pixels, mask = image(category, None if normal else kind, size, random)
    file = folder / ("train/good" if kind == "train" else f"test/{kind}") / f"{index:03}.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    # grain is grey, so that images of both modes are read
    Image.fromarray(pixels if category != "grain" else pixels[..., 0]).save(file)
    if not normal:
        file = folder / "ground_truth" / kind / f"{index:03}_mask.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(file)


def _must_be(folder: Path, label: dict[str, object]) -> None:
    try:
        present = json.loads((folder / "generator.json").read_text())
    except (OSError, ValueError):
        present = None
    if present != label:
        raise UserError(
            f"{folder} holds other images than these (see generator.json there): set dataset.root to another folder, "
            "or remove that one."
        )
