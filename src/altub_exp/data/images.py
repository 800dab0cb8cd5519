"""Images as tensors of the canvas's size, several decoded at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from altub_exp.data.canvas import Box, Canvas
from altub_exp.data.decoding import read_mask, read_rgb, read_size
from altub_exp.data.files import UnreadableError, attempts, for_each
from altub_exp.data.masks import without_defect
from altub_exp.data.samples import ImageSet, Sample
from altub_exp.errors import UserError
from altub_exp.text import printable

PILLOW = {"antialias": Image.Resampling.BILINEAR, "lanczos": Image.Resampling.LANCZOS}


class Placed(NamedTuple):
    """An image on its canvas.

    Attributes:
        pixels: uint8 [3, H, W].
        box: the part of the canvas that the image covers.
    """

    pixels: Tensor
    box: Box


def place(image: Image.Image, canvas: Canvas, interpolation: str) -> Placed:
    """Resize an RGB image to its box of the canvas; around it, the image's outermost pixels are repeated.

    A border of one colour would be an edge, which a backbone sees far into the image.
    """
    box = canvas.box(*image.size)
    pixels = resize(image, (box.height, box.width), interpolation)
    below, right = canvas.height - box.top - box.height, canvas.width - box.left - box.width
    if (box.top, box.left, below, right) != (0, 0, 0, 0):
        around = ((0, 0), (box.top, below), (box.left, right))
        pixels = torch.from_numpy(np.pad(pixels.numpy(), around, mode="edge"))
    return Placed(pixels, box)


def load_images(
    samples: Sequence[Sample], canvas: Canvas, interpolation: str = "bilinear", bit_depth: int | None = None
) -> Tensor:
    """Return images resized to a canvas.

    Args:
        samples: N images.
        canvas: the canvas.
        interpolation: ``bilinear`` with two taps (as in OpenCV and anomalib 0.3, without antialiasing), or Pillow's
            ``antialias`` or ``lanczos``.
        bit_depth: as for :func:`~altub_exp.data.decoding.read_rgb`.

    Returns:
        uint8 [N, 3, H, W] on the CPU.

    Raises:
        UserError: some files cannot be read.
    """

    def load(sample: Sample) -> Tensor:
        return place(read_rgb(sample.image, bit_depth), canvas, interpolation).pixels

    return torch.stack(for_each(load, samples, lambda sample: sample.image))


class ImageFiles:
    """The tiles of images, which are decoded when tiles of them are asked for; tile t of image n has the row n·T + t.

    Args:
        samples: N images.
        canvas: their canvas, of T tiles.
        interpolation: as for :func:`load_images`.
        bit_depth: as for :func:`~altub_exp.data.decoding.read_rgb`.
    """

    def __init__(self, samples: Sequence[Sample], canvas: Canvas, interpolation: str, bit_depth: int | None) -> None:
        self._samples, self._canvas, self._interpolation, self._bit_depth = samples, canvas, interpolation, bit_depth
        self._decoded: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self._samples) * self._canvas.tiles

    def decode(self, rows: Sequence[int]) -> None:
        """Decode tiles now, each image once, and keep them until they are asked for.

        Raises:
            UserError: some files cannot be read.
        """
        if rows:
            images = list(dict.fromkeys(row // self._canvas.tiles for row in rows))
            samples = [self._samples[image] for image in images]
            pixels = load_images(samples, self._canvas, self._interpolation, self._bit_depth)
            canvases = dict(zip(images, pixels, strict=True))
            for row in rows:
                image, number = divmod(row, self._canvas.tiles)
                self._decoded[row] = self._canvas.tile(canvases[image], number)

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Return the tiles ``rows`` [B] as uint8 [B, 3, S, S]."""
        wanted = rows.tolist()
        self.decode([row for row in wanted if row not in self._decoded])
        return torch.stack([self._decoded.pop(row) for row in wanted])


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


def load_insides(samples: Sequence[Sample], canvas: Canvas) -> Tensor | None:
    """Return True for the pixels of each canvas that its image covers, bool [N, H, W]; None if images cover all.

    Raises:
        UserError: some files cannot be read.
    """
    if not canvas.keep_aspect:
        return None

    def load(sample: Sample) -> Tensor:
        return canvas.inside(canvas.box(*read_size(sample.image)))

    return torch.stack(for_each(load, samples, lambda sample: sample.image))


def findings(
    images: ImageSet, bit_depth: int | None = None, tick: Callable[[], None] = lambda: None
) -> tuple[list[str], list[str]]:
    """Return a sentence about each image and mask that a run would refuse, and about each that it would warn of.

    Args:
        images: the images of a category.
        bit_depth: as for :func:`~altub_exp.data.decoding.read_rgb`.
        tick: is called after each file.
    """
    samples = images.train + images.test
    masked = [sample for sample in images.test if sample.mask is not None]

    def mark(sample: Sample) -> bool:
        try:
            return bool(read_mask(sample).any())
        except UserError as error:
            raise UnreadableError(str(error).removesuffix(".")) from error

    _, failures = attempts(lambda sample: read_rgb(sample.image, bit_depth), samples, tick)
    refused = [f"{printable(samples[row].image)} cannot be read ({reason})" for row, reason in failures.items()]
    marks, failures = attempts(mark, masked, tick)
    refused += [f"{printable(str(masked[row].mask))} cannot be read ({reason})" for row, reason in failures.items()]
    try:
        return refused, without_defect([masked[row] for row in marks], list(marks.values()))
    except UserError as error:
        return [*refused, str(error)], []


def resize(image: Image.Image, shape: tuple[int, int], interpolation: str) -> Tensor:
    """Resize an RGB image to uint8 [3, H, W], the shape (H, W)."""
    if interpolation in PILLOW:
        return _channels_first(np.asarray(image.resize(shape[::-1], PILLOW[interpolation])))
    pixels = _channels_first(np.asarray(image)).float().unsqueeze(0)
    resized = F.interpolate(pixels, size=shape, mode="bilinear", align_corners=False)
    return resized.squeeze(0).round().byte()


def _channels_first(pixels: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())
