"""The disk that is written to: files replaced as a whole, and what a full disk raises, turned into one sentence."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from altub_exp.errors import UserError


class DiskFull(UserError):
    """No space, or no quota, is left; a launcher knows it by its status even where no word of it fits (EX_IOERR)."""

    status = 74


def no_space(error: BaseException | None) -> OSError | None:
    """What the system said when no space or quota was left, if that is behind an error; libraries wrap it.

    >>> no_space(OSError(28, "No space left on device"))
    OSError(28, 'No space left on device')
    >>> no_space(FileNotFoundError(2, "No such file or directory"))
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return error
        error = error.__cause__ or error.__context__
    return None


def disk_full(path: Path, why: str) -> DiskFull:
    """The sentence about the disk of a file or folder, which need not exist.

    >>> print(disk_full(Path("/proc/runs/a"), "no space left"))
    /proc/runs/a cannot be written (no space left): free some space on /proc, then give the same command again.
    """
    whole = path.absolute()
    mount = next(parent for parent in (whole, *whole.parents) if os.path.ismount(parent))
    return DiskFull(f"{path} cannot be written ({why}): free some space on {mount}, then give the same command again.")


@contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Inside, what a full disk raises becomes one sentence.

    Args:
        path: what is written to, where the error itself names no file.

    Raises:
        DiskFull: no space is left.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if (full := no_space(error)) is None:
            raise
        place = Path(os.fsdecode(full.filename)) if isinstance(full.filename, str | bytes) else path
        raise disk_full(place, full.strerror or "no space left") from error


def write_text(path: Path, text: str) -> None:
    """Replace a text file atomically: a reader, also one after a power cut, sees the old or the new content."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Replace a JSON file, in the same way."""
    write_text(path, json.dumps(value, indent=1) + "\n")
