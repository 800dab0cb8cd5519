"""SHA-256 of images and masks: a file is hashed once, and its digest is kept in a table that all processes share."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

from altub_exp.data.files import for_each, require_regular
from altub_exp.machine.disk import remove_leftovers, write_text

TABLE = "digests"
"""The table's name in the folder of the feature cache.

Its first line is the SHA-256 of its second: JSON, {path: [size and times of change, digest]}.
"""

RECENT_NS = 2 * 10**9
"""A file that changed less than this before it was hashed may change again without a new time: it is not kept."""

Entry = tuple[str, str]
_hashed: dict[str, Entry] = {}


def content_digests(files: Sequence[Path], folder: Path | None) -> dict[Path, str]:
    """Return the SHA-256 of each file's content, in hex digits.

    A file is hashed again if its size or one of its times differs: that of its content (mtime), which archives and
    copies restore, or that of its entry in the file system (ctime), which they do not.

    Args:
        files: the files.
        folder: where the table is kept once the folder exists: a command that fails at its start leaves nothing. None:
            only this process remembers the digests.

    Raises:
        UserError: some files cannot be read.
    """
    known = _hashed if folder is None else _hashed | _table(folder)

    def digest(file: Path) -> tuple[str, Entry, bool]:
        facts, path = require_regular(file), os.path.abspath(file)
        stamp = f"{facts.st_size} {facts.st_mtime_ns} {facts.st_ctime_ns}"
        if path in known and known[path][0] == stamp:
            return path, known[path], path not in _hashed
        settled = time.time_ns() - max(facts.st_mtime_ns, facts.st_ctime_ns) > RECENT_NS
        with file.open("rb") as content:
            return path, (stamp, hashlib.file_digest(content, "sha256").hexdigest()), settled

    digests, new = {}, {}
    for file, (path, entry, is_kept) in zip(files, for_each(digest, files, lambda file: file), strict=True):
        digests[file] = entry[1]
        if is_kept:
            new[path] = entry
    _hashed.update(new)
    if folder is not None and folder.is_dir():
        with contextlib.suppress(OSError, NotImplementedError):  # the table only saves time
            remove_leftovers(folder)
            if any(known.get(path) != entry for path, entry in new.items()):
                _keep(folder, new)
    return digests


def _table(folder: Path) -> dict[str, Entry]:
    """Return the table's entries; {} if there is none, or if it is damaged."""
    try:
        checksum, _, entries = (folder / TABLE).read_text(encoding="ascii").partition("\n")
    except (OSError, ValueError):
        return {}
    if checksum != hashlib.sha256(entries.encode()).hexdigest():
        return {}
    return {path: (stamp, digest) for path, (stamp, digest) in json.loads(entries).items()}


def _keep(folder: Path, new: dict[str, Entry]) -> None:
    """Add entries to the table, and drop those of files that are gone."""
    with FileLock(folder / f".{TABLE}.lock"):
        kept = {path: entry for path, entry in _table(folder).items() if os.path.exists(path)}
        entries = json.dumps(kept | new)  # escapes names of any encoding
        write_text(folder / TABLE, f"{hashlib.sha256(entries.encode()).hexdigest()}\n{entries}")
