"""The part of the feature cache that holds the maps of one recipe, and a run's lease on those that it uses."""

from __future__ import annotations

import contextlib
import os
import uuid
import weakref
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from altub_exp.errors import UserError
from altub_exp.features.cache import IMAGES, LEASE, SPARE_GB, FeatureCache, maps_file
from altub_exp.features.cache_key import Facts, WeightsSource, digest, state_sha256
from altub_exp.features.extraction import LateBackbone
from altub_exp.machine.disk import write_json
from altub_exp.machine.terminal import log

READERS = 8


class RecipeCache:
    """The maps of one recipe.

    Args:
        cache: holds the folder of the recipe.
        recipe: everything that decides the bits of a map, apart from the image.
        source: source of the weights, if the cache does not know their state yet.
    """

    def __init__(self, cache: FeatureCache, recipe: Facts, source: Facts | None = None) -> None:
        self._cache, self._recipe, self._source = cache, recipe, source
        self.folder = cache.folder / f"{recipe['backbone']}-{recipe['image_size']}-{digest(recipe)}"

    def has(self, image: str) -> bool:
        """True if there are maps of an image, which is named by the SHA-256 of its file."""
        return maps_file(self.folder, image).exists()

    def lease(self, images: Sequence[str]) -> LeasedMaps:
        """Protect the maps of images from being pruned as long as the returned object lives.

        Nothing is written to the cache before.

        Raises:
            OSError: the cache's folder cannot be written to.
        """
        with self._cache.gate():
            if self._source is not None:
                self._cache.remember_state(self._source, self._recipe["state"])
            self.folder.mkdir(exist_ok=True)
            if not (self.folder / "recipe.json").exists():
                write_json(self.folder / "recipe.json", self._recipe)
            return LeasedMaps(self._cache, self.folder, images)


def open_recipe(
    cache: FeatureCache, model: Facts, preprocessing: Facts, weights: WeightsSource, backbone: LateBackbone
) -> RecipeCache:
    """Return the cache of the maps that a model with these weights makes of images preprocessed in this way.

    The backbone is built only if weights from this source were never loaded before.
    """
    source = weights.facts()
    state = None if source is None else cache.state_of({**model, **source})
    if state is not None:
        return RecipeCache(cache, {**model, "state": state, **preprocessing})
    state = state_sha256(backbone.built())
    source = weights.facts()  # that of fetched weights is known only now
    new_source = None if source is None else {**model, **source}
    return RecipeCache(cache, {**model, "state": state, **preprocessing}, new_source)


