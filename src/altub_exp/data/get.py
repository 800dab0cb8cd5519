"""Downloads a published data set, unpacks it where the runs look for it, and verifies it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from altub_exp.data import LAYOUTS
from altub_exp.data.downloads import Archive, Download
from altub_exp.data.files import subfolders
from altub_exp.data.layout import DiskLayout, Published
from altub_exp.data.transfer import check, fetch
from altub_exp.data.unpacking import unpack
from altub_exp.data.verify import report
from altub_exp.errors import UserError
from altub_exp.machine.disk import DiskFull
from altub_exp.text import say


def get(download: Download, root: Path, category: str | None, source: str | None, *, licence_accepted: bool) -> int:
    """Download, unpack and verify a data set; return 0 if it is complete, otherwise 1.

    The archive and its unpacked files lie in a hidden folder beside the root until they are complete. If this is
    interrupted, the same command continues.

    Args:
        download: the data set.
        root: the folder for it.
        category: the only category to download; None for all.
        source: address of a mirror, or a file, in place of the published address.
        licence_accepted: True if the user has accepted the licence.

    Raises:
        UserError: the licence is not accepted, the root holds something else, or the archive is not the published one.
        DiskFull: the archive and its images do not fit on the disk.
    """
    layout, archive = LAYOUTS[download.name], download.of(category)
    published = layout.published
    assert published is not None
    if _is_complete(root, category, layout, published):
        number = "the category" if category else f"all {len(published.counts)} categories"
        say(f"{root} already holds {published.title}: {number}{f' {category}' if category else ''}, complete.")
        say(_next_command(download.name, root, category or next(iter(published.counts))))
        return 0
    _accept(download, archive, published, accepted=licence_accepted)
    place = root.resolve()  # a link leads to where there is space
    with _work_folder(place) as work:
        if source is not None and "://" not in source:
            file = Path(source).expanduser()
            check(archive, file)
        else:
            file = _fetch(archive, work, source or archive.address)
        unpacked = work / "unpacked"
        shutil.rmtree(unpacked, ignore_errors=True)  # of a process that was killed
        try:
            unpack(file, unpacked)
            inner = _inner_root(unpacked, category, layout, published)
        except UserError as error:
            shutil.rmtree(unpacked, ignore_errors=True)
            if file.parent == work and not isinstance(error, DiskFull):
                file.unlink()  # it would fail again
            raise
        _move(inner, place, category)
        shutil.rmtree(work, ignore_errors=True)
    say(f"{root}: unpacked; now every image is decoded and counted")
    findings = report(root, layout, category)
    if not findings:
        say(_next_command(download.name, root, category or next(iter(published.counts))))
    return int(bool(findings))


def _is_complete(root: Path, category: str | None, layout: DiskLayout, published: Published) -> bool:
    """True if the images are all there; raise a UserError if something else is in their place."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    if not root.is_dir() or not layout.fits(root):
        raise UserError(f"{root} holds something other than {published.title}: choose another folder with --root.")
    present = layout.categories(root)
    if category is not None and not (root / category).exists():
        return False
    wrong = [
        name
        for name in ([category] if category else published.counts)
        if name not in present or layout.listed(root, name).counts() != published.counts[name]
    ]
    if wrong:
        raise UserError(
            f"{root} holds {published.title} incompletely or changed ({', '.join(wrong)}), and is not overwritten: "
            "remove or rename it, or choose another folder with --root."
        )
    return True


def _accept(download: Download, archive: Archive, published: Published, *, accepted: bool) -> None:
    """Print the licence, and ask for its acceptance on a terminal; raise a UserError if it is not accepted."""
    size = f", {archive.size / 1e9:.1f} GB" if archive.size else ""
    say(f"{published.title} ({archive.name}{size}), {published.source}")
    say(f"Licence: {download.licence}, {download.licence_address}")
    if not accepted and sys.stdin.isatty():
        with suppress(EOFError):
            accepted = input("Do you accept this licence? [y/N] ").strip().lower() in ("y", "yes")
    if accepted:
        return
    raise UserError(
        f"The licence of {published.title}, {download.licence}, was not accepted: read {download.licence_address} and "
        "add --accept-licence."
    )


@contextmanager
def _work_folder(place: Path) -> Iterator[Path]:
    """Make the hidden folder beside the data set's, and keep other processes from it."""
    work = place.with_name(f".{place.name}.download")
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{work} cannot be made ({error.strerror}): choose another folder with --root.") from error
    try:
        with FileLock(work / "lock", timeout=0):
            yield work
    except Timeout:
        raise UserError(f"Another process is downloading to {place}: wait for it.") from None


def _fetch(archive: Archive, work: Path, address: str) -> Path:
    try:
        return fetch(archive, work, address)
    except KeyboardInterrupt:
        say(f"The part in {work} is kept: the same command continues.", error=True)
        raise


def _inner_root(unpacked: Path, category: str | None, layout: DiskLayout, published: Published) -> Path:
    """Return the folder of an unpacked archive that is laid out like the data set: itself or one within it."""
    for folder in (unpacked, *subfolders(unpacked)):
        if layout.fits(folder) and (category is None or (folder / category).is_dir()):
            return folder
    what = f"the category {category} of {published.title}" if category else published.title
    raise UserError(f"The archive does not hold {what} (expected: {published.landmark}): name another one with --from.")


def _move(unpacked: Path, place: Path, category: str | None) -> None:
    """Move the data set, or its category, from the unpacked archive to its place."""
    try:
        if category is None:
            os.replace(unpacked, place)  # an empty folder may be there
        else:
            place.mkdir(exist_ok=True)
            os.replace(unpacked / category, place / category)
    except OSError as error:
        raise UserError(
            f"The unpacked images cannot be moved to {place} ({error.strerror}): remove it, or choose another folder "
            "with --root."
        ) from error


def _next_command(name: str, root: Path, category: str) -> str:
    """Return the command that trains on a category."""
    where = "" if root == Path("data") / name else f" dataset.root={root}"
    return f"Next: python -m altub_exp.train dataset={name}{where} dataset.category={category}"
