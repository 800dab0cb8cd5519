"""Unpacks archives (tar, tar.xz, zip) whose members all lie within the target folder."""

from __future__ import annotations

import lzma
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
    if not hasattr(tarfile, "data_filter"):
        raise UserError("This Python cannot unpack tar archives safely: use Python 3.11.4 or later.")
    with (
        archive.open("rb") as file,
        tarfile.open(fileobj=file) as tar,
        ByteProgress(f"unpacking {archive.name}", 0, archive.stat().st_size) as progress,
    ):
        read = 0
        for member in tar:
            tar.extract(member, folder, filter="data")
            progress.advance(file.tell() - read)
            read = file.tell()


def _unpack_zip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as zipped:
        members = zipped.infolist()
        for member in members:  # zipfile would drop the .. without a word
            path = PurePosixPath(member.filename.replace("\\", "/"))
            if path.is_absolute() or ".." in path.parts:
                raise zipfile.BadZipFile(f"{member.filename!r} would be extracted outside of the folder")
        total = sum(member.file_size for member in members)
        require_space(folder, total)
        with ByteProgress(f"unpacking {archive.name}", 0, total) as progress:
            for member in members:
                zipped.extract(member, folder)
                progress.advance(member.file_size)
