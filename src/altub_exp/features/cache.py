"""The feature cache: the maps of every image that has gone through a backbone, on disk, for all runs and processes.

One folder per recipe (everything that decides the bits of a map), one file per image, named by the SHA-256 of the
image's file. A process holds a shared lock on the list of the images that it uses, so that none of them is removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import uuid
import weakref
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from altub_exp.features.extraction import LateBackbone
from altub_exp.features.recipe import Facts, Weights, digest, state_sha256
from altub_exp.progress import log

MAPS = ".safetensors"
LIST = ".images"
SPARE_GB = 2.0  # left free on the disk: runs write there too
READERS = 8


@dataclass(frozen=True)
class CacheFile:
    """The maps of one image: their file, its size in bytes, when it was last used (seconds since 1970)."""

    path: Path
    size: int
    used: float


class FeatureCache:
    """A folder of feature maps.

    Args:
        folder: created when something is stored.
        max_gb: it is never larger than so many GiB.
    """

    def __init__(self, folder: Path, max_gb: float) -> None:
        self.folder, self.max_gb = folder, max_gb

    def files(self) -> list[CacheFile]:
        """All maps, those longest unused first."""
        found = []
        for path in self.folder.glob(f"*/*{MAPS}"):
            with contextlib.suppress(FileNotFoundError):
                stat = path.stat()
                found.append(CacheFile(path, stat.st_size, stat.st_mtime))
        return sorted(found, key=lambda file: file.used)

    def shelf(self, model: Facts, preprocessing: Facts, weights: Weights, backbone: LateBackbone) -> Shelf:
        """The place of the maps that a model makes with these weights of images so preprocessed.

        The backbone is built only where weights from there were never loaded before.
        """
        source = weights.facts()
        state = None if source is None else self._state({**model, **source})
        if state is None:
            state = state_sha256(backbone.built())
            source = weights.facts()  # by now, what was fetched is known
        return Shelf(self, {**model, "state": state, **preprocessing}, None if source is None else {**model, **source})

    def _state(self, source: Facts) -> str | None:
        """The SHA-256 of the state that weights from this source gave before; None if they never have."""
        with contextlib.suppress(FileNotFoundError):
            return self.source_file(source).read_text().strip()
        return None

    def source_file(self, source: Facts) -> Path:
        """What holds the state that weights from a source give."""
        return self.folder / "weights" / digest(source)

    @contextlib.contextmanager
    def gate(self) -> Iterator[None]:
        """Only one process at a time begins a use, or removes what nobody uses."""
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def prune(self, max_gb: float, wanted: tuple[Path, int] | None = None) -> int:
        """Remove what was not used for longest until all fits; nothing that a living process uses.

        What processes that are computing have still to store counts as if it were there.

        Args:
            max_gb: GiB to leave.
            wanted: the list of images that is about to be stored, and the size of each image's file in bytes.

        Returns:
            How many bytes too many remain, at most 0 where all fits.
        """
        with self.gate():
            files = self.files()
            if wanted is not None:
                _replace(wanted[0].parent / "bytes", str(wanted[1]).encode())
            there = {file.path for file in files}
            used = {path for listed in self._lists() if _locked(listed) for path in _paths(listed)}
            to_come = sum(_bytes_per_image(path.parent) for path in used - there)
            excess = sum(file.size for file in files) + to_come - int(max_gb * 2**30)
            if wanted is not None:
                free = shutil.disk_usage(self.folder).free
                excess = max(excess, to_come + int(SPARE_GB * 2**30) - free)
            for file in files:
                if excess <= 0:
                    break
                if file.path not in used:
                    file.path.unlink()
                    there.remove(file.path)
                    excess -= file.size
            for listed in self._lists():
                if not _locked(listed) and not there.intersection(_paths(listed)):
                    for left in (listed, _lock_file(listed), *_left_behind(listed)):
                        left.unlink(missing_ok=True)
            for folder in {path.parent for path in self.folder.glob("*/recipe.json")}:
                if not any(folder.glob(f"*{MAPS}")) and not any(folder.glob(f"*{LIST}")):
                    shutil.rmtree(folder)
        return excess

    def _lists(self) -> list[Path]:
        return list(self.folder.glob(f"*/*{LIST}"))


class Shelf:
    """The maps of one recipe.

    Args:
        cache: that they are part of.
        recipe: all that decides the bits of a map, but for the image's file.
        source: of the weights, as far as known.
    """

    def __init__(self, cache: FeatureCache, recipe: Facts, source: Facts | None) -> None:
        self._cache, self._recipe, self._source = cache, recipe, source
        self._folder = cache.folder / f"{recipe['backbone']}-{recipe['image_size']}-{digest(recipe)}"

    def has(self, image: str) -> bool:
        """Whether there is a file for an image, by the SHA-256 of its own."""
        return (self._folder / f"{image}{MAPS}").exists()

    def use(self, images: Sequence[str]) -> CachedMaps:
        """Hold the maps of images as long as the returned object lives; nothing is written before.

        Raises:
            OSError: the cache's folder cannot be written to.
        """
        text = "".join(f"{image}\n" for image in sorted(set(images)))
        listed = self._folder / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}{LIST}"
        with self._cache.gate():
            self._folder.mkdir(exist_ok=True)
            if self._source is not None and not self._cache.source_file(self._source).exists():
                _replace(self._cache.source_file(self._source), f"{self._recipe['state']}\n".encode())
            if not (self._folder / "recipe.json").exists():
                _replace(self._folder / "recipe.json", (json.dumps(self._recipe, indent=1) + "\n").encode())
            if not listed.exists():
                _replace(listed, text.encode())
            descriptor = os.open(listed, os.O_RDONLY)
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        return CachedMaps(self._cache, listed, descriptor, images)


class CachedMaps:
    """The maps of some images, in use by this process.

    Args:
        cache: where they lie.
        listed: the file that lists them, beside them.
        descriptor: of that file, locked; closed when this object ends.
        images: SHA-256 of the file of each image, in the order of the rows.
    """

    def __init__(self, cache: FeatureCache, listed: Path, descriptor: int, images: Sequence[str]) -> None:
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
            found = list(pool.map(lambda row: _read(self._files[row]), rows))
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
        lock, waited = FileLock(_lock_file(self._list)), False
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info("Another process computes the features of these images: waiting for it …")
            lock.acquire()
            waited = True
        try:
            for left in _left_behind(self._list):  # by a process that was killed
                left.unlink(missing_ok=True)
            yield waited
        finally:
            lock.release()

    def make_room(self, count: int, maps: Sequence[Tensor]) -> None:
        """Remove what was not used for longest, so that so many images' maps, as large as these, can be stored."""
        size = len(_serialized(maps))
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
                temporary.write_bytes(_serialized(maps))
                os.replace(temporary, file)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            if self._storing:  # once
                log.warning("The feature cache %s takes no more (%s): going on without.", self._cache.folder, error)
            self._storing = False
            return None
        return _mapped(file)[0]


