"""Seals of files: a SHA-256 sum inside a file, over its content and over facts about it, which shows every damage.

A checkpoint, a zip archive, has its seal in the archive's comment, a JSON file as a value, a text in a comment at its
beginning. Thus every file is replaced together with its seal. Files of earlier versions have none.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from altub_exp.errors import UserError
from altub_exp.machine.disk import read_file, write_json, write_text

SEAL = "seal"
PREFIX = "sha256:"
END = struct.Struct("<4s4H2LH")
"""A zip archive's last record, which ends with the length of the comment that follows it."""
SIGNATURE = b"PK\x05\x06"
BLOCK = 1 << 20

ANEW = "set resume=never to archive the run and compute it anew"
"""The remedy for every damage to a run."""


class Damaged(UserError):
    """A file is not what was written, or is another run's."""


def seal(facts: Mapping[str, Any], content: Iterable[bytes] = ()) -> str:
    """Return the SHA-256 sum of facts (values of JSON, in any order) and content.

    >>> seal({"a": 1, "b": 2}, [b"xy"]) == seal({"b": 2, "a": 1}, [b"x", b"y"])
    True
    """
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode() + b"\n")
    for part in content:
        digest.update(part)
    return PREFIX + digest.hexdigest()


def write_sealed_json(path: Path, value: Mapping[str, Any]) -> None:
    """Replace a JSON file, with its seal, atomically."""
    plain = json.loads(json.dumps(value))  # as it will be read
    write_json(path, plain | {SEAL: seal(plain)})


def read_sealed_json(path: Path, remedy: str) -> dict[str, Any] | None:
    """Return the content of a JSON file without its seal, or None if there is no file.

    Raises:
        Damaged: the file is damaged; the sentence ends with the remedy.
        UserError: the file cannot be read.
    """
    try:
        text = read_file(path).decode()
        value = json.loads(text)
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or not value or (_is_marked(text) and not _is_whole(value)):
        raise Damaged(f"{path} is damaged: {remedy}.")
    return value


def write_sealed_text(path: Path, text: str, facts: Mapping[str, Any]) -> None:
    """Replace a text file atomically; facts and seal form its first line, a comment that begins with ``#``."""
    write_text(path, f"# {json.dumps({**facts, SEAL: seal(facts, [text.encode()])})}\n{text}")


def text_facts(path: Path) -> dict[str, Any] | None:
    """Return the facts of :func:`write_sealed_text`; None for a file of an earlier version.

    Raises:
        Damaged: the file is damaged.
        FileNotFoundError: there is no file.
        UserError: the file cannot be read.
    """
    line, _, content = read_file(path).partition(b"\n")
    if not _is_marked(line.decode(errors="replace")):
        return None
    facts = _parsed(line.removeprefix(b"# "))
    if not _is_whole(facts, [content]):
        raise Damaged(f"{path} is damaged")
    return facts


def seal_archive(path: Path, facts: Mapping[str, Any]) -> None:
    """Write facts and seal into the comment of a zip archive that has none, such as PyTorch writes."""
    length = len(json.dumps({**facts, SEAL: seal(facts)}))
    with path.open("r+b") as file:
        end = file.seek(-2, os.SEEK_END) + 2
        file.write(struct.pack("<H", length))
        file.write(json.dumps({**facts, SEAL: seal(facts, _blocks(file, end))}).encode())


def archive_facts(path: Path) -> dict[str, Any] | None:
    """Return the facts of :func:`seal_archive`; None for a file of an earlier version. Every byte is read.

    Raises:
        Damaged: the file is damaged.
        FileNotFoundError: there is no file.
    """
    if path.exists() and not path.is_file():
        raise Damaged(f"{path} is damaged (it is no file)")
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - END.size - 0xFFFF))
        tail = file.read()
        start = tail.rfind(SIGNATURE)
        comment = tail[start + END.size :]
        if start < 0 or start + END.size > len(tail) or END.unpack_from(tail, start)[-1] != len(comment):
            raise Damaged(f"{path} is damaged (it is no whole archive)")
        if not comment:
            return None
        facts = _parsed(comment)
        if not _is_whole(facts, _blocks(file, size - len(comment))):
            raise Damaged(f"{path} is damaged (its content has changed)")
    return facts


def _is_marked(text: str) -> bool:
    """True if a text has a seal, even if its name or its value is damaged."""
    return f'"{SEAL}"' in text or f'"{PREFIX}' in text


def _is_whole(facts: dict[str, Any], content: Iterable[bytes] = ()) -> bool:
    """Remove the seal from the facts, and return True if it is theirs and the content's."""
    return bool(facts.pop(SEAL, None) == seal(facts, content))


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {}


def _blocks(file: IO[bytes], end: int) -> Iterator[bytes]:
    """Yield a file's first ``end`` bytes, and leave its position there."""
    file.seek(0)
    while left := end - file.tell():
        if not (block := file.read(min(BLOCK, left))):
            return
        yield block
