"""Masks as tensors of the canvas's size: no defect is lost by resizing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from altub_exp.data.canvas import Canvas, cropped
from altub_exp.data.decoding import read_mask
from altub_exp.data.files import complain_about, for_each, named
from altub_exp.data.samples import Sample
from altub_exp.machine.terminal import log

EIGHT = np.ones((3, 3))
"""The neighbours of a pixel that belong to the same region of a mask."""

NEAR = np.ones((5, 5))
"""The pixels around one of a resized mask that no feature map tells apart: the finest has a position per 4 pixels."""


def load_masks(samples: Sequence[Sample], canvas: Canvas) -> Tensor:
    """Return True for defective pixels as :func:`~altub_exp.data.decoding.read_mask` does.

    Masks are resized to the nearest pixel. A region (8-connected) that vanishes thereby keeps the pixels that it
    touches, which is logged as a warning, unless one of them is near another region's: then it was a fragment of a
    defect that has not vanished. Without a mask, all pixels of an image are False.

    Args:
        samples: N images.
        canvas: the canvas of their images.

    Returns:
        bool [N, H, W] on the CPU.

    Raises:
        UserError: a mask cannot be read or differs in size from its image, or no mask marks a defect.
    """

    def load(sample: Sample) -> tuple[Tensor, bool, bool]:
        placed = torch.zeros(canvas.height, canvas.width, dtype=torch.bool)
        if sample.mask is None:
            return placed, False, False
        mask = read_mask(sample)
        box = canvas.box(mask.shape[1], mask.shape[0])
        small, vanishes = _resized_mask(mask, box.height, box.width)
        cropped(placed, box).copy_(torch.from_numpy(small))
        return placed, bool(mask.any()), vanishes

    loaded = for_each(load, samples, lambda sample: sample.mask or sample.image)
    masked = [row for row, sample in enumerate(samples) if sample.mask is not None]
    for sentence in without_defect([samples[row] for row in masked], [loaded[row][1] for row in masked]):
        log.warning("%s.", sentence)
    rows = zip(samples, loaded, strict=True)
    if thin := [sample.mask for sample, (_, _, vanishes) in rows if vanishes and sample.mask is not None]:
        log.warning(
            "Defects of %d masks are thinner than a pixel of the input and keep the pixels they touch: %s.",
            len(thin),
            named(thin),
        )
    return torch.stack([placed for placed, _, _ in loaded])


def _resized_mask(mask: NDArray[np.bool_], height: int, width: int) -> tuple[NDArray[np.bool_], bool]:
    """Return a mask resized as :func:`load_masks` does, and True if a region would have vanished."""
    from scipy import ndimage  # here: the analysis imports this package, and needs no regions

    regions, count = ndimage.label(mask, EIGHT)
    nearest = np.asarray(Image.fromarray(regions.astype(np.int32)).resize((width, height), Image.Resampling.NEAREST))
    small = nearest > 0
    lost = np.setdiff1d(np.arange(1, count + 1), nearest)
    rows, columns = np.nonzero(np.isin(regions, lost))
    names = regions[rows, columns]
    rows, columns = rows * height // mask.shape[0], columns * width // mask.shape[1]
    fragments = names[ndimage.binary_dilation(small, NEAR)[rows, columns]]
    vanish = ~np.isin(names, fragments)
    small[rows[vanish], columns[vanish]] = True
    return small, bool(vanish.any())


def without_defect(samples: Sequence[Sample], marks: Sequence[bool]) -> list[str]:
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