class LeasedMaps:
    """The maps of some images, in use by this process until ``release`` is called or this object ends.

    Args:
        cache: is pruned to make room; its gate is held by the caller.
        folder: folder of the recipe.
        images: SHA-256 of the file of each image, in the order of the rows.
    """

    def __init__(self, cache: FeatureCache, folder: Path, images: Sequence[str]) -> None:
        self._cache = cache
        self._files = [maps_file(folder, image) for image in images]
        self._computing = folder / f"{digest({'images': sorted(images)})}.lock"
        self._lease = folder / f"{uuid.uuid4().hex}{LEASE}"
        self._storing = True
        lock = FileLock(self._lease, thread_local=False)  # the garbage collector may release it in any thread
        lock.acquire(timeout=0)
        self.release = weakref.finalize(self, _end, self._lease, lock)
        # not atomic, since who reads it holds the gate too; what a killed process leaves goes with its lease
        self._lease.with_suffix(IMAGES).write_text("".join(f"{image}\n" for image in images))

    @contextlib.contextmanager
    def looked_up(self) -> Iterator[list[list[Tensor] | None]]:
        """Read the maps; if some are missing, let one process at a time compute them, and read again after waiting.

        Yields:
            The maps [C, H, W] of each image, mapped into memory; None where they are to be computed.
        """
        maps = self.read()
        if None not in maps:
            yield maps
            return
        lock = FileLock(self._computing)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info("Another process is computing the features of these images: waiting for it …")
            lock.acquire()
        try:
            yield self.read()
        except UserError:  # the images cannot be computed: nothing of them stays in the cache
            self.release()
            with contextlib.suppress(OSError):
                self._cache.prune(self._cache.max_gb)
            raise
        finally:
            lock.release()

    def read(self) -> list[list[Tensor] | None]:
        """Return the maps of each image; damaged files are removed with a warning and count as missing."""
        with ThreadPoolExecutor(READERS) as pool:
            contents = list(pool.map(read_maps, self._files))
        damaged = [file for file, maps in zip(self._files, contents, strict=True) if maps == []]
        if damaged:
            log.warning(
                "%d files of the feature cache are damaged and are computed anew (%s).", len(damaged), damaged[0]
            )
        for file in damaged:
            file.unlink(missing_ok=True)
        return [maps or None for maps in contents]

    def make_room(self, count: int, maps: Sequence[Tensor]) -> int:
        """Prune the cache so that the maps of ``count`` more images can be stored, each as large as ``maps``.

        Returns:
            The number of images that there is room for; a warning is logged if it is below ``count``.
        """
        size = len(serialized(self._files[0], maps))
        try:
            excess = self._cache.prune(self._cache.max_gb, count * size)
        except OSError as error:
            log.warning("The feature cache cannot be used (%s): continuing without it.", error)
            return 0
        too_many = min(count, max(0, -(-excess // size)))
        if too_many:
            log.warning(
                "The feature cache %s is full (cache.max_gb=%g, and %g GiB of the disk are left free): %d of %d images "
                "are not stored.",
                self._cache.folder,
                self._cache.max_gb,
                SPARE_GB,
                too_many,
                count,
            )
        return count - too_many

    def store(self, row: int, maps: Sequence[Tensor]) -> list[Tensor] | None:
        """Store the maps [C, H, W] of an image, which are on the CPU.

        Returns:
            The same, mapped into memory; None, after a warning, once the disk is full.
        """
        if not self._storing:
            return None
        file, temporary = self._files[row], self._lease.with_suffix(f".{row}.tmp")
        try:
            try:
                temporary.write_bytes(serialized(file, maps))
                temporary.replace(file)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            if self._storing:  # only one of several threads warns
                log.warning("The feature cache %s cannot store more (%s): continuing.", self._cache.folder, error)
            self._storing = False
            return None
        return map_file(file)[0]


def _end(lease: Path, lock: FileLock) -> None:
    """Remove a lease, then let go of it."""
    for file in (lease.with_suffix(IMAGES), lease):
        with contextlib.suppress(OSError):
            file.unlink()
    lock.release()


def read_maps(file: Path) -> list[Tensor] | None:
    """Return an image's maps if their checksum is right; None if there is no such file, [] if it is damaged."""
    try:
        maps, checksum = map_file(file)
    except FileNotFoundError:
        return None
    except (SafetensorError, OSError):
        return []
    if checksum != _checksum(file, maps):
        return []
    with contextlib.suppress(PermissionError):  # another user's, who has to keep it in use
        os.utime(file)
    return maps


def map_file(file: Path) -> tuple[list[Tensor], str | None]:
    """Map a file into memory; return the maps and the checksum they had when they were written."""
    with safe_open(str(file), "pt") as opened:
        maps = [opened.get_tensor(str(scale)) for scale in range(len(opened.keys()))]
        return maps, (opened.metadata() or {}).get("crc32")


def serialized(file: Path, maps: Sequence[Tensor]) -> bytes:
    """Return the content of the file of these maps."""
    tensors = {str(scale): scale_map.contiguous() for scale, scale_map in enumerate(maps)}
    content: bytes = save(tensors, {"crc32": _checksum(file, maps)})
    return content


def _checksum(file: Path, maps: Sequence[Tensor]) -> str:
    """Return a CRC-32 over recipe, image and maps: the maps of another image, or by another recipe, do not match it."""
    checksum = zlib.crc32(f"{file.parent.name}/{file.stem}".encode())
    for scale_map in maps:
        checksum = zlib.crc32(scale_map.contiguous().view(-1).view(torch.uint8).numpy().data, checksum)
    return f"{checksum:08x}"
