"""The files of a data set's folders: which are images, in which order, and why one cannot be read."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from PIL import Image

from altub_exp.errors import UserError
from altub_exp.text import printable

T = TypeVar("T")
Item = TypeVar("Item")

SUFFIXES = {
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".tif", ".tiff"),
    *(".webp", ".gif", ".pgm", ".ppm", ".pbm", ".pnm"),
}
READ_SUFFIXES = ", ".join(sorted(SUFFIXES))

OF_THE_SYSTEM = {"thumbs.db", "desktop.ini"}
"""Files that Windows adds to folders of images."""

LARGEST_FILE = 4 * 2**30
"""Bytes of a file, at most: a larger one is no image of a data set."""

DAMAGED = "damaged or truncated"
REMEDY = "Replace or remove them; python -m altub_exp.data verifies a whole dataset folder."


class UnreadableError(Exception):
    """An image or a mask cannot be read rightly; the text is the reason, as a part of a sentence."""


INVALID = (UnreadableError, OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""The errors of files that cannot be read rightly: Pillow raises all but the first."""


def image_files(folder: Path, without: Collection[Path] = ()) -> list[Path]:
    """Return the image files in and below a folder, see :func:`files_below`; links without a target are among them."""
    return [file for file in files_below(folder, without) if file.suffix.lower() in SUFFIXES]


def files_below(folder: Path, without: Collection[Path] = ()) -> list[Path]:
    """Return the files in and below a folder that are not hidden, in natural order (2 before 10); [] without a folder.

    A folder's own files come first. Each folder is read once, however many links lead to it; links to a folder above
    the given one are not followed.

    Args:
        folder: the folder.
        without: folders that are left out if they lie below it.

    Raises:
        OSError: a folder cannot be read.
    """
    if not folder.is_dir():
        return []
    above = folder.resolve().parents
    return list(_below(folder, {_identity(path) for path in (*without, *above) if path.is_dir()}))


def _below(folder: Path, seen: set[tuple[int, int]]) -> Iterator[Path]:
    if _identity(folder) in seen:
        return
    seen.add(_identity(folder))
    files = [path for path in folder.iterdir() if not os.path.isdir(path)]
    hidden = {file for file in files if file.name.startswith(".") or file.name.lower() in OF_THE_SYSTEM}
    yield from sorted((file for file in files if file not in hidden), key=natural)
    for inner in subfolders(folder):
        yield from _below(inner, seen)


def _identity(folder: Path) -> tuple[int, int]:
    facts = folder.stat()
    return facts.st_dev, facts.st_ino


SYSTEM_FOLDERS = frozenset({"__MACOSX", "lost+found", "$RECYCLE.BIN", "System Volume Information", "@eaDir"})
"""Folders that archives and operating systems leave among a user's own."""


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in a folder, but not hidden ones and those of a system, by name; [] without a folder."""
    if not folder.is_dir():
        return []
    own = (path for path in folder.iterdir() if not path.name.startswith(".") and path.name not in SYSTEM_FOLDERS)
    return sorted(path for path in own if os.path.isdir(path))


def natural(path: Path) -> list[tuple[int, int | str]]:
    """Return a sort key that takes digits as numbers.

    >>> sorted([Path("10.png"), Path("2.png")], key=natural)[0].name
    '2.png'
    """
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", path.name)]


def complain_about(problem: str, files: Sequence[Path], remedy: str) -> UserError:
    """Return an error that names up to three of the files."""
    return UserError(f"{problem}: {named(files)}. {remedy}")


def named(files: Sequence[Path]) -> str:
    """Return the names of up to three files, and the number of the others."""
    shown = ", ".join(printable(file) for file in files[:3])
    return shown + (f" and {len(files) - 3} more" if len(files) > 3 else "")


@contextmanager
def reading() -> Iterator[None]:
    """Turn the error of a folder or a table that cannot be read into one sentence.

    Raises:
        UserError: something cannot be read.
    """
    try:
        yield
    except OSError as error:
        place = printable(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else "A file"
        raise UserError(f"{place} cannot be read ({reason_of(error)}): check its permissions and links.") from error


def require_regular(file: Path) -> os.stat_result:
    """Return the facts about a file that can be read to its end.

    Raises:
        UnreadableError: it is a device or a pipe, or is too large.
        OSError: it is missing, or is a link without a target.
    """
    facts = file.stat()
    if not stat.S_ISREG(facts.st_mode):
        raise UnreadableError("not a regular file")
    if facts.st_size > LARGEST_FILE:
        raise UnreadableError(f"larger than {LARGEST_FILE // 2**30} GiB")
    return facts


def reason_of(error: BaseException) -> str:
    """Return why a file could not be read, as a part of a sentence.

    >>> reason_of(PermissionError(13, "Permission denied")), reason_of(OSError("image file is truncated"))
    ('permission denied', 'damaged or truncated')
    """
    if isinstance(error, UnreadableError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return DAMAGED


def for_each(load: Callable[[Item], T], items: Sequence[Item], file: Callable[[Item], Path]) -> list[T]:
    """Load something for each item, several at once.

    Args:
        load: loads it.
        items: the items.
        file: returns the file that is named if an item's ``load`` fails.

    Raises:
        UserError: some files cannot be read; one sentence names them, with up to three reasons.
    """
    results, failures = attempts(load, items)
    if failures:
        reasons = list(dict.fromkeys(failures.values()))
        files = sorted(failures, key=lambda row: reasons.index(failures[row]))
        raise complain_about(
            f"{len(failures)} image files cannot be read ({'; '.join(reasons[:3])})",
            [file(items[row]) for row in files],
            REMEDY,
        )
    return list(results.values())


def attempts(
    load: Callable[[Item], T], items: Sequence[Item], tick: Callable[[], None] = lambda: None
) -> tuple[dict[int, T], dict[int, str]]:
    """Load something for each item, several at once; ``tick`` is called after each.

    Returns:
        The results by the items' positions, and the reasons of those that failed.
    """

    def attempt(row: int) -> None:
        try:
            results[row] = load(items[row])
        except INVALID as error:
            failures[row] = reason_of(error)
        finally:
            tick()

    results: dict[int, T] = {}
    failures: dict[int, str] = {}
    with ThreadPoolExecutor(min(16, len(os.sched_getaffinity(0)))) as pool:
        list(pool.map(attempt, range(len(items))))
    return {row: results[row] for row in sorted(results)}, {row: failures[row] for row in sorted(failures)}
