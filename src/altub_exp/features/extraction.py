"""Extraction: images go through a frozen backbone so that the maps of each depend on no other image."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor, nn

from altub_exp.data.images import rotate

T = TypeVar("T")

Extractor = Callable[[Tensor], list[Tensor]]
"""Turns uint8 images [B, 3, S, S] on the device into one map [B, C, H, W] per scale, as a Backbone does."""

PIXELS_AT_ONCE = 2**21  # 32 images of 256 px, 8 of 512 px: bounds the memory of a pass through the backbone


class LateBackbone:
    """A backbone that is built when it is first used.

    Args:
        build: returns the backbone, on its device.
    """

    def __init__(self, build: Callable[[], nn.Module]) -> None:
        self._build = build
        self._built: nn.Module | None = None

    def built(self) -> nn.Module:
        """Return the backbone.

        Raises:
            UserError: it cannot be built.
        """
        if self._built is None:
            self._built = self._build()
        return self._built

    def __call__(self, images: Tensor) -> list[Tensor]:
        """Return the maps of a batch."""
        maps: list[Tensor] = self.built()(images)
        return maps


def one_by_one(
    extractor: Extractor,
    images: Tensor,
    device: torch.device,
    take: Callable[[int, list[Tensor]], T],
    rotations: int = 1,
) -> list[T]:
    """Send each image through the backbone by itself; on the CPU several at once, each by one thread.

    The size of a batch and the number of threads decide the choice of kernels and the order of sums, and so the last
    bits of a map. An image by itself on one thread has the same maps in every run, whatever the number of cores; this
    is also faster than dividing each convolution among the cores.

    Args:
        extractor: the backbone, on ``device``.
        images: uint8 [N, 3, S, S] on the CPU.
        device: device of the backbone.
        take: is called with the row of an image and its maps [C, H, W], on ``device``; on the CPU by several threads.
        rotations: as for :func:`batch`; if there are several, V, the maps are [V, C, H, W].

    Returns:
        The results of ``take``, image by image.
    """

    def extract(row: int) -> T:
        return take(row, [maps[0] for maps in batch(extractor, images[row : row + 1], device, rotations)])

    if device.type != "cpu" or len(images) == 1:
        with single_threaded():
            return [extract(row) for row in range(len(images))]
    workers = torch.get_num_threads()
    with single_threaded(), ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return list(pool.map(extract, range(len(images))))


def batch(extractor: Extractor, images: Tensor, device: torch.device, rotations: int = 1) -> list[Tensor]:
    """Return the maps, on the device, of uint8 images [B, 3, S, S] on the CPU; ``PIXELS_AT_ONCE`` bounds the memory.

    Args:
        extractor: the backbone, on ``device``.
        images: the images.
        device: device of the backbone.
        rotations: V; if there are several, each image is rotated by 0, 360/V, … degrees.

    Returns:
        One [B, C, H, W] per scale, or of several rotations [B, V, C, H, W].
    """
    if rotations > 1:
        degrees = [360 * number / rotations for number in range(rotations)]
        rotated = (rotate(image.expand(rotations, -1, -1, -1), degrees) for image in images)
        return [torch.stack(maps) for maps in zip(*(batch(extractor, each, device) for each in rotated), strict=True)]
    at_once = max(1, PIXELS_AT_ONCE // images[0, 0].numel())
    parts = [extractor(part.to(device)) for part in torch.split(images, at_once)]
    return [torch.cat(maps) for maps in zip(*parts, strict=True)]  # plain tensors, not those of inference mode


def by_rotation(maps: Sequence[Tensor]) -> list[Tensor]:
    """Return maps [B, C, H, W] as they are, and maps of V rotations [B, V, C, H, W] as [B·V, C, H, W]."""
    return [scale.flatten(0, -4) for scale in maps]


@contextlib.contextmanager
def single_threaded() -> Iterator[None]:
    """Let PyTorch compute with one thread; the process's setting is restored afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
