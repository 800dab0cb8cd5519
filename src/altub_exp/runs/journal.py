"""A run's metric journal: one JSON line per epoch. A process that is killed while writing does not damage it."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from altub_exp.errors import UserError
from altub_exp.machine.disk import read_file, replacing
from altub_exp.runs.seal import ANEW


def now_ms() -> int:
    """Return the time in Unix milliseconds, MLflow's unit."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class Journal:
    """The epochs that a run has recorded. Times are Unix milliseconds."""

    file: Path

    def append(self, row: Mapping[str, Any]) -> None:
        """Add one epoch: ``epoch`` (from 1), the metrics, and optionally ``time`` (now by default)."""
        line = json.dumps({**row, "time": row.get("time", now_ms())}).encode() + b"\n"
        with self.file.open("ab+") as file:
            if rest := self._tail():  # an incomplete line would damage the new one as well
                file.truncate(file.seek(0, os.SEEK_END) - len(rest))
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows, oldest first, without a last line that is incomplete after a kill.

        Raises:
            UserError: a line is damaged.
        """
        rows = [_row(line) for line in self._lines()]
        for number, row in enumerate(rows, start=1):
            if row is None:
                raise self._damage(number)
        return [row for row in rows if row is not None]

    def sum(self) -> dict[str, Any]:
        """Return length and SHA-256 of the complete lines, with which a checkpoint is sealed."""
        content = b"".join(self._lines())
        return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}

    def agrees(self, total: Mapping[str, Any]) -> bool:
        """True if the journal begins with the lines of an earlier :meth:`sum`."""
        content = b"".join(self._lines())[: total["bytes"]]
        return (len(content), hashlib.sha256(content).hexdigest()) == (total["bytes"], total["sha256"])

    def _lines(self) -> list[bytes]:
        """Return the complete lines, with their ends."""
        try:
            content = read_file(self.file)
        except FileNotFoundError:
            return []
        return [line + b"\n" for line in content.split(b"\n")[:-1]]

    def _damage(self, line: int) -> UserError:
        return UserError(f"{self.file}, line {line} is damaged: {ANEW}.")

    def _tail(self) -> bytes:
        """Return the bytes after the last newline: an incomplete line, or none."""
        return self.file.read_bytes().rpartition(b"\n")[2]

    def truncate(self, last_epoch: int) -> None:
        """Drop the rows after an epoch, damaged ones too: the resumed run computes them again.

        Raises:
            UserError: an earlier row is damaged.
        """
        lines = self._lines()
        kept, reached = 0, 0
        for row in map(_row, lines):
            if row is None and reached < last_epoch:
                raise self._damage(kept + 1)
            if row is None or row["epoch"] > last_epoch:
                break
            kept, reached = kept + 1, row["epoch"]
        if lines:
            with replacing(self.file) as unfinished:
                unfinished.write_bytes(b"".join(lines[:kept]))


def _row(line: bytes) -> dict[str, Any] | None:
    """Return the row of a line; None if it is damaged."""
    try:
        row = json.loads(line)
        return {"epoch": int(row["epoch"]), **row}
    except (ValueError, TypeError, KeyError):
        return None
