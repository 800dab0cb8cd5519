"""The feature cache: the maps of every image that has gone through a backbone, on disk, for all runs and processes.

One folder per recipe (everything that decides the bits of a map), one file per image, named by the SHA-256 of the
image's file. A process holds a shared lock on the list of the images that it uses, so that none of them is removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from altub_exp.features.cache_key import Facts, Weights, digest, state_sha256
from altub_exp.features.cached import SPARE_GB, CachedMaps, left_behind, lock_file, paths_in
from altub_exp.features.extraction import LateBackbone
from altub_exp.features.mapfile import MAPS
from altub_exp.machine.disk import write_json, write_text

LIST = ".images"


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
                write_text(wanted[0].parent / "bytes", str(wanted[1]))
            there = {file.path for file in files}
            used = {path for listed in self._lists() if _locked(listed) for path in paths_in(listed)}
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
                if not _locked(listed) and not there.intersection(paths_in(listed)):
                    for left in (listed, lock_file(listed), *left_behind(listed)):
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
                source = self._cache.source_file(self._source)
                source.parent.mkdir(exist_ok=True)
                write_text(source, f"{self._recipe['state']}\n")
            if not (self._folder / "recipe.json").exists():
                write_json(self._folder / "recipe.json", self._recipe)
            if not listed.exists():
                write_text(listed, text)
            descriptor = os.open(listed, os.O_RDONLY)
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        return CachedMaps(self._cache, listed, descriptor, images)


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
