"""Images and masks as tensors of the input size, several decoded at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from altub_exp.data.decoding import read_mask, read_rgb
from altub_exp.data.files import UnreadableError, attempts, complain_about, for_each, named
from altub_exp.data.samples import ImageSet, Sample
from altub_exp.errors import UserError
from altub_exp.machine.terminal import log
from altub_exp.text import printable

PILLOW = {"antialias": Image.Resampling.BILINEAR, "lanczos": Image.Resampling.LANCZOS}


def load_images(
    samples: Sequence[Sample], size: int, interpolation: str = "bilinear", bit_depth: int | None = None
) -> Tensor:
    """Return images resized to a square, whatever their aspect ratio.

    Args:
        samples: N images.
        size: side S in pixels.
        interpolation: ``bilinear`` with two taps (as in OpenCV and anomalib 0.3, without antialiasing), or Pillow's
            ``antialias`` or ``lanczos``.
        bit_depth: as for :func:`~altub_exp.data.decoding.read_rgb`.

    Returns:
        uint8 [N, 3, S, S] on the CPU.

    Raises:
        UserError: some files cannot be read.
    """

    def load(sample: Sample) -> Tensor:
        return resize(read_rgb(sample.image, bit_depth), size, interpolation)

    return torch.stack(for_each(load, samples, lambda sample: sample.image))


class ImageFiles:
    """Images that :func:`load_images` decodes when they are asked for."""

    def __init__(self, samples: Sequence[Sample], size: int, interpolation: str, bit_depth: int | None) -> None:
        self._samples, self._size, self._interpolation, self._bit_depth = samples, size, interpolation, bit_depth
        self._decoded: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self._samples)

    def decode(self, rows: Sequence[int]) -> None:
        """Decode images now and keep them until they are asked for.

        Raises:
            UserError: some files cannot be read.
        """
        if rows:
            pixels = load_images([self._samples[row] for row in rows], self._size, self._interpolation, self._bit_depth)
            self._decoded |= dict(zip(rows, pixels, strict=True))

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Return the images ``rows`` [B] as uint8 [B, 3, S, S]."""
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


def load_masks(samples: Sequence[Sample], size: int) -> Tensor:
    """Return True for defective pixels as :func:`~altub_exp.data.decoding.read_mask` does.

    Masks are resized to the nearest pixel. A defect that vanishes thereby keeps the pixels that it touches, which is
    logged as a warning. Without a mask, all pixels of an image are False.

    Returns:
        bool [N, S, S] on the CPU.

    Raises:
        UserError: a mask cannot be read or differs in size from its image, or no mask marks a defect.
    """

    def load(sample: Sample) -> tuple[NDArray[np.bool_], bool, bool]:
        if sample.mask is None:
            return np.zeros((size, size), dtype=np.bool_), False, False
        mask = read_mask(sample)
        small = np.asarray(Image.fromarray(mask.astype(np.uint8)).resize((size, size), Image.Resampling.NEAREST)) > 0
        rows, columns = np.nonzero(mask)
        vanishes = len(rows) > 0 and not small.any()
        if vanishes:
            small = np.zeros_like(small)
            small[rows * size // mask.shape[0], columns * size // mask.shape[1]] = True
        return small, len(rows) > 0, vanishes

    loaded = for_each(load, samples, lambda sample: sample.mask or sample.image)
    masked = [row for row, sample in enumerate(samples) if sample.mask is not None]
    for sentence in _empty([samples[row] for row in masked], [loaded[row][1] for row in masked]):
        log.warning("%s.", sentence)
    rows = zip(samples, loaded, strict=True)
    if thin := [sample.mask for sample, (_, _, vanishes) in rows if vanishes and sample.mask is not None]:
        log.warning(
            "The defects of %d masks are thinner than a pixel of the input and keep the pixels they touch: %s.",
            len(thin),
            named(thin),
        )
    return torch.stack([torch.from_numpy(small) for small, _, _ in loaded])


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
        return refused, _empty([masked[row] for row in marks], list(marks.values()))
    except UserError as error:
        return [*refused, str(error)], []


def _empty(samples: Sequence[Sample], marks: Sequence[bool]) -> list[str]:
    """Return a sentence about the masks without a defect, if there are any.

    Args:
        samples: samples with masks.
        marks: True for each mask that marks a defect.

    Raises:
        UserError: none does.
    """
    empty = [sample.mask for sample, marked in zip(samples, marks, strict=True) if sample.mask and not marked]
    if empty and not any(marks):
        raise complain_about("No mask marks a defect", empty, "Save them with 0 and 255, white where the defect is.")
    return [f"{len(empty)} masks mark no defect: {named(empty)}"] if empty else []


def resize(image: Image.Image, size: int, interpolation: str) -> Tensor:
    """Resize an RGB image to uint8 [3, S, S]."""
    if interpolation in PILLOW:
        return _channels_first(np.asarray(image.resize((size, size), PILLOW[interpolation])))
    pixels = _channels_first(np.asarray(image)).float().unsqueeze(0)
    resized = F.interpolate(pixels, size=(size, size), mode="bilinear", align_corners=False)
    return resized.squeeze(0).round().byte()


def _channels_first(pixels: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())
