"""The beginning and the end of a run: its status, its summary, its curve and its record in MLflow."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from altub_exp.config.compose import backbone_label
from altub_exp.config.overrides import literal
from altub_exp.config.rivals import PACKAGE as RIVALS_PACKAGE
from altub_exp.config.schema import Config, EvalConfig, RivalConfig
from altub_exp.data import ImageSet
from altub_exp.errors import UserError, was_interrupted
from altub_exp.machine.disk import no_space
from altub_exp.machine.terminal import log
from altub_exp.metrics.stability import AUROCS, percentages, stability
from altub_exp.runs.folder import RunFolder
from altub_exp.runs.identity import run_name, weights_fingerprint
from altub_exp.runs.journal import now_ms
from altub_exp.runs.pictures import auroc_curve
from altub_exp.runs.provenance import code_fingerprint, git_state, versions
from altub_exp.runs.seal import write_sealed_text
from altub_exp.runs.states import RunState
from altub_exp.runs.sweep_folder import SweepFolder
from altub_exp.tracking.columns import source_tags
from altub_exp.tracking.tracker import Tracker


def start_status(
    folder: RunFolder, config: Config, images: str, device: torch.device, done: int, further: Mapping[str, str]
) -> None:
    """Write the configuration and the status of a run that starts: its machine, its time and its versions.

    ``further`` are versions of other packages that compute it.
    """
    commit, dirty = git_state()
    code = code_fingerprint()
    changed = config.tracking.code not in (None, code)
    if changed:
        log.warning("The program's code has changed since this sweep was started; this run uses the new code.")
    uid = folder.known_uid() or uuid.uuid4().hex
    write_configuration(folder, config, uid)
    folder.write_status(
        state=RunState.running,
        run_uid=uid,
        reason=None,
        interrupted=False,
        resumed=now_ms() if done else None,
        checkpoint_epoch=done,
        device=f"{device}" if device.type == "cpu" else torch.cuda.get_device_name(device),
        threads=torch.get_num_threads(),
        slurm_job=slurm_job(),
        data=images,
        weights_sha256=weights_fingerprint(config.backbone.weights),
        git_commit=commit,
        git_dirty=dirty,
        code=code,
        code_changed=changed,
        versions=versions() | dict(further),
    )


def write_configuration(folder: RunFolder, config: Config, uid: str) -> None:
    """Write the configuration of a run, sealed with its ``run_uid``."""
    text = OmegaConf.to_yaml(OmegaConf.create(literal(plain(asdict(config)))))
    write_sealed_text(folder.config, text, {"run_uid": uid})


def slurm_job() -> str | None:
    """Return this job's id for Slurm's commands, such as ``7_3`` of an array; None outside of Slurm."""
    array, task = (os.environ.get(f"SLURM_ARRAY_{part}_ID") for part in ("JOB", "TASK"))
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")


def build_tracker(folder: RunFolder, config: Config, images: ImageSet, uri: str) -> Tracker:
    """Make the tracker, with its name, tags, params and images, of a run that has a status.

    The runs of a sweep have the names that the sweep has given them, see ``altub_exp.sweep.names``.
    """
    status = folder.status()
    assert status is not None
    name = None
    tags = {
        "model": config.model.name,
        "backbone": backbone_label(config.backbone),
        "weights": config.backbone.weights,
        "dataset": config.dataset.name,
        "category": config.dataset.category,
        "altub": config.altub.name,
        "seed": str(config.seed),
        "run_key": folder.path.name,
        "run_folder": str(folder.path.resolve()),
        "versions": ", ".join(f"{package} {version}" for package, version in status["versions"].items()),
    }
    tags |= {key: str(status[key]) for key in ("data", "git_commit", "git_dirty", "device", "host", "code_changed")}
    if isinstance(config.model, RivalConfig):
        tags["source"] = f"{RIVALS_PACKAGE} {status['versions'][RIVALS_PACKAGE]}"
    if config.tracking.sweep is not None:
        tags["sweep"] = config.tracking.sweep
        name = SweepFolder(Path(config.runs_dir), config.tracking.sweep).run_name(folder)
    tags |= source_tags(status["git_commit"], status["git_dirty"])
    train, normal, defective = images.counts()
    dataset = {
        "name": f"{config.dataset.name}/{config.dataset.category}",
        "digest": status["data"],
        "source": config.dataset.root,
        "profile": {
            "training images": train,
            "normal test images": normal,
            "defective test images": defective,
        },
    }
    return Tracker(
        uri=uri,
        experiment=config.tracking.experiment,
        name=name or f"{run_name(config)} seed{config.seed}",
        tags=tags,
        params=flatten(asdict(config)),
        folder=folder,
        start_time=int(status["started"]),
        dataset=dataset,
    )


def finish(
    folder: RunFolder,
    tracker: Tracker,
    window: EvalConfig,
    state: RunState,
    reason: str | None,
    end: Mapping[str, float] | None = None,
) -> RunState:
    """Compute the summary over the window of epochs, draw the curve, and end the run in MLflow.

    Args:
        folder: the run.
        tracker: its tracker.
        window: the window of epochs.
        state: the state to record.
        reason: the reason for a crash.
        end: metrics of the last evaluation for the summary, see :data:`~altub_exp.metrics.stability.END_METRICS`.
    """
    rows = folder.journal.rows()
    epochs = (window.first_epoch, window.last_epoch)
    summary: dict[str, float] = {}
    for metric in AUROCS:
        series = {int(row["epoch"]): row[metric] for row in rows if metric in row}
        if (statistics := stability(series, *epochs) if series else None) is None:
            continue
        mean, std, best = statistics.mean, statistics.std, statistics.best
        summary |= {f"{metric}_mean": mean, f"{metric}_std": std, f"{metric}_best": best}
        log.info(
            f"{metric}: {100 * mean:.2f} ± {100 * std:.2f} % over epochs {epochs[0]} to {epochs[1]}, "
            f"best {100 * best:.2f} % in epoch {statistics.best_epoch}"
        )
    if summary:
        title = "{dataset}/{category} {model}-{backbone} {altub}".format(**tracker.tags)
        auroc_curve(rows, epochs, title, folder.path / "auroc.png")
    if end:
        log.info("after the last epoch: %s", percentages(end))
        summary |= end
    folder.write_status(state=state, reason=reason, summary=summary, window=epochs, journal=folder.journal.sum())
    if state is RunState.crashed:
        log.error("crashed: %s. This is recorded as the outcome of the run.", reason)
    tracker.finish(state, summary, folder.artifacts())
    log.info("%s in %s", state, folder.path)
    return state


def add_to_summary(folder: RunFolder, measured: dict[str, float]) -> None:
    """Add measurements to the summary of a finished run, and send the missing parts of the run to MLflow."""
    summary = (folder.status() or {}).get("summary", {}) | measured
    folder.write_status(summary=summary)
    if tracker := Tracker.from_record(folder):
        tracker.finish(RunState.finished, summary, folder.artifacts())


def fail(folder: RunFolder, error: BaseException, *, resumable: bool) -> None:
    """Record the reason why a run ended early; the same command resumes it, or computes it anew if it is a rival.

    A run that Ctrl-C, a cluster or a full disk has stopped counts as interrupted: a sweep resumes it.
    """
    full = no_space(error)
    stopped = was_interrupted(error)
    reason = "interrupted" if stopped else f"{type(error).__name__}: {error}"
    if full is not None:  # the caller reports it
        reason = full.strerror or "no space left"
    elif isinstance(error, UserError):  # the caller reports it
        reason = str(error)
    else:
        how = "resumes it from the checkpoint" if resumable else "computes it anew"
        log.error("failed: %s; the same command %s.", reason, how)
    log.debug("traceback:", exc_info=full is not None or not stopped)
    try:
        if folder.status() is not None:
            folder.write_status(state=RunState.failed, reason=reason, interrupted=stopped or full is not None)
            if tracker := Tracker.from_record(folder):
                tracker.finish(RunState.failed, {}, folder.artifacts())
    except OSError as refusal:
        if full is None:
            log.error("The reason could not be recorded either (%s).", refusal)
        # on a full disk the run looks like one that was killed


def report_done(folder: RunFolder, tracker: Tracker) -> RunState:
    """Report that there is nothing to do, and send the missing parts of the run to MLflow."""
    status = folder.status() or {}
    state = RunState(status["state"])
    why = f" ({status['reason']})" if status.get("reason") else ""
    log.info("%s already%s in %s: nothing to do (resume=never archives it and starts over).", state, why, folder.path)
    tracker.finish(state, status.get("summary", {}), folder.artifacts())
    return state


def flatten(node: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings.

    >>> flatten({"a": {"b": 1}})
    {'a.b': 1}
    """
    flat: dict[str, Any] = {}
    for key, value in plain(node).items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def plain(node: dict[str, Any]) -> dict[str, Any]:
    """Return the same mapping with enumeration members as strings."""
    return {
        key: plain(value) if isinstance(value, dict) else str(value) if isinstance(value, str) else value
        for key, value in node.items()
    }
