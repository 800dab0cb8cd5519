"""The feature maps of a set of images: from the cache, or computed once and kept, or computed anew for each batch."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from rich.progress import track
from torch import Tensor

from altub_exp.data.images import rotate
from altub_exp.errors import UserError
from altub_exp.features.cached import CachedMaps
from altub_exp.features.extraction import Extractor, batch, one_by_one
from altub_exp.machine.terminal import console, log

IMAGES_AT_ONCE = 32  # between two looks at whether there is room for more


class Images(Protocol):
    """N images, decoded when they are asked for: a tensor, or :class:`~altub_exp.data.images.ImageFiles`."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Tensor, /) -> Tensor:
        """uint8 [B, 3, S, S] on the CPU."""


class FeatureMaps:
    """Feature maps by image index.

    The backbone is frozen, so that the maps of images that are not augmented are constants. Each is what the backbone
    makes of the image alone (:func:`~altub_exp.features.extraction.one_by_one`), wherever it is taken from.

    Args:
        backbone: computes on ``device``.
        images: what the maps are of.
        batch_size: images per batch.
        device: where batches are wanted.
        memory_gb: of maps that no cache holds, up to this many GiB are kept in memory; the others are recomputed by
            :meth:`batch`.
        rotation: images are turned by up to this many degrees in :meth:`augmented`; the maps of those are never kept.
        cached: gives the images' place in the cache; None: there is no cache.

    Raises:
        UserError: an image cannot be read, or the backbone not be built.
    """

    def __init__(
        self,
        backbone: Extractor,
        images: Images,
        *,
        batch_size: int,
        device: torch.device,
        memory_gb: float,
        rotation: float = 0.0,
        cached: Callable[[], CachedMaps] | None = None,
    ) -> None:
        self._backbone, self._batch_size, self._count = backbone, batch_size, len(images)
        self.device = device
        self._rotation, self._memory, self._cached = rotation, int(memory_gb * 2**30), cached
        self._maps: list[list[Tensor] | None] = [None] * len(images)
        self._resident: list[Tensor] | None = None
        self._in_cache: CachedMaps | None = None
        self.shapes: list[tuple[int, int, int]] = []
        self.gib = 0.0
        self._filled = False
        self._images = images
        self.from_cache = 0
        """How many images' maps were in the cache before."""
        if rotation:  # the maps of the images as they are may never be asked for
            every = torch.arange(len(images))
            self._images = images[every]
            self._measure(one_by_one(backbone, self._images[every[:1]], device, lambda _, maps: maps)[0])
        else:
            self._fill()

    def __len__(self) -> int:
        return self._count

    @property
    def kept(self) -> bool:
        """Whether no map has to be computed any more."""
        return self._filled and self._recomputed == 0

    @property
    def place(self) -> str:
        """Where the maps are, as a person says it."""
        if self._rotation:
            return "computed anew in every epoch, because the images are turned"
        if self._recomputed:
            return f"of which those of {self._recomputed} images are recomputed in every epoch"
        if self._resident is not None:
            return "kept on the GPU"
        return "in the feature cache" if self._in_cache is not None else "kept in memory"

    def batch(self, rows: Tensor) -> list[Tensor]:
        """Maps [B, C, H, W] per scale of the images ``rows`` [B], on the device; plain tensors, usable in autograd."""
        if not self._filled:
            self._fill()
        if self._resident is not None:
            return [maps[rows.to(self.device)] for maps in self._resident]
        wanted = rows.tolist()
        found = {row: maps for row in wanted if (maps := self._maps[row]) is not None}
        if missing := [row for row in wanted if row not in found]:
            computed = one_by_one(
                self._backbone, self._images[torch.tensor(missing)], self.device, lambda _, maps: _on_cpu(maps)
            )
            found |= dict(zip(missing, computed, strict=True))
        return [torch.stack(scale).to(self.device) for scale in zip(*(found[row] for row in wanted), strict=True)]

    def augmented(self, rows: Tensor, generator: torch.Generator) -> list[Tensor]:
        """The same for training: of images turned by angles drawn from the generator, if a rotation was asked for."""
        if not self._rotation:
            return self.batch(rows)
        angles = (2 * torch.rand(len(rows), generator=generator) - 1) * self._rotation
        return batch(self._backbone, rotate(self._images[rows], angles.tolist()), self.device)

    def batches(self, order: Tensor | None = None, *, drop_last: bool = False) -> list[Tensor]:
        """Indices [B] batch by batch, in the given order or as the images stand."""
        order = torch.arange(len(self)) if order is None else order
        if drop_last:
            order = order[: len(order) // self._batch_size * self._batch_size]
        return list(torch.split(order, self._batch_size))

    @property
    def _recomputed(self) -> int:
        return sum(maps is None for maps in self._maps)

    def _fill(self) -> None:
        """Take the maps from the cache, or compute them and keep what may be kept."""
        self._filled = True
        with contextlib.ExitStack() as while_computing:
            self._look_up(while_computing)
            self.from_cache = self._count - self._recomputed
            try:
                self._compute([row for row, maps in enumerate(self._maps) if maps is None])
            except UserError:
                if self._in_cache is not None:
                    self._in_cache.abandon()
                raise
        if self.device.type == "cuda" and not self._recomputed:
            self._keep_on_device()

    def _look_up(self, while_computing: contextlib.ExitStack) -> None:
        """Read what the cache has; if that is not all, be the one process that computes the others."""
        if self._cached is None:
            return
        try:
            self._in_cache = self._cached()
            self._maps = self._in_cache.read(range(self._count))
            if self._recomputed and while_computing.enter_context(self._in_cache.computing()):
                self._maps = self._in_cache.read(range(self._count))
        except (OSError, NotImplementedError) as error:  # the latter: a file system without locks
            log.warning("The feature cache cannot be used (%s): going on without.", error)
            self._in_cache = None

    def _compute(self, missing: Sequence[int]) -> None:
        """Compute maps, and put them where there is room: into the cache, else into memory."""
        if len(missing) < self._count:
            self._measure(next(maps for maps in self._maps if maps is not None))
        if not missing:
            return
        pixels = self._images[torch.tensor(missing)]
        first = one_by_one(self._backbone, pixels[:1], self.device, lambda _, maps: _on_cpu(maps))[0]
        self._measure(first)
        cached = self._in_cache
        if cached is not None:
            try:
                cached.make_room(len(missing), first)
            except OSError as error:
                log.warning("The feature cache cannot be used (%s): going on without.", error)
                cached = None
        room, kept = self._memory // sum(one.nbytes for one in first), itertools.count()

        def take(start: int, number: int, maps: list[Tensor]) -> bool:
            """Whether the maps found a place."""
            place, maps = start + number, _on_cpu(maps)
            row = missing[place]
            stored = None if cached is None else cached.store(row, place, maps)
            if stored is None and next(kept) < room:
                stored = maps
            self._maps[row] = stored
            return stored is not None

        log.info("computing the features of %d images …", len(missing))
        starts = range(0, len(missing), IMAGES_AT_ONCE)
        for start in track(starts, "features", console=console, transient=True, disable=not console.is_terminal):
            some = pixels[start : start + IMAGES_AT_ONCE]
            placed = one_by_one(self._backbone, some, self.device, functools.partial(take, start))
            if not all(placed):
                self._images = self._images[torch.arange(self._count)]  # decoded once, not in every epoch
                break

    def _measure(self, maps: Sequence[Tensor]) -> None:
        self.shapes = [(one.shape[0], one.shape[1], one.shape[2]) for one in maps]
        self.gib = self._count * sum(one.nbytes for one in maps) / 2**30

    def _keep_on_device(self) -> None:
        kept = [maps for maps in self._maps if maps is not None]
        size = sum(one.nbytes for maps in kept for one in maps)
        if fits_on_device(size, torch.cuda.mem_get_info(self.device)[0]):
            self._resident = [torch.stack(scale).to(self.device) for scale in zip(*kept, strict=True)]
            self._maps = [[] for _ in kept]


def fits_on_device(size: int, free: int) -> bool:
    """Whether maps of ``size`` bytes are kept on a GPU with so many bytes free: if they take a quarter, at most.

    The rest is for the flow, and for other runs that start on the same GPU at the same time.

    >>> fits_on_device(10 * 2**30, 75 * 2**30), fits_on_device(4 * 2**30, 7 * 2**30)
    (True, False)
    """
    return size <= room_on_device(free)


def room_on_device(free: int) -> int:
    """How many bytes one thing may take of a GPU's memory of which so many are free."""
    return free // 4


def _on_cpu(maps: Sequence[Tensor]) -> list[Tensor]:
    return [one.cpu() for one in maps]
