"""Takes images through a frozen backbone so that the maps of an image depend on nothing but the image."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")

Extractor = Callable[[Tensor], list[Tensor]]
"""uint8 images [B, 3, S, S] on the device → one map [B, C, H, W] per scale, as a Backbone gives them."""

PIXELS_AT_ONCE = 2**21  # 32 images of 256 px in one pass through the backbone, 8 of 512 px: bounds its memory


class LateBackbone:
    """An extractor that is built when it is first asked for anything.

    Args:
        build: gives the backbone, on the device already.
    """

    def __init__(self, build: Callable[[], nn.Module]) -> None:
        self._build = build
        self._built: nn.Module | None = None

    def built(self) -> nn.Module:
        """The backbone.

        Raises:
            UserError: it cannot be built.
        """
        if self._built is None:
            self._built = self._build()
        return self._built

    def __call__(self, images: Tensor) -> list[Tensor]:
        """Maps of a batch."""
        maps: list[Tensor] = self.built()(images)
        return maps


def one_by_one(
    extractor: Extractor, images: Tensor, device: torch.device, take: Callable[[int, list[Tensor]], T]
) -> list[T]:
    """Send each image through the backbone alone; on the CPU, several at once, each by one thread.

    Kernels are chosen, and sums ordered, by the size of a batch and by the number of threads: both change the last bits
    of a map. An image alone on one thread has the same bits in every batch, run and number of cores, and the cores have
    more of it than from sharing each convolution.

    Args:
        extractor: the backbone, on ``device``.
        images: uint8 [N, 3, S, S] on the CPU.
        device: of the backbone.
        take: is given the row of an image and its maps [C, H, W], on ``device``; on the CPU from several threads.

    Returns:
        What ``take`` returned, image by image.
    """

    def one(row: int) -> T:
        return take(row, [maps[0] for maps in batch(extractor, images[row : row + 1], device)])

    if device.type != "cpu" or len(images) == 1:
        with single_threaded():
            return [one(row) for row in range(len(images))]
    workers = torch.get_num_threads()
    with single_threaded(), ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return list(pool.map(one, range(len(images))))


def batch(extractor: Extractor, images: Tensor, device: torch.device) -> list[Tensor]:
    """Maps [B, C, H, W] of uint8 images on the CPU, on the device; so many at a time as bounds the memory."""
    at_once = max(1, PIXELS_AT_ONCE // images[0, 0].numel())
    parts = [extractor(some.to(device)) for some in torch.split(images, at_once)]
    return [torch.cat(maps) for maps in zip(*parts, strict=True)]  # plain tensors, not inference mode's


@contextlib.contextmanager
def single_threaded() -> Iterator[None]:
    """Let PyTorch compute with one thread; its setting belongs to the process and is put back."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
