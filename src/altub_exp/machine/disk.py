"""Atomic replacement of files, and one sentence for the errors of a full disk."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import re
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from altub_exp.errors import UserError, causes


class DiskFull(UserError):
    """Error when no space or quota is left; a launcher recognises it by its exit status (EX_IOERR)."""

    status = 74


def no_space(error: BaseException | None) -> OSError | None:
    """Return the ENOSPC or EDQUOT error that caused an error, or None; libraries wrap it.

    >>> no_space(OSError(28, "No space left on device"))
    OSError(28, 'No space left on device')
    >>> no_space(FileNotFoundError(2, "No such file or directory"))
    """
    full = (errno.ENOSPC, errno.EDQUOT)
    return next((cause for cause in causes(error) if isinstance(cause, OSError) and cause.errno in full), None)


def disk_full(path: Path, reason: str) -> DiskFull:
    """Return the error for a file or folder that cannot be written; the path need not exist.

    >>> print(disk_full(Path("/proc/runs/a"), "no space left"))
    /proc/runs/a cannot be written (no space left): free space on /proc, then give the same command again.
    """
    whole = path.absolute()
    mount = next(parent for parent in (whole, *whole.parents) if os.path.ismount(parent))
    return DiskFull(f"{path} cannot be written ({reason}): free space on {mount}, then give the same command again.")


def package_folder(module: str) -> Path | None:
    """Return the folder of an installed package, without importing it; None if it is not installed."""
    spec = importlib.util.find_spec(module)
    return None if spec is None or spec.origin is None else Path(spec.origin).parent


def require_space(folder: Path, needed: int) -> None:
    """Raise a DiskFull error if a folder's disk has fewer free bytes than needed."""
    if (free := shutil.disk_usage(folder).free) < needed:
        raise disk_full(folder, f"{needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free")


def read_file(path: Path) -> bytes:
    """Return the content of a regular file.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: it cannot be read, or something else has its name.
    """
    try:
        if path.exists() and not path.is_file():  # a device or a pipe may have no end
            raise UserError(f"{path} is no file: move it away.")
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise unusable(error) from error


def unusable(error: OSError) -> UserError:
    """Return one sentence for an error of the system that names a file or folder.

    >>> print(unusable(IsADirectoryError(21, "Is a directory", "runs/a/.lock")))
    runs/a/.lock cannot be used (Is a directory): give the right to read and write it, or move it away.
    """
    path = os.fsdecode(error.filename)
    return UserError(f"{path} cannot be used ({error.strerror}): give the right to read and write it, or move it away.")


def make_folder(path: Path, key: str) -> None:
    """Make a folder and its parents if they do not exist.

    Args:
        path: the folder.
        key: the key of the configuration that names it, for the message.

    Raises:
        UserError: it cannot be made.
        OSError: the disk is full.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if no_space(error):
            raise
        reason = error.strerror or type(error).__name__
        raise UserError(
            f"The folder {path} cannot be made ({reason}): set {key} to a place that can be written."
        ) from error


@contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Turn the system's errors about files into one sentence.

    Args:
        path: the file or folder to report if the error of a full disk names none.

    Raises:
        DiskFull: no space is left.
        UserError: a file or folder cannot be read, written or made.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if (full := no_space(error)) is None:
            if isinstance(error, OSError) and isinstance(error.filename, str | bytes | os.PathLike):
                raise unusable(error) from error
            raise
        place = Path(os.fsdecode(full.filename)) if isinstance(full.filename, str | bytes) else path
        raise disk_full(place, full.strerror or "no space left") from error


_HOST = socket.gethostname()
_UNFINISHED = re.compile(rf"\..+\.{re.escape(_HOST)}-(\d+)\.tmp.*", re.DOTALL)  # SQLite adds -journal


def remove_leftovers(folder: Path) -> None:
    """Remove the unfinished files of :func:`replacing` whose writers, on this host, have been killed."""
    for name in os.listdir(folder):
        unfinished = _UNFINISHED.fullmatch(name)
        if unfinished and not psutil.pid_exists(int(unfinished[1])):
            (folder / name).unlink(missing_ok=True)


@contextmanager
def replacing(path: Path, *, exclusive: bool = False) -> Iterator[Path]:
    """Replace a file atomically: a reader sees the old or the new content, even after a power cut.

    Args:
        path: the file.
        exclusive: True if only one process at a time replaces it; a process that is killed then leaves at most one
            unfinished file, which the next one overwrites. Otherwise the next write to its folder, on the same host,
            removes it, or :func:`remove_leftovers`.

    Yields:
        The path for the new content. After an error this file is removed, and the old one stays.
    """
    remove_leftovers(path.parent)
    unfinished = path.with_name(f".{path.name}.tmp" if exclusive else f".{path.name}.{_HOST}-{os.getpid()}.tmp")
    try:
        yield unfinished
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException as error:
        if isinstance(error, OSError) and error.filename is not None:
            error.filename = str(path)  # the name that the user knows
        unfinished.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Replace a text file atomically."""
    with replacing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Replace a JSON file atomically."""
    write_text(path, json.dumps(value, indent=1) + "\n")
