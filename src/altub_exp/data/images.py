"""Decodes images and masks, several at once, into tensors of the input size."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from altub_exp.data.samples import Sample, complain_about
from altub_exp.errors import UserError

T = TypeVar("T")
PILLOW = {"antialias": Image.Resampling.BILINEAR, "lanczos": Image.Resampling.LANCZOS}
REMEDY = "Replace or remove them; python -m altub_exp.data verifies a whole dataset folder."


def load_images(samples: Sequence[Sample], size: int, interpolation: str = "bilinear") -> Tensor:
    """Images resized to a square, without keeping their aspect.

    Args:
        samples: N of them.
        size: side S in pixels.
        interpolation: ``bilinear`` with two taps (as OpenCV's and anomalib 0.3's, no antialias), ``antialias`` or
            ``lanczos`` (Pillow's).

    Returns:
        uint8 [N, 3, S, S] on the CPU.

    Raises:
        UserError: files that cannot be decoded; all of them are named in one sentence.
    """

    def one(sample: Sample) -> Tensor:
        return resize(read_rgb(sample.image), size, interpolation)

    return torch.stack(_each(one, samples, lambda sample: sample.image))


class ImageFiles:
    """Images that are decoded when they are asked for, as :func:`load_images` does."""

    def __init__(self, samples: Sequence[Sample], size: int, interpolation: str) -> None:
        self._samples, self._size, self._interpolation = samples, size, interpolation
        self._decoded: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self._samples)

    def decode(self, rows: Sequence[int]) -> None:
        """Decode images now and keep them until they are asked for.

        Raises:
            UserError: files that cannot be decoded; all of them are named in one sentence.
        """
        if rows:
            pixels = load_images([self._samples[row] for row in rows], self._size, self._interpolation)
            self._decoded |= dict(zip(rows, pixels, strict=True))

    def __getitem__(self, rows: Tensor) -> Tensor:
        """uint8 [B, 3, S, S] of the images ``rows`` [B]."""
        wanted = rows.tolist()
        self.decode([row for row in wanted if row not in self._decoded])
        return torch.stack([self._decoded.pop(row) for row in wanted])


def file_digests(samples: Sequence[Sample]) -> list[str]:
    """SHA-256 of each image's file, in hex digits.

    Raises:
        UserError: files that cannot be read.
    """
    return _each(lambda sample: hashlib.sha256(sample.image.read_bytes()).hexdigest(), samples, lambda s: s.image)


def rotate(images: Tensor, degrees: Sequence[float]) -> Tensor:
    """Turn uint8 images [B, 3, S, S] about their centres, nearest pixel, black beyond the edge (torchvision's default).

    >>> rotate(torch.arange(12, dtype=torch.uint8).view(1, 3, 2, 2), [90.0])[0, 0].tolist()
    [[1, 3], [0, 2]]
    """
    turned = [
        np.asarray(Image.fromarray(image.permute(1, 2, 0).numpy()).rotate(angle))
        for image, angle in zip(images, degrees, strict=True)
    ]
    return torch.stack([_channels_first(one) for one in turned])


def load_masks(samples: Sequence[Sample], size: int) -> Tensor:
    """Defective pixels, masks nearest-resized: those above 127, or, in masks of class ids, all but 0.

    Of images without a mask all are False.

    Returns:
        bool [N, S, S] on the CPU.

    Raises:
        UserError: a mask cannot be decoded or has another size than its image.
    """

    def one(sample: Sample) -> Tensor:
        if sample.mask is None:
            return torch.zeros(size, size, dtype=torch.bool)
        with Image.open(sample.mask) as mask, Image.open(sample.image) as image:
            if mask.size != ImageOps.exif_transpose(image).size:
                raise UserError(
                    f"{sample.mask} has {mask.width}×{mask.height} pixels, its image {sample.image} has "
                    f"{image.width}×{image.height}: a mask must fit its image."
                )
            gray = whiten(mask) if sample.class_ids else eight_bit(mask).convert("L")
        return torch.from_numpy(np.asarray(gray.resize((size, size), Image.Resampling.NEAREST)) > 127)

    return torch.stack(_each(one, samples, lambda sample: sample.mask or sample.image))


def unreadable(files: Sequence[Path], tick: Callable[[], None] = lambda: None) -> list[Path]:
    """Those of the files that cannot be decoded; ``tick`` is called after each."""

    def broken(file: Path) -> bool:
        try:
            read_rgb(file)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            return True
        finally:
            tick()
        return False

    with ThreadPoolExecutor(_threads()) as pool:
        return [file for file, bad in zip(files, pool.map(broken, files), strict=True) if bad]


def read_rgb(file: Path) -> Image.Image:
    """The decoded image as 8-bit RGB, turned upright as its EXIF data says.

    Raises:
        OSError: among others; the file is damaged or no image.
    """
    with Image.open(file) as image:
        image.load()
        return ImageOps.exif_transpose(eight_bit(image)).convert("RGB")


def eight_bit(image: Image.Image) -> Image.Image:
    """16-bit gray scaled to 8 bits (Pillow's own conversion would clip it); anything else as it is."""
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image).astype(np.float64) / 257).round().clip(0, 255).astype(np.uint8))
    return image


def whiten(mask: Image.Image) -> Image.Image:
    """White wherever a mask of class ids is not 0; in a palette image the index counts, whatever its colour."""
    ids = np.asarray(mask if len(mask.getbands()) == 1 else mask.convert("RGB"))
    return Image.fromarray(np.where(np.atleast_3d(ids).any(axis=2), 255, 0).astype(np.uint8))


def resize(image: Image.Image, size: int, interpolation: str) -> Tensor:
    """RGB image → uint8 [3, S, S]."""
    if interpolation in PILLOW:
        return _channels_first(np.asarray(image.resize((size, size), PILLOW[interpolation])))
    pixels = _channels_first(np.asarray(image)).float().unsqueeze(0)
    resized = F.interpolate(pixels, size=(size, size), mode="bilinear", align_corners=False)
    return resized.squeeze(0).round().byte()


def _channels_first(pixels: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def _each(one: Callable[[Sample], T], samples: Sequence[Sample], file: Callable[[Sample], Path]) -> list[T]:
    def attempt(sample: Sample) -> T | Path:
        try:
            return one(sample)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            return file(sample)

    with ThreadPoolExecutor(_threads()) as pool:
        results = list(pool.map(attempt, samples))
    damaged = [result for result in results if isinstance(result, Path)]
    if damaged:
        raise complain_about(f"{len(damaged)} image files cannot be read (damaged or truncated)", damaged, REMEDY)
    return [result for result in results if not isinstance(result, Path)]


def _threads() -> int:
    return min(16, len(os.sched_getaffinity(0)))
