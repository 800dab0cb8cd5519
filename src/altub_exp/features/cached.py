"""The cached feature maps of a set of images, while a process uses them: read, computed by one, stored."""

from __future__ import annotations

import contextlib
import os
import uuid
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout
from torch import Tensor

from altub_exp.features.mapfile import MAPS, map_file, read_maps, serialized
from altub_exp.machine.terminal import log

SPARE_GB = 2.0  # left free on the disk: runs write there too
READERS = 8


class Bounded(Protocol):
    """The cache, as far as it matters here."""

    folder: Path
    max_gb: float

    def prune(self, max_gb: float, wanted: tuple[Path, int] | None = None) -> int:
        """Make room; returns the bytes that are too many all the same."""


class CachedMaps:
    """The maps of some images, in use by this process.

    Args:
        cache: where they lie.
        listed: the file that lists them, beside them.
        descriptor: of that file, locked; closed when this object ends.
        images: SHA-256 of the file of each image, in the order of the rows.
    """

    def __init__(self, cache: Bounded, listed: Path, descriptor: int, images: Sequence[str]) -> None:
        self._cache, self._list = cache, listed
        self._files = [listed.parent / f"{image}{MAPS}" for image in images]
        self._room = 0
        self._storing = True
        self.release = weakref.finalize(self, os.close, descriptor)

    def read(self, rows: Sequence[int]) -> list[list[Tensor] | None]:
        """The maps [C, H, W] of images, mapped into memory; None where there are none, or damaged ones.

        Those are removed, and a warning says so.
        """
        with ThreadPoolExecutor(READERS) as pool:
            found = list(pool.map(lambda row: read_maps(self._files[row]), rows))
        damaged = [self._files[row] for row, maps in zip(rows, found, strict=True) if maps == []]
        if damaged:
            log.warning(
                "%d files of the feature cache are damaged and are computed anew (%s).", len(damaged), damaged[0]
            )
        for file in damaged:
            file.unlink(missing_ok=True)
        return [maps or None for maps in found]

    def abandon(self) -> None:
        """Let go of images whose maps cannot be computed, and leave nothing of them behind."""
        self.release()
        self._cache.prune(self._cache.max_gb)

    @contextlib.contextmanager
    def computing(self) -> Iterator[bool]:
        """Be the one process that computes what is missing of these images; another one is waited for.

        Yields:
            Whether there was another one.
        """
        lock, waited = FileLock(lock_file(self._list)), False
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info("Another process computes the features of these images: waiting for it …")
            lock.acquire()
            waited = True
        try:
            for left in left_behind(self._list):  # by a process that was killed
                left.unlink(missing_ok=True)
            yield waited
        finally:
            lock.release()

    def make_room(self, count: int, maps: Sequence[Tensor]) -> None:
        """Remove what was not used for longest, so that so many images' maps, as large as these, can be stored."""
        size = len(serialized(maps))
        excess = self._cache.prune(self._cache.max_gb, (self._list, size))
        self._room = count if excess <= 0 else max(0, count - -(-excess // size))
        if self._room < count:
            log.warning(
                "The feature cache %s is full (cache.max_gb=%g, and %g GiB of the disk are left free): %d of %d images "
                "are not stored.",
                self._cache.folder,
                self._cache.max_gb,
                SPARE_GB,
                count - self._room,
                count,
            )

    def store(self, row: int, place: int, maps: Sequence[Tensor]) -> list[Tensor] | None:
        """Store the maps of an image, on the CPU, if there is room for it.

        Args:
            row: of the image.
            place: its number among those that :meth:`make_room` was called for.
            maps: [C, H, W] each.

        Returns:
            The maps, mapped into memory; None where they are not stored.
        """
        if place >= self._room or not self._storing:
            return None
        file = self._files[row]
        temporary = file.with_name(f".{self._list.stem}.{uuid.uuid4().hex}.tmp")
        try:
            try:
                temporary.write_bytes(serialized(maps))
                os.replace(temporary, file)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            if self._storing:  # once
                log.warning("The feature cache %s takes no more (%s): going on without.", self._cache.folder, error)
            self._storing = False
            return None
        return map_file(file)[0]


def paths_in(listed: Path) -> list[Path]:
    """The files of the maps of the images that are listed."""
    return [listed.parent / f"{image}{MAPS}" for image in listed.read_text().split()]


def lock_file(listed: Path) -> Path:
    """What the process that computes these images holds."""
    return listed.with_suffix(".lock")


def left_behind(listed: Path) -> list[Path]:
    """What was being written when a process was killed."""
    return list(listed.parent.glob(f".{listed.stem}.*.tmp"))
