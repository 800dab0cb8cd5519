"""The records of finished runs as two Parquet files, without the paths and names of the machine that computed them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from altub_exp.errors import UserError
from altub_exp.machine.disk import replacing, write_text
from altub_exp.runs.folder import RunFolder, run_folders
from altub_exp.runs.states import FINAL
from altub_exp.tracking.tracker import recorded

FOLDER, EXPERIMENT = Path("study"), "study"
FILES = ("runs.parquet", "epochs.parquet")
"""One row per run with its small files as text; one row per epoch with its journal as typed columns."""

STATUS = (
    *("state", "reason", "interrupted", "resumed", "checkpoint_epoch", "started", "ended", "run_uid"),
    *("window", "summary", "device", "threads", "data", "weights_sha256"),
    *("git_commit", "git_dirty", "code", "code_changed", "versions"),
)
"""The fields of the status that are kept; the others are about the process and its machine."""

STORE = "sqlite:///mlflow.db"
PLACES = ("dataset.root", "backbone.weights")
"""Keys whose values are paths; only the last part is kept."""

REPLACED = {"runs_dir": "runs", "cache.dir": "cache/features", "tracking.uri": STORE}
"""Keys whose values are about the machine, and their values in the records."""

PRIVATE_TAGS = ("run_folder", "host", "mlflow.user")
"""Tags that are left out, beside all others that name the machine."""

ABSOLUTE = re.compile(r"""(?:^|[\s'"=(\[,]|///|file://)(?:[A-Za-z]:[\\/]|/|~/)[\w.-]""")
"""An absolute path, or one in the home folder, anywhere in a text."""


@dataclass(frozen=True)
class RecordedRun:
    """One finished or crashed run.

    Attributes:
        path: the run's folder below the folder of all runs, with slashes.
        files: texts of the run's files by their names.
        journal: the rows of its journal.
    """

    path: str
    files: Mapping[str, str]
    journal: list[dict[str, Any]]


def exist(folder: Path = FOLDER) -> bool:
    """Return True if both files of the records are there."""
    return all((folder / name).is_file() for name in FILES)


def digest(folder: Path) -> str:
    """Return a hash of eight hex digits over the records."""
    content = hashlib.blake2b(digest_size=4)
    for name in FILES:
        content.update((folder / name).read_bytes())
    return content.hexdigest()


def pack(runs_dir: Path, folder: Path = FOLDER, experiment: str = EXPERIMENT) -> tuple[int, int]:
    """Merge the finished and crashed runs of an experiment into the records; a run that is there already is replaced.

    Returns:
        The number of runs below the folder that were taken, and of all runs in the records.

    Raises:
        UserError: there is no such folder, a run's file is damaged, or a value that would be kept names the machine.
    """
    runs = {run.path: run for run in load(folder)} if exist(folder) else {}
    taken = {run.path: run for run in _final_runs(runs_dir, experiment)}
    runs |= taken
    if taken:
        save(folder, [runs[path] for path in sorted(runs)])
    return len(taken), len(runs)


def _final_runs(runs_dir: Path, experiment: str) -> Iterator[RecordedRun]:
    for folder in run_folders(runs_dir):
        state, record = (folder.status() or {}).get("state"), recorded(folder)
        if state in FINAL and not folder.is_archived and record and record["experiment"] == experiment:
            yield recorded_run(folder, runs_dir)


def recorded_run(folder: RunFolder, runs_dir: Path) -> RecordedRun:
    """Return what is kept of a run's folder.

    Raises:
        UserError: a file is damaged, or a value that would be kept names the machine.
    """
    status = folder.status() or {}
    host = str(status.get("host", ""))
    config = yaml.safe_load(folder.config.read_text(encoding="utf-8"))
    for key in (*PLACES, *REPLACED):
        group, _, name = key.rpartition(".")
        node = config[group] if group else config
        node[name] = _portable(key, node[name])
    record = recorded(folder) or {}
    record["uri"] = STORE
    record["params"] = {key: _portable(key, value) for key, value in record["params"].items()}
    if record.get("dataset"):
        record["dataset"]["source"] = _portable("dataset.root", record["dataset"]["source"])
    tags = record["tags"] | {"weights": _portable("backbone.weights", record["tags"]["weights"])}
    record["tags"] = {
        key: value for key, value in tags.items() if key not in PRIVATE_TAGS and not _names_machine(value, host)
    }
    status = {key: status[key] for key in STATUS if key in status}
    files = {
        folder.config.name: yaml.safe_dump(config, sort_keys=False, allow_unicode=True),
        folder.status_file.name: json.dumps(status, indent=1) + "\n",
        "record.json": json.dumps(record, indent=1) + "\n",
    }
    if folder.normality.is_file():
        files[folder.normality.name] = folder.normality.read_text(encoding="utf-8")
    for name, content in ((folder.config.name, config), ("status.json", status), ("record.json", record)):
        for key, value in _leaves(content):
            if _names_machine(value, host):
                raise UserError(f"{folder.path / name} names this machine in {key} ({value}): remove it from the file.")
    return RecordedRun(folder.path.relative_to(runs_dir).as_posix(), files, folder.journal.rows())


def _portable(key: str, value: Any) -> Any:
    """Return the value of a key as the records keep it.

    >>> _portable("dataset.root", "/home/me/data/mvtec"), _portable("cache.dir", None), _portable("seed", 1)
    ('mvtec', None, 1)
    """
    if value in (None, "None"):
        return value
    if key in REPLACED:
        return REPLACED[key]
    return PurePath(value).name if key in PLACES else value


def _names_machine(value: str, host: str) -> bool:
    """Return True if a text contains an absolute path or the host's name.

    >>> [_names_machine(text, "node1") for text in ("/data/a", "see ~/a", "sqlite:////a.db", "on node1")]
    [True, True, True, True]
    >>> [_names_machine(text, "node1") for text in ("cache/features", "sqlite:///a.db", "N(0, I) / b", "http://h/x")]
    [False, False, False, False]
    """
    return bool(ABSOLUTE.search(value)) or (host != "" and host in value)


def _leaves(node: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield the strings of nested mappings and sequences with their dotted keys."""
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield from _leaves(value, f"{key}.{name}".lstrip("."))
    elif isinstance(node, list):
        for value in node:
            yield from _leaves(value, key)
    elif isinstance(node, str):
        yield key, node


def save(folder: Path, runs: Iterable[RecordedRun]) -> None:
    """Write the records of runs, in their order, each file replaced as a whole."""
    runs = list(runs)
    names = sorted({name for run in runs for name in run.files})
    texts = {"run": [run.path for run in runs]} | {name: [run.files.get(name) for run in runs] for name in names}
    rows = [{"run": run.path} | row for run in runs for row in run.journal]
    metrics = dict.fromkeys(key for row in rows for key in row if key != "run")
    schema = pa.schema([("run", pa.string()), *((key, _type(key, rows)) for key in metrics)])
    folder.mkdir(parents=True, exist_ok=True)
    tables = (pa.table(texts), pa.Table.from_pylist(rows, schema))
    for name, table in zip(FILES, tables, strict=True):
        with replacing(folder / name) as unfinished:
            pq.write_table(table, unfinished, compression="zstd", compression_level=19, use_dictionary=["run"])


def _type(key: str, rows: Iterable[Mapping[str, Any]]) -> pa.DataType:
    return pa.int64() if all(isinstance(row.get(key, 0), int) for row in rows) else pa.float64()


def load(folder: Path = FOLDER) -> list[RecordedRun]:
    """Return the recorded runs, in the order of the files.

    Raises:
        UserError: a file is missing or damaged.
    """
    try:
        runs, epochs = (pq.read_table(folder / name).to_pylist() for name in FILES)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"The records in {folder} cannot be read ({error}): restore them, or pack the runs.") from error
    journals: dict[str, list[dict[str, Any]]] = {row["run"]: [] for row in runs}
    for row in epochs:
        journals[row.pop("run")].append({key: value for key, value in row.items() if value is not None})
    return [
        RecordedRun(row["run"], {name: text for name, text in row.items() if name != "run" and text is not None}, rows)
        for row in runs
        for rows in [journals[row["run"]]]
    ]


def unpack(runs_dir: Path, folder: Path = FOLDER) -> int:
    """Restore the folders of the recorded runs, without their checkpoints; a run that is there already is left alone.

    Returns:
        The number of restored runs.

    Raises:
        UserError: the records are missing or damaged.
    """
    restored = 0
    for run in load(folder):
        target = RunFolder(runs_dir / run.path)
        if target.status_file.exists():
            continue
        target.path.mkdir(parents=True, exist_ok=True)
        write_text(target.journal.file, "".join(json.dumps(row) + "\n" for row in run.journal))
        # the status last: a folder without one is no run yet
        for name, text in sorted(run.files.items(), key=lambda item: item[0] == target.status_file.name):
            write_text(target.path / name, text)
        restored += 1
    return restored
