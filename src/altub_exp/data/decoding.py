"""The one reader of images and masks: each file is read rightly, or refused with a reason."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from altub_exp.data.files import INVALID, UnreadableError, reason_of, require_regular
from altub_exp.data.samples import Sample
from altub_exp.errors import UserError
from altub_exp.text import printable

warnings.filterwarnings("ignore", module=r"PIL\.")  # what matters of them becomes the reason of a refusal

MEGAPIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6
"""Pillow's limit, at which it raises an error."""

FEWEST_LEVELS = 2**14
"""A 16-bit image whose values are all below this is dark, or comes from a camera of 10 to 14 bits."""

ORIENTATION, TURNED = 0x0112, (5, 6, 7, 8)
"""EXIF's tag of the orientation, and its values that exchange width and height."""


def read_rgb(file: Path | BinaryIO, bit_depth: int | None = None) -> Image.Image:
    """Decode an image as 8-bit RGB, see :func:`as_rgb`.

    Args:
        file: the image, or its open file.
        bit_depth: as for :func:`as_rgb`.

    Raises:
        UnreadableError: the file is not one image, or its values do not fit; the text is the reason.
        OSError: or another of :data:`~altub_exp.data.files.INVALID`: the file is damaged or cannot be read.
    """
    with _opened(file) as image:
        return as_rgb(image, bit_depth)


def read_size(file: Path) -> tuple[int, int]:
    """Return the width and height of an image, turned upright, without decoding it.

    Raises:
        UnreadableError: the file is not one image; the text is the reason.
        OSError: or another of :data:`~altub_exp.data.files.INVALID`: the file is damaged or cannot be read.
    """
    with _opened(file) as image:
        return _upright_size(image)


def as_rgb(image: Image.Image, bit_depth: int | None = None) -> Image.Image:
    """Convert an image to 8-bit RGB, turned upright according to its EXIF data, and over black where it is transparent.

    Grey of more than 8 bits (integers up to 16 bits) is scaled so that the largest value of ``bit_depth`` bits becomes
    255, and floating-point grey so that 1 becomes 255.

    Args:
        image: the image.
        bit_depth: the bits that the values of 16-bit files use; None: all 16, and images that use fewer are refused.

    Raises:
        UnreadableError: its values do not fit; the text is the reason.
        OSError: or another of :data:`~altub_exp.data.files.INVALID`: its file is damaged or cannot be read.
    """
    is_deep = _is_deep(image)
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith(("I", "F")):
        values = np.asarray(upright)
        levels = _scaled_float(values) if upright.mode == "F" else _scaled_integers(values.astype(np.int64), bit_depth)
        return Image.fromarray(levels.round().astype(np.uint8)).convert("RGB")
    if is_deep:
        _require_depth(upright, bit_depth)
    if not upright.has_transparency_data:
        return upright.convert("RGB")
    over_black = Image.new("RGBA", upright.size, (0, 0, 0, 255))
    over_black.alpha_composite(upright.convert("RGBA"))
    return over_black.convert("RGB")


def read_mask(sample: Sample) -> NDArray[np.bool_]:
    """Return True for the defective pixels of a sample's mask, bool [H, W]; those of any part, if it has several.

    In masks of class ids (``sample.class_ids``) these are all but 0; in a palette the index counts. In other masks they
    are those above half the range (127 of 255, 32767 of 65535, 0.5 of 1), or all but 0 if none is. Of a colour the
    brightest channel counts, and transparent pixels are normal.

    Raises:
        UserError: the mask differs in size from its image.
        UnreadableError: the mask is several images, or its values are ambiguous; the text is the reason.
        OSError: or another of :data:`~altub_exp.data.files.INVALID`: a file is damaged or cannot be read.
    """
    assert sample.mask is not None
    size = None
    with contextlib.suppress(*INVALID):  # an image that fails is refused as an image
        size = read_size(sample.image)
    marked = None
    for file in sample.mask_files():
        try:
            part = _read_mask_file(file, sample, size)
            marked = part if marked is None else marked | part
        except INVALID as error:
            if not sample.parts:
                raise
            raise UnreadableError(f"{printable(file.name)}: {reason_of(error)}") from error
    assert marked is not None
    return marked


def _read_mask_file(file: Path, sample: Sample, size: tuple[int, int] | None) -> NDArray[np.bool_]:
    """Return True for the defective pixels of one file of a sample's mask; ``size`` is that of its image, if known."""
    with _opened(file) as mask:
        if size is not None and mask.size != size:
            raise UserError(
                f"{printable(file)} has {mask.width}×{mask.height} pixels, its image {printable(sample.image)} "
                f"has {size[0]}×{size[1]}: a mask must fit its image."
            )
        is_deep, is_lossy = _is_deep(mask), mask.format in ("JPEG", "WEBP")
        mask.load()
        if sample.class_ids:
            ids = np.asarray(mask if len(mask.getbands()) == 1 else mask.convert("RGB"))
            marked: NDArray[np.bool_] = (np.atleast_3d(ids) != 0).any(axis=2)
            return marked
        if is_deep and not mask.mode.startswith("I"):
            _require_depth(mask, None)
        return _defective(_mask_levels(mask), is_lossy)