def _read(file: Path) -> list[Tensor] | None:
    """Maps whose checksum is right; None where there is no file, [] where it is damaged."""
    try:
        maps, checksum = _mapped(file)
    except FileNotFoundError:
        return None
    except (SafetensorError, OSError):
        return []
    if checksum != _crc32(maps):
        return []
    with contextlib.suppress(PermissionError):  # another user's; it is that one's to keep
        os.utime(file)
    return maps


def _mapped(file: Path) -> tuple[list[Tensor], str | None]:
    """The maps, and the checksum they had when they were written."""
    with safe_open(str(file), "pt") as opened:
        maps = [opened.get_tensor(str(scale)) for scale in range(len(opened.keys()))]
        return maps, (opened.metadata() or {}).get("crc32")


def _serialized(maps: Sequence[Tensor]) -> bytes:
    tensors = {str(scale): one.contiguous() for scale, one in enumerate(maps)}
    content: bytes = save(tensors, {"crc32": _crc32(maps)})
    return content


def _crc32(maps: Sequence[Tensor]) -> str:
    found = 0
    for one in maps:
        found = zlib.crc32(one.contiguous().view(-1).view(torch.uint8).numpy().data, found)
    return f"{found:08x}"


def _paths(listed: Path) -> list[Path]:
    return [listed.parent / f"{image}{MAPS}" for image in listed.read_text().split()]


def _lock_file(listed: Path) -> Path:
    return listed.with_suffix(".lock")


def _left_behind(listed: Path) -> list[Path]:
    return list(listed.parent.glob(f".{listed.stem}.*.tmp"))


def _bytes_per_image(folder: Path) -> int:
    try:
        return int((folder / "bytes").read_text())
    except (FileNotFoundError, ValueError):
        return 0  # whoever computes there makes room before it stores anything


def _locked(listed: Path) -> bool:
    """Whether a living process uses these images, this one included."""
    try:
        descriptor = os.open(listed, os.O_RDWR)  # NFS gives an exclusive lock to a writer only
    except PermissionError:
        return True  # another user's, who alone may remove it
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _replace(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)
