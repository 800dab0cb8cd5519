"""The feature maps of a set of images: read from the cache, computed once and kept, or computed for each batch."""

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
from altub_exp.features.extraction import Extractor, batch, by_rotation, one_by_one
from altub_exp.features.recipe_cache import LeasedMaps
from altub_exp.machine.terminal import console, log

IMAGES_AT_ONCE = 32  # are computed between two checks of the room that is left


class Images(Protocol):
    """N images, decoded when they are asked for: a tensor, or :class:`~altub_exp.data.images.ImageFiles`."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Tensor, /) -> Tensor:
        """uint8 [B, 3, S, S] on the CPU."""


class FeatureMaps:
    """Feature maps by image index.

    The backbone is frozen, so that the maps of images that are not augmented are constants. They are computed from each
    image by itself (:func:`~altub_exp.features.extraction.one_by_one`) and are the same wherever they are kept. They
    may be those of several fixed rotations of an image.

    Args:
        backbone: computes on ``device``.
        images: the images to map.
        batch_size: images per batch.
        device: where batches are wanted.
        memory_gb: GiB of maps that are kept in memory where no cache holds them; :meth:`batch` recomputes the others.
        rotation: :meth:`augmented` rotates images by up to this many degrees; their maps are never kept.
        rotations: V, the number of fixed rotations of each image, by 0, 360/V, … degrees.
        drawn: the number of rotations of each image that :meth:`augmented` draws.
        lease: takes a lease on the images' maps in the cache; None: there is no cache.

    Attributes:
        device: device of the batches.
        rotations: V.
        shapes: (C, H, W) of the maps of one image, per scale.
        gib: size of all maps.
        from_cache: number of images whose maps were in the cache before.

    Raises:
        UserError: an image cannot be read, or the backbone cannot be built.
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
        rotations: int = 1,
        drawn: int = 1,
        lease: Callable[[], LeasedMaps] | None = None,
    ) -> None:
        self._backbone, self._images, self._count = backbone, images, len(images)
        self._batch_size, self.device, self.rotations, self._drawn = batch_size, device, rotations, drawn
        self._rotation, self._memory, self._lease = rotation, int(memory_gb * 2**30), lease
        self._maps: list[list[Tensor] | None] = [None] * len(images)
        self._resident: list[Tensor] | None = None
        self._leased: LeasedMaps | None = None
        self._filled = False
        self.from_cache = 0
        if rotation:  # the maps of the images as they are may never be asked for
            self._images = images[torch.arange(len(images))]
            self._measure(self._computed(self._images[:1])[0])
        else:
            self._fill()

    def __len__(self) -> int:
        return self._count

    @property
    def kept(self) -> bool:
        """True if all maps are kept."""
        return self._filled and not self._missing()

    @property
    def place(self) -> str:
        """The place of the maps, in words that follow "features" in a sentence."""
        if self._rotation:
            return "computed anew in every epoch, because the images are rotated"
        if missing := self._missing():
            return f"of which those of {len(missing)} images are recomputed in every epoch"
        if self._resident is not None:
            return "kept on the GPU"
        return "in the feature cache" if self._leased is not None else "kept in memory"

    def batch(self, rows: Tensor) -> list[Tensor]:
        """Maps [B·V, C, H, W] per scale of the images ``rows`` [B], on the device; plain tensors, fit for autograd."""
        return by_rotation(self._of(rows))

    def _of(self, rows: Tensor) -> list[Tensor]:
        """Maps [B, C, H, W] per scale, or of several rotations [B, V, C, H, W]."""
        if not self._filled:
            self._fill()
        if self._resident is not None:
            return [maps[rows.to(self.device)] for maps in self._resident]
        wanted = rows.tolist()
        maps = {row: kept for row in wanted if (kept := self._maps[row]) is not None}
        if missing := [row for row in wanted if row not in maps]:
            maps |= dict(zip(missing, self._computed(self._images[torch.tensor(missing)]), strict=True))
        return [torch.stack(scale).to(self.device) for scale in zip(*(maps[row] for row in wanted), strict=True)]

    def augmented(self, rows: Tensor, generator: torch.Generator) -> list[Tensor]:
        """Return the maps for training: those of images rotated by random angles, if ``rotation`` is not 0.

        Otherwise, if there are several fixed rotations, those of ``drawn`` of them, drawn with replacement.
        """
        if self._rotation:
            rows = rows.repeat_interleave(self._drawn)
            angles = (2 * torch.rand(len(rows), generator=generator) - 1) * self._rotation
            return batch(self._backbone, rotate(self._images[rows], angles.tolist()), self.device)
        if self.rotations == 1:
            return self.batch(rows)
        chosen = torch.randint(self.rotations, (len(rows), self._drawn), generator=generator).to(self.device)
        images = torch.arange(len(rows), device=self.device)[:, None]
        return by_rotation([maps[images, chosen] for maps in self._of(rows)])

    def batches(self, order: Tensor | None = None, *, drop_last: bool = False) -> list[Tensor]:
        """Indices [B] of each batch, in the given order; by default in the order of the images."""
        order = torch.arange(len(self)) if order is None else order
        if drop_last:
            order = order[: len(order) // self._batch_size * self._batch_size]
        return list(torch.split(order, self._batch_size))

    def _fill(self) -> None:
        """Take the maps from the cache, or compute them and keep those that there is room for."""
        self._filled = True
        with contextlib.ExitStack() as computing:
            try:
                if self._lease is not None:
                    self._leased = self._lease()
                    self._maps = computing.enter_context(self._leased.looked_up())
            except (OSError, NotImplementedError) as error:  # the latter: a file system without locks
                log.warning("The feature cache cannot be used (%s): continuing without it.", error)
                self._leased = None
            missing = self._missing()
            self.from_cache = self._count - len(missing)
            if self.from_cache:
                self._measure(next(maps for maps in self._maps if maps is not None))
            if missing:
                self._compute(missing)
        if self.device.type == "cuda" and not self._missing():
            self._keep_on_device()

    def _missing(self) -> list[int]:
        """Rows of the images whose maps are kept nowhere."""
        return [row for row, maps in enumerate(self._maps) if maps is None]

    def _compute(self, missing: Sequence[int]) -> None:
        """Compute maps, and keep them while there is room: in the cache, otherwise in memory."""
        pixels = self._images[torch.tensor(missing)]
        first = self._computed(pixels[:1])[0]
        self._measure(first)
        leased = self._leased
        room = 0 if leased is None else leased.make_room(len(missing), first)
        in_memory, room_in_memory = itertools.count(), self._memory // sum(maps.nbytes for maps in first)

        def keep(start: int, number: int, maps: list[Tensor]) -> bool:
            """Keep the maps of an image of a chunk; False if there is no room."""
            number, maps = start + number, _on_cpu(maps)
            row = missing[number]
            kept = leased.store(row, maps) if leased is not None and number < room else None
            if kept is None and next(in_memory) < room_in_memory:
                kept = maps
            self._maps[row] = kept
            return kept is not None

        log.info("computing the features of %d images …", len(missing))
        starts = range(0, len(missing), IMAGES_AT_ONCE)
        for start in track(starts, "features", console=console, transient=True, disable=not console.is_terminal):
            chunk = pixels[start : start + IMAGES_AT_ONCE]
            kept = one_by_one(self._backbone, chunk, self.device, functools.partial(keep, start), self.rotations)
            if not all(kept):
                self._images = self._images[torch.arange(self._count)]  # decoded once, not in every epoch
                break

    def _computed(self, images: Tensor) -> list[list[Tensor]]:
        """Maps [C, H, W], or [V, C, H, W], of each of the images [B, 3, S, S], on the CPU."""
        return one_by_one(self._backbone, images, self.device, lambda _, maps: _on_cpu(maps), self.rotations)

    def _measure(self, maps: Sequence[Tensor]) -> None:
        self.shapes = [(scale.shape[-3], scale.shape[-2], scale.shape[-1]) for scale in maps]
        self.gib = self._count * sum(scale.nbytes for scale in maps) / 2**30

    def _keep_on_device(self) -> None:
        kept = [maps for maps in self._maps if maps is not None]
        size = sum(scale.nbytes for maps in kept for scale in maps)
        if size <= room_on_device(torch.cuda.mem_get_info(self.device)[0]):
            self._resident = [torch.stack(scale).to(self.device) for scale in zip(*kept, strict=True)]
            self._maps = [[] for _ in kept]


def room_on_device(free: int) -> int:
    """Return the part of the ``free`` bytes of a GPU's memory that one use may take: a quarter.

    The rest is for the flow, and for other runs that start on the same GPU at the same time.

    >>> room_on_device(8 * 2**30) // 2**30
    2
    """
    return free // 4


def _on_cpu(maps: Sequence[Tensor]) -> list[Tensor]:
    return [scale.cpu() for scale in maps]
