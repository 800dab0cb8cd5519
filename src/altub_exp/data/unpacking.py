"""Unpacks archives (tar, tar.xz, zip) whose members all lie within the target folder."""

from __future__ import annotations

import lzma
import shutil
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from altub_exp.errors import UserError
from altub_exp.machine.disk import require_space, writing_to
from altub_exp.machine.terminal import ByteProgress


def unpack(archive: Path, folder: Path) -> None:
    """Unpack an archive into a new folder.

    Raises:
        UserError: it is damaged, is no tar or zip archive, or has a member that does not belong within the folder.
        DiskFull: no space is left.
    """
    folder.mkdir(parents=True)
    with writing_to(folder):
        try:
            if zipfile.is_zipfile(archive):
                _unpack_zip(archive, folder)
            else:
                _unpack_tar(archive, folder)
        except (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError) as error:
            reason = str(error).rstrip(".") or type(error).__name__
            raise UserError(
                f"{archive.name} cannot be unpacked ({reason}): download it again, or name another one with --from."
            ) from error


def _unpack_tar(archive: Path, folder: Path) -> None:
    # by hand: tarfile's own safe filter is not in all versions of Python 3.11, and data sets hold only plain files
    with (
        archive.open("rb") as file,
        tarfile.open(fileobj=file) as tar,
        ByteProgress(f"unpacking {archive.name}", 0, archive.stat().st_size) as progress,
    ):
        read = 0
        for member in tar:
            target = folder / _within(member.name)
            content = tar.extractfile(member) if member.isfile() else None
            if content is not None:
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as copy:
                    shutil.copyfileobj(content, copy)
            elif member.isdir():
                target.mkdir(parents=True, exist_ok=True)
            else:
                raise tarfile.TarError(f"{member.name!r} is neither a file nor a folder")
            progress.advance(file.tell() - read)
            read = file.tell()


def _unpack_zip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as zipped:
        members = zipped.infolist()
        for member in members:  # zipfile would drop the .. without a word
            _within(member.filename)
        total = sum(member.file_size for member in members)
        require_space(folder, total)
        with ByteProgress(f"unpacking {archive.name}", 0, total) as progress:
            for member in members:
                zipped.extract(member, folder)
                progress.advance(member.file_size)


def _within(name: str) -> PurePosixPath:
    """Return the path of an archive's member; raise TarError if it would be outside of the folder."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        raise tarfile.TarError(f"{name!r} would be extracted outside of the folder")
    return path
