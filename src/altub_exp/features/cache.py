"""The feature cache: a folder of feature maps, one file per recipe and image, shared by all runs and processes.

.lock
    Held while a process takes a lease or prunes.
digests
    The SHA-256 of the contents of images and masks, see :mod:`altub_exp.data.digests`.
weights/SOURCE
    The SHA-256 of the state that weights from a source have.
RECIPE/recipe.json
    Everything that decides the bits of a map, apart from the image.
RECIPE/IMAGE.safetensors
    The maps of the image whose file has this SHA-256; of its tile t, if it has several, IMAGE-t.safetensors.
RECIPE/SET.lock
    Held by the one process that computes the maps of a set of images.
RECIPE/RUN.lease
    Held by a process as long as it uses the images listed in RUN.images; while it writes a map, there is a RUN.*.tmp.
"""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from altub_exp.features.cache_key import Facts, digest
from altub_exp.machine.disk import write_text

MAPS, LEASE, IMAGES = ".safetensors", ".lease", ".images"
SPARE_GB = 2.0  # left free on the disk: runs write there too


@dataclass(frozen=True)
class CacheFile:
    """The maps of one image: their file, its size in bytes, and when it was last used (seconds since 1970)."""

    path: Path
    size: int
    used: float


class FeatureCache:
    """A folder of feature maps.

    Args:
        folder: created when something is stored.
        max_gb: GiB that a run leaves there at most when it starts to store maps. Runs that start at the same time may
            exceed them together; the next one prunes again.
    """

    def __init__(self, folder: Path, max_gb: float) -> None:
        self.folder, self.max_gb = folder, max_gb

    def gate(self) -> FileLock:
        """Return the lock of the folder, which is created for it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return FileLock(self.folder / ".lock")

    def files(self) -> list[CacheFile]:
        """Return all map files, the least recently used first."""
        files = []
        for path in self.folder.glob(f"*/*{MAPS}"):
            with contextlib.suppress(FileNotFoundError):
                stat = path.stat()
                files.append(CacheFile(path, stat.st_size, stat.st_mtime))
        return sorted(files, key=lambda file: file.used)

    def prune(self, max_gb: float, to_store: int = 0) -> int:
        """Remove the least recently used maps that no living process uses, and what dead processes left.

        Args:
            max_gb: GiB that the folder may hold.
            to_store: bytes to store there; the disk must have room for them and for ``SPARE_GB``.

        Returns:
            Bytes by which this room falls short; 0 or less if it suffices.
        """
        with self.gate():
            leases = list(self.folder.glob(f"*/*{LEASE}"))
            in_use = {file for lease in leases for file in files_in_use(lease)}
            files = self.files()
            excess = sum(file.size for file in files) + to_store - int(max_gb * 2**30)
            if to_store:
                free = shutil.disk_usage(self.folder).free
                excess = max(excess, to_store + int(SPARE_GB * 2**30) - free)
            for file in files:
                if excess > 0 and file.path not in in_use:
                    file.path.unlink()
                    excess -= file.size
            for folder in [recipe.parent for recipe in self.folder.glob("*/recipe.json")]:
                if not any(file.suffix in (MAPS, LEASE) for file in folder.iterdir()):
                    shutil.rmtree(folder)
        return excess

    def state_of(self, source: Facts) -> str | None:
        """Return the SHA-256 of the state that weights from a source have; None if they were never loaded."""
        with contextlib.suppress(FileNotFoundError):
            return self._state_file(source).read_text().strip()
        return None

    def remember_state(self, source: Facts, state: str) -> None:
        """Write down the SHA-256 of the state that weights from a source have, unless it is known."""
        if self.state_of(source) == state:
            return
        file = self._state_file(source)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, f"{state}\n")

    def _state_file(self, source: Facts) -> Path:
        return self.folder / "weights" / digest(source)


def maps_file(recipe: Path, image: str) -> Path:
    """Return the file of an image's maps in the folder of a recipe, from the SHA-256 of the image's file."""
    return recipe / f"{image}{MAPS}"


def files_in_use(lease: Path) -> list[Path]:
    """Return the map files that a lease protects; if its process is gone, [], and all that it left is removed."""
    images: list[str] = []
    with contextlib.suppress(FileNotFoundError):  # the process ends right now, or was killed as it took the lease
        images = lease.with_suffix(IMAGES).read_text().split()
    try:
        with FileLock(lease, timeout=0):
            for left in lease.parent.glob(f"{lease.stem}.*"):
                left.unlink(missing_ok=True)
    except (Timeout, PermissionError):  # the latter: another user's lease, which only that user may remove
        return [maps_file(lease.parent, image) for image in images]
    return []
