"""Decoding of images and masks, several at once, into tensors of the input size."""

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
DAMAGED = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)  # raised for invalid image files
REMEDY = "Replace or remove them; python -m altub_exp.data verifies a whole dataset folder."


def load_images(samples: Sequence[Sample], size: int, interpolation: str = "bilinear") -> Tensor:
    """Return images resized to a square, whatever their aspect ratio.

    Args:
        samples: N images.
        size: side S in pixels.
        interpolation: ``bilinear`` with two taps (as in OpenCV and anomalib 0.3, without antialiasing), or Pillow's
            ``antialias`` or ``lanczos``.

    Returns:
        uint8 [N, 3, S, S] on the CPU.

    Raises:
        UserError: some files cannot be decoded.
    """
    return torch.stack(_each(lambda sample: resize(read_rgb(sample.image), size, interpolation), samples))


class ImageFiles:
    """Images that :func:`load_images` decodes when they are asked for."""

    def __init__(self, samples: Sequence[Sample], size: int, interpolation: str) -> None:
        self._samples, self._size, self._interpolation = samples, size, interpolation
        self._decoded: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self._samples)

    def decode(self, rows: Sequence[int]) -> None:
        """Decode images now and keep them until they are asked for.

        Raises:
            UserError: some files cannot be decoded.
        """
        if rows:
            pixels = load_images([self._samples[row] for row in rows], self._size, self._interpolation)
            self._decoded |= dict(zip(rows, pixels, strict=True))

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Return the images ``rows`` [B] as uint8 [B, 3, S, S]."""
        wanted = rows.tolist()
        self.decode([row for row in wanted if row not in self._decoded])
        return torch.stack([self._decoded.pop(row) for row in wanted])


def file_digests(samples: Sequence[Sample]) -> list[str]:
    """Return the SHA-256 of each image's file, in hex digits.

    Raises:
        UserError: some files cannot be read.
    """
    return _each(lambda sample: hashlib.sha256(sample.image.read_bytes()).hexdigest(), samples)


def rotate(images: Tensor, degrees: Sequence[float]) -> Tensor:
    """Rotate uint8 images [B, 3, S, S] about their centres: nearest pixel, black beyond the edges, as torchvision does.

    >>> rotate(torch.arange(12, dtype=torch.uint8).view(1, 3, 2, 2), [90.0])[0, 0].tolist()
    [[1, 3], [0, 2]]
    """
    rotated = [
        np.asarray(Image.fromarray(image.permute(1, 2, 0).numpy()).rotate(angle))
        for image, angle in zip(images, degrees, strict=True)
    ]
    return torch.stack([_channels_first(pixels) for pixels in rotated])


def load_masks(samples: Sequence[Sample], size: int) -> Tensor:
    """Return True for defective pixels: those above 127 in the mask, or, in masks of class ids, all but 0.

    Masks are resized to the nearest pixel. Without a mask, all pixels of an image are False.

    Returns:
        bool [N, S, S] on the CPU.

    Raises:
        UserError: a mask cannot be decoded or differs in size from its image.
    """

    def load(sample: Sample) -> Tensor:
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

    return torch.stack(_each(load, samples, lambda sample: sample.mask or sample.image))


def unreadable(files: Sequence[Path], tick: Callable[[], None] = lambda: None) -> list[Path]:
    """Return the files that cannot be decoded; ``tick`` is called after each file."""

    def is_damaged(file: Path) -> bool:
        try:
            read_rgb(file)
        except DAMAGED:
            return True
        finally:
            tick()
        return False

    with ThreadPoolExecutor(_threads()) as pool:
        return [file for file, damaged in zip(files, pool.map(is_damaged, files), strict=True) if damaged]


def read_rgb(file: Path) -> Image.Image:
    """Decode an image as 8-bit RGB, turned upright according to its EXIF data.

    Raises:
        OSError: or another of ``DAMAGED``: the file is damaged or is not an image.
    """
    with Image.open(file) as image:
        image.load()
        return ImageOps.exif_transpose(eight_bit(image)).convert("RGB")


def eight_bit(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey to 8 bits, which Pillow's own conversion would clip; return other images as they are."""
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image).astype(np.float64) / 257).round().clip(0, 255).astype(np.uint8))
    return image


def whiten(mask: Image.Image) -> Image.Image:
    """Return white wherever a mask of class ids is not 0; in a palette image the index counts, whatever its colour."""
    ids = np.asarray(mask if len(mask.getbands()) == 1 else mask.convert("RGB"))
    return Image.fromarray(np.where(np.atleast_3d(ids).any(axis=2), 255, 0).astype(np.uint8))


def resize(image: Image.Image, size: int, interpolation: str) -> Tensor:
    """Resize an RGB image to uint8 [3, S, S]."""
    if interpolation in PILLOW:
        return _channels_first(np.asarray(image.resize((size, size), PILLOW[interpolation])))
    pixels = _channels_first(np.asarray(image)).float().unsqueeze(0)
    resized = F.interpolate(pixels, size=(size, size), mode="bilinear", align_corners=False)
    return resized.squeeze(0).round().byte()


def _channels_first(pixels: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def _each(
    load: Callable[[Sample], T], samples: Sequence[Sample], file: Callable[[Sample], Path] = lambda sample: sample.image
) -> list[T]:
    """Load something from a file of each sample; files that fail are named in one UserError."""

    def attempt(sample: Sample) -> T | Path:
        try:
            return load(sample)
        except DAMAGED:
            return file(sample)

    with ThreadPoolExecutor(_threads()) as pool:
        results = list(pool.map(attempt, samples))
    if damaged := [result for result in results if isinstance(result, Path)]:
        raise complain_about(f"{len(damaged)} image files cannot be read (damaged or truncated)", damaged, REMEDY)
    return [result for result in results if not isinstance(result, Path)]


def _threads() -> int:
    return min(16, len(os.sched_getaffinity(0)))
