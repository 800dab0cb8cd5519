"""A sweep's folder: its command line, its runs and its report, from which MLflow can be completed later."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from altub_exp.runs.folder import RunFolder
from altub_exp.runs.seal import read_sealed_json, write_sealed_json

LOCK_WAIT = 60.0
"""Seconds to wait for another process that changes the record, or creates the MLflow run."""


@dataclass(frozen=True)
class SweepFolder:
    """The folder of one sweep, ``RUNS_DIR/.sweeps/NAME``.

    Args:
        runs_dir: folder of the runs.
        name: name of the sweep, by which it is found again.
    """

    runs_dir: Path
    name: str

    @property
    def path(self) -> Path:
        """Path of the folder; a name that is no file name is replaced by a hash."""
        plain = re.fullmatch(r"\w[\w.-]{0,99}", self.name)
        return self.runs_dir / ".sweeps" / (self.name if plain else _hash(self.name))

    def record(self) -> dict[str, Any] | None:
        """Return the fields of :meth:`write`, or None if the sweep has no folder.

        Raises:
            UserError: the file is damaged.
        """
        return read_sealed_json(self.path / "sweep.json", "remove it, and give the sweep's command again")

    def write(
        self,
        place: Sequence[str],
        title: str,
        arguments: Sequence[str],
        tags: Mapping[str, str],
        runs: Mapping[RunFolder, str],
    ) -> None:
        """Record a sweep that starts; runs of an earlier command of the same name are kept.

        Args:
            place: URI (without a password) and experiment of its run in MLflow.
            title: name of this run.
            arguments: the command line after ``-m``.
            tags: further tags of this run.
            runs: the folders of its runs and their names in MLflow.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with self._lock():
            before = (self.record() or {"runs": {}})["runs"]
            kept = {path: name for path, name in before.items() if (self.runs_dir / path).is_dir()}
            names = {os.path.relpath(folder.path, self.runs_dir): name for folder, name in runs.items()}
            fields = {"place": list(place), "title": title, "arguments": list(arguments), "tags": dict(tags)}
            write_sealed_json(self.path / "sweep.json", fields | {"runs": kept | names, "reported": None})

    def runs(self) -> dict[RunFolder, str]:
        """Return the folders of the runs, which need not exist, and their names in MLflow."""
        runs = (self.record() or {"runs": {}})["runs"]
        return {RunFolder(self.runs_dir / path): name for path, name in runs.items()}

    def run_name(self, folder: RunFolder) -> str | None:
        """Return the name in MLflow that the sweep has given a run, or None."""
        runs: dict[str, str] = (self.record() or {"runs": {}})["runs"]
        return runs.get(os.path.relpath(folder.path, self.runs_dir))

    def mark_reported(self, place: Sequence[str], states: str) -> None:
        """Record that MLflow has the report of the runs in these :meth:`states`, unless the sweep records elsewhere."""
        with self._lock():
            record = self.record()
            if record is not None and record["place"] == list(place):
                write_sealed_json(self.path / "sweep.json", record | {"reported": states})

    def is_reported(self, place: Sequence[str]) -> bool:
        """Return False if MLflow lacks the report of this sweep's runs; True for a sweep that records elsewhere.

        Raises:
            UserError: a file is damaged.
        """
        record = self.record()
        if record is None or record["place"] != list(place):
            return True
        return bool(record["reported"] == self.states())

    def states(self) -> str:
        """Return a hash that changes when a run ends again, or another run is added."""
        statuses = [folder.status() or {} for folder in self.runs()]
        return _hash(json.dumps([[status.get("state"), status.get("ended")] for status in statuses]))

    def _lock(self) -> FileLock:
        """Return the lock of the record, which two commands of the same sweep may change at once."""
        return FileLock(self.path / ".lock", timeout=LOCK_WAIT)


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
