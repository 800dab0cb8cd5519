"""A run's metric journal: one JSON line per epoch. A process that is killed while writing does not damage it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from altub_exp.errors import UserError
from altub_exp.machine.disk import write_text


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
        try:
            lines = self.file.read_bytes().split(b"\n")
        except FileNotFoundError:
            return []
        rows = []
        for number, line in enumerate(lines[:-1], start=1):
            try:
                row = json.loads(line)
                rows.append({"epoch": int(row["epoch"]), **row})
            except (ValueError, TypeError, KeyError):
                raise UserError(f"{self.file}, line {number} is damaged; remove the line or the run.") from None
        return rows

    def _tail(self) -> bytes:
        """Return the bytes after the last newline: an incomplete line, or none."""
        return self.file.read_bytes().rpartition(b"\n")[2]

    def truncate(self, last_epoch: int) -> None:
        """Drop the rows after an epoch: the resumed run computes them again."""
        if self.file.exists():
            kept = [row for row in self.rows() if row["epoch"] <= last_epoch]
            write_text(self.file, "".join(json.dumps(row) + "\n" for row in kept))