@contextlib.contextmanager
def _opened(file: Path | BinaryIO) -> Iterator[Image.Image]:
    """Open an image file, and refuse one that is too large or holds several images."""
    if isinstance(file, Path):
        require_regular(file)
    try:
        with Image.open(file) as image:
            if (pages := _pages(image)) > 1:
                raise UnreadableError(f"it holds {pages} images: save each as a file of its own")
            yield image
    except Image.DecompressionBombError as error:
        raise UnreadableError(f"more than {MEGAPIXELS} megapixels: scale it down, or cut it into tiles") from error


def _pages(image: Image.Image) -> int:
    """Return the number of a file's images; previews and smaller versions of the first are not counted."""
    count: int = getattr(image, "n_frames", 1)
    if count == 1 or image.format == "MPO":  # the other images of a camera's MPO are previews
        return 1
    if image.format != "TIFF":
        return count
    whole = 0
    for page in range(count):
        image.seek(page)
        whole += not image.tag_v2.get(254, 0) & 1  # type: ignore[attr-defined]  # NewSubfileType: a smaller version
    image.seek(0)
    return whole


def _upright_size(image: Image.Image) -> tuple[int, int]:
    turned = image.format != "TIFF" and image.getexif().get(ORIENTATION) in TURNED  # Pillow turns a TIFF by itself
    return (image.height, image.width) if turned else image.size


def _scaled_float(values: NDArray[np.float32]) -> NDArray[np.float64]:
    if not np.isfinite(values).all():
        raise UnreadableError("NaN or infinite values")
    if values.min() < 0 or values.max() > 1:
        raise UnreadableError(
            f"floating-point values from {values.min():g} to {values.max():g}: scale them to 0 to 1, or save integers"
        )
    return 255 * values.astype(np.float64)


def _scaled_integers(values: NDArray[np.int64], bit_depth: int | None) -> NDArray[np.float64]:
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise UnreadableError(f"integers from {low} to {high}: 16 bits hold 0 to 65535")
    if bit_depth is None and high < FEWEST_LEVELS:
        fitting = next(bits for bits in (8, 10, 12, 14) if high < 2**bits)
        raise UnreadableError(
            f"16-bit grey without a value above {high}: set dataset.bit_depth={fitting} if these are the camera's "
            "bits, otherwise 16"
        )
    largest = 2 ** (bit_depth or 16) - 1
    if high > largest:
        raise UnreadableError(f"the value {high} does not fit into dataset.bit_depth={bit_depth}: set more bits")
    scaled: NDArray[np.float64] = values / (largest / 255)
    return scaled


def _is_deep(image: Image.Image) -> bool:
    """True if an image that is not loaded yet has 16 bits per channel; Pillow keeps the upper 8 of colours."""
    return ";16" in str(getattr(image, "tile", ""))


def _require_depth(image: Image.Image, bit_depth: int | None) -> None:
    """Refuse 16-bit colour that uses fewer bits."""
    bands = [np.asarray(band) for band, name in zip(image.split(), image.getbands(), strict=True) if name != "A"]
    if bit_depth is None and max(band.max() for band in bands) < FEWEST_LEVELS // 256:
        raise UnreadableError("16-bit colour, but dark as if it used fewer bits: save it with 8 bits per channel")
    if bit_depth is not None and bit_depth < 16:
        raise UnreadableError(f"16-bit colour, which dataset.bit_depth={bit_depth} cannot scale: save it with 8 bits")


def _mask_levels(mask: Image.Image) -> NDArray[Any]:
    """Return one value per pixel [H, W]: the brightest channel, 0 where it is transparent."""
    if mask.mode.startswith(("I", "F")):
        return np.asarray(mask)
    rgba = np.asarray(mask.convert("RGBA"))
    levels: NDArray[Any] = np.where(rgba[..., 3] > 127, rgba[..., :3].max(axis=2), 0)
    if mask.mode == "P":
        indices = np.asarray(mask)
        used = [rgba[indices == index][0].tolist() for index in np.unique(indices)]
        if len({tuple(colour) for colour in used}) < len(used):  # the palette is no picture of the mask
            return indices
    return levels


def _defective(levels: NDArray[Any], is_lossy: bool) -> NDArray[np.bool_]:
    if not np.isfinite(levels).all():
        raise UnreadableError("NaN or infinite values")
    low, high = levels.min().item(), levels.max().item()
    is_float = levels.dtype.kind == "f"
    if low < 0 or high > (1 if is_float else 65535):
        raise UnreadableError(f"a mask with values from {low:g} to {high:g}: save it with 0 and 255")
    half = 0.5 if is_float else 127 if high <= 255 else 32767
    solid: NDArray[np.bool_] = levels > half
    if is_float or high == 0:
        return solid
    marked: NDArray[np.bool_] = levels > (half / 4 if is_lossy else 0)
    if solid.any() and marked.sum() <= 2 * solid.sum():
        return solid
    if is_lossy or solid.any():
        raise UnreadableError(
            f"a mask with more pixels from 1 to {half} than above, as of class ids: save it as PNG with 0 and 255"
        )
    return marked
