"""The integrity of a run's folder: every file is as it was written, and all of them are of one run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from altub_exp.machine.terminal import log
from altub_exp.runs.folder import RunFolder
from altub_exp.runs.seal import ANEW, Damaged, archive_facts, read_sealed_json, text_facts
from altub_exp.runs.states import FINAL, RunState

COPY = f"copy the file again from the machine of the run, or {ANEW}"
REWRITTEN = "the run's training command writes it again"
REBUILT = "`python -m altub_exp.sync` rebuilds it from MLflow"
"""Remedies for a damaged file."""

Facts = dict[str, Any]
Finding = tuple[Path, str]


@dataclass(frozen=True)
class Inspection:
    """The result of :func:`inspect`.

    Attributes:
        damages: for each damaged file a sentence that ends with the remedy.
        sealed: False if an earlier version has recorded the run without seals, so that damage may go unnoticed.
    """

    damages: dict[Path, str]
    sealed: bool


def facts(folder: RunFolder) -> Facts:
    """Return the facts that seal a checkpoint: the run's name and ``run_uid``, and the sum of the journal until now."""
    return {"run": folder.path.name, "run_uid": folder.run_uid(), "journal": folder.journal.sum()}


def require_intact(folder: RunFolder, *files: Path) -> Inspection:
    """Inspect a run before these files of it are used; log a warning if the run has no seals.

    Returns:
        The inspection, which may have found damage to other files.

    Raises:
        Damaged: one of the files is damaged, or of another run; the sentence says what still can be done.
        OSError: a file cannot be read.
    """
    inspection = inspect(folder)
    for file in files:
        if file in inspection.damages:
            raise Damaged(inspection.damages[file])
    if not inspection.sealed:
        log.warning("An earlier version has recorded %s without seals: damage to it may go unnoticed.", folder.path)
    return inspection


def inspect(folder: RunFolder) -> Inspection:
    """Read every file of a run, and compare it to its seal and to the run's other files.

    A file without a seal, of an earlier version, is accepted if the checkpoint has none either. A run may be computed
    meanwhile: the checkpoint is sealed with the journal up to it, to which rows are only added.

    Raises:
        OSError: a file cannot be read.
    """
    damages: dict[Path, str] = {}
    status: Facts = {}
    try:
        status = folder.status() or {}
    except Damaged as error:
        damages[folder.status_file] = str(error)
    sealed, has_checkpoint = None, True
    try:
        sealed = archive_facts(folder.checkpoint)
    except Damaged as error:
        damages[folder.checkpoint] = f"{error}: {COPY}."
    except FileNotFoundError:
        has_checkpoint = False
        if status.get("state") == RunState.finished and "journal" in status:
            damages[folder.checkpoint] = f"{folder.checkpoint} is missing: {COPY}."
    for findings in (
        _other_runs(folder, status, sealed),
        _journal(folder, status, sealed),
        _configuration(folder, status, sealed),
        _records(folder),
    ):
        damages |= {file: sentence for file, sentence in findings if file not in damages}
    earlier = has_checkpoint or ("journal" not in status and status.get("state") in FINAL)
    return Inspection(damages, sealed is not None or not earlier)


def _other_runs(folder: RunFolder, status: Facts, sealed: Facts | None) -> Iterator[Finding]:
    if sealed is None:
        return
    name = re.fullmatch(r"(seed\d+-[0-9a-f]{8})(\.old-\d+)?", folder.path.name)  # otherwise it is a renamed copy
    if name is not None and name[1] != sealed["run"]:
        yield folder.checkpoint, f"{folder.checkpoint} is of another run, {sealed['run']}: {COPY}."
    elif status and status.get("run_uid") != sealed["run_uid"]:
        yield folder.checkpoint, f"{folder.checkpoint} and {folder.status_file} are of different runs: {COPY}."
    elif not status:
        yield folder.status_file, f"{folder.status_file} is missing: {REWRITTEN}."


def _journal(folder: RunFolder, status: Facts, sealed: Facts | None) -> Iterator[Finding]:
    begins = sealed is None or folder.journal.agrees(sealed["journal"])
    ended = status.get("state") in FINAL and "journal" in status
    if not begins or (ended and folder.journal.sum() != status["journal"]):
        yield folder.journal.file, f"{folder.journal.file} is not what the run has recorded: {COPY}."


def _configuration(folder: RunFolder, status: Facts, sealed: Facts | None) -> Iterator[Finding]:
    try:
        written = text_facts(folder.config)
    except Damaged as error:
        yield folder.config, f"{error}: {REWRITTEN}."
        return
    except FileNotFoundError:
        written = None
    uid = (sealed or status).get("run_uid")
    if (written is None and sealed is not None) or (written is not None and uid and written["run_uid"] != uid):
        yield folder.config, f"{folder.config} is missing, or is not the configuration of a run like this: {REWRITTEN}."


def _records(folder: RunFolder) -> Iterator[Finding]:
    for file, remedy in (folder.record, REWRITTEN), (folder.places, REBUILT):
        try:
            read_sealed_json(file, remedy)
        except Damaged as error:
            yield file, str(error)
