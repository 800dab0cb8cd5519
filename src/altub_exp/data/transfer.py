"""Downloads one archive over HTTP with pooch, continues it after an interruption, and checks its SHA-256 sum."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from pathlib import Path
from typing import Any

import pooch
import requests

from altub_exp.data.downloads import Archive
from altub_exp.errors import UserError
from altub_exp.machine.disk import require_space, writing_to
from altub_exp.machine.terminal import ByteProgress, console
from altub_exp.text import say

ATTEMPTS = 4
"""Attempts in a row that may bring nothing; the waits between them are 1, 2 and 4 seconds."""

TEMPORARY = {408, 425, 429, 500, 502, 503, 504}
"""HTTP statuses after which the same request may succeed."""

TIMEOUT = (15, 60)
"""Seconds to connect, and to wait for more bytes."""

CHUNK = 1 << 16
"""Bytes that are written at once; of a connection that breaks off, an unfinished piece of this size is lost."""


class ResumingDownloader:
    """Downloader for :func:`pooch.retrieve` that continues a broken download, which pooch's own do not.

    The bytes go to a file of their own, the part, which outlives the process. A file beside it keeps its address and
    the server's mark of its version (ETag or Last-Modified). The request for the rest bears that mark (If-Range), and
    a file that has changed since then is downloaded anew. Without a mark the part is continued only if a known sum will
    reveal a mixture.

    Args:
        part: the file of the bytes so far.
        sum_known: True if the SHA-256 sum of the whole is known.
    """

    def __init__(self, part: Path, *, sum_known: bool) -> None:
        self._part, self._sum_known = part, sum_known
        self._origin = part.with_name(f"{part.name}.origin")

    def __call__(self, url: str, output_file: str, pooch: Any) -> None:
        """Download the whole file; called by pooch.

        Raises:
            UserError: the server cannot be reached, refuses, or broke off too often.
        """
        failures, most = 0, self._size()
        while True:
            try:
                self._receive(url)
                break
            except requests.RequestException as error:
                failures = 0 if self._size() > most else failures + 1
                most = max(most, self._size())
                if failures == ATTEMPTS or not _may_succeed_later(error):
                    raise UserError(self._failure(url, error)) from error
                wait = 2 ** max(0, failures - 1)
                console.print(f"{_reason(error)}; trying again in {wait} s", highlight=False)
                time.sleep(wait)
        os.unlink(output_file)
        try:
            os.link(self._part, output_file)  # pooch deletes its file if it is interrupted while it computes the sum
        except OSError:  # a file system without hard links
            os.replace(self._part, output_file)

    def discard(self) -> None:
        """Remove the part."""
        self._part.unlink(missing_ok=True)
        self._origin.unlink(missing_ok=True)

    def _size(self) -> int:
        return self._part.stat().st_size if self._part.exists() else 0

    def _receive(self, url: str) -> None:
        """Receive what is missing; raise a RequestException if that fails."""
        mark = self._mark(url)
        if mark is None and not self._sum_known:
            self.discard()
        have = self._size()
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
            if mark:
                headers["If-Range"] = mark
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable and have:
                if response.headers.get("Content-Range", "").endswith(f"/{have}"):
                    return  # it is complete
                self.discard()
                return self._receive(url)
            response.raise_for_status()
            if response.status_code == requests.codes.partial_content:
                starts = response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
                if not starts or (mark and _mark_of(response) not in (None, mark)):
                    self.discard()
                    return self._receive(url)
            else:
                have = 0
            if not have:
                self._origin.write_text(f"{url}\n{_mark_of(response) or ''}\n")
            length = response.headers.get("Content-Length")
            total = have + int(length) if length else None
            if total:
                # the rest of the archive, and images that take at least as much once they are unpacked
                require_space(self._part.parent, 2 * total - have)
            with (
                self._part.open("ab" if have else "wb") as file,
                ByteProgress(self._part.stem, have, total) as progress,
            ):
                for chunk in response.iter_content(CHUNK):
                    file.write(chunk)
                    progress.advance(len(chunk))
        if total and self._size() < total:
            raise requests.ConnectionError(f"the connection broke off after {self._size()} of {total} bytes")

    def _mark(self, url: str) -> str | None:
        """Return the version mark of the part, if it came from this address and the server gave one."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            origin, mark = self._origin.read_text().splitlines()
            return mark if origin == url and mark else None
        return None

    def _failure(self, url: str, error: requests.RequestException) -> str:
        kept = f"; {self._size() / 1e6:.1f} MB of it are kept, and the same command continues" if self._size() else ""
        return (
            f"{url} could not be downloaded ({_reason(error)}){kept}: try again later, or name a mirror or an archive "
            "that you have downloaded yourself with --from."
        )


def fetch(archive: Archive, folder: Path, address: str) -> Path:
    """Download an archive into a folder, or continue that, and return its file; its sum is the published one.

    Raises:
        UserError: it cannot be downloaded, or its sum is not the published one; then the file is removed.
        DiskFull: it and its images do not fit on the disk.
    """
    pooch.get_logger().setLevel(logging.WARNING)
    downloader = ResumingDownloader(folder / f"{archive.name}.part", sum_known=archive.sha256 is not None)
    known = None if archive.sha256 is None else f"sha256:{archive.sha256}"
    try:
        with writing_to(folder):
            file = Path(pooch.retrieve(address, known, archive.name, folder, downloader=downloader))
    except ValueError as error:  # pooch's, if the sum is another one
        downloader.discard()
        raise UserError(
            f"The file from {address} is not the published archive ({str(error).partition('. ')[0]}), and was removed: "
            "give the same command again, or name another address or file with --from."
        ) from error
    downloader.discard()
    report_sum(archive, file)
    return file


def check(archive: Archive, file: Path) -> None:
    """Raise a UserError unless a file that the user has downloaded is the published archive."""
    if not file.is_file():
        raise UserError(f"There is no file {file}: --from takes a file or an address with https://.")
    if archive.sha256 is not None and (computed := pooch.file_hash(str(file))) != archive.sha256:
        raise UserError(
            f"{file} is not the published archive: its SHA-256 sum is {computed}, not {archive.sha256}; "
            f"download it again from {archive.address}."
        )
    report_sum(archive, file)


def report_sum(archive: Archive, file: Path) -> None:
    """Print that the sum is the published one, or the computed sum if none is published."""
    if archive.sha256 is None:
        say(f"{file.name}: no published SHA-256 sum to compare with; it is {pooch.file_hash(str(file))}.")
    else:
        say(f"{file.name}: the SHA-256 sum is the published one.")


def _mark_of(response: requests.Response) -> str | None:
    """Return a strong ETag or the time of the last change; If-Range allows no weak ETag."""
    etag = response.headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified")


def _may_succeed_later(error: requests.RequestException) -> bool:
    if isinstance(error, requests.HTTPError):
        return error.response is not None and error.response.status_code in TEMPORARY
    return isinstance(error, requests.ConnectionError | requests.Timeout | requests.exceptions.ChunkedEncodingError)


def _reason(error: requests.RequestException) -> str:
    """Return the reason in a few words."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server answers {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.ConnectionError | requests.exceptions.ChunkedEncodingError):
        cause = str(error)
        if "NewConnectionError" in cause or "NameResolutionError" in cause or "ProxyError" in cause:
            return "the server cannot be reached"
        return "the connection broke off"
    if isinstance(error, requests.Timeout):
        return "the server does not answer"
    return str(error).rstrip(".")
