"""What a run leaves behind: its name and folder, its status, its record in MLflow, its summary."""

from __future__ import annotations

import os
from dataclasses import asdict
from enum import StrEnum
from typing import Any

import torch
from omegaconf import OmegaConf

from altub_exp.config.compose import backbone_label
from altub_exp.config.schema import Config
from altub_exp.data import ImageSet
from altub_exp.errors import was_interrupted
from altub_exp.machine.disk import no_space, write_text
from altub_exp.machine.terminal import log
from altub_exp.metrics.stability import stability
from altub_exp.runs.folder import RunFolder, State
from altub_exp.runs.identity import run_name, weights_fingerprint
from altub_exp.runs.journal import now_ms
from altub_exp.runs.pictures import auroc_curve
from altub_exp.runs.provenance import code_fingerprint, git_state, versions
from altub_exp.tracking.store import prepare_store
from altub_exp.tracking.tracker import Tracker


def build_tracker(folder: RunFolder, config: Config, images: ImageSet, uri: str) -> Tracker:
    """The run's record in MLflow, with the tags and params of the contract."""
    status = folder.status()
    assert status is not None
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
        "data": images.fingerprint(),
        "git_commit": str(status["git_commit"]),
        "git_dirty": str(status["git_dirty"]),
        "device": str(status["device"]),
        "host": str(status["host"]),
        "code_changed": str(status["code_changed"]),
        "versions": ", ".join(f"{package} {version}" for package, version in status["versions"].items()),
    }
    if config.tracking.sweep is not None:
        tags["sweep"] = config.tracking.sweep
    return Tracker(
        uri=uri,
        experiment=config.tracking.experiment,
        name=f"{run_name(config)} seed{config.seed}",
        tags=tags,
        params=flatten(asdict(config)),
        folder=folder,
        start_time=int(status["started"]),
    )


def slurm_job() -> str | None:
    """The id by which Slurm's commands know this job, such as ``7_3`` of an array; None outside of Slurm."""
    array, task = (os.environ.get(f"SLURM_ARRAY_{part}_ID") for part in ("JOB", "TASK"))
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")


def start_status(folder: RunFolder, config: Config, images: ImageSet, device: torch.device, done: int) -> None:
    """Write what is known at the start: where, when, with which versions; and the configuration beside it."""
    write_text(folder.config, OmegaConf.to_yaml(OmegaConf.create(plain(asdict(config)))))
    commit, dirty = git_state()
    code = code_fingerprint()
    if config.tracking.code not in (None, code):
        log.warning("The program's code has changed since this sweep was started; this run computes with the new one.")
    folder.write_status(
        state=State.running,
        reason=None,
        interrupted=False,
        resumed=now_ms() if done else None,
        checkpoint_epoch=done,
        device=f"{device}" if device.type == "cpu" else torch.cuda.get_device_name(device),
        threads=torch.get_num_threads(),
        slurm_job=slurm_job(),
        data=images.fingerprint(),
        weights_sha256=weights_fingerprint(config),
        git_commit=commit,
        git_dirty=dirty,
        code=code,
        code_changed=config.tracking.code not in (None, code),
        versions=versions(),
    )


def finish(config: Config, folder: RunFolder, tracker: Tracker, state: State, reason: str | None = None) -> State:
    """Sum up, draw, and close the record."""
    rows = folder.journal.rows()
    summary: dict[str, float] = {}
    for metric in ("pixel_auroc", "image_auroc"):
        series = {int(row["epoch"]): row[metric] for row in rows if metric in row}
        found = stability(series, config.eval.first_epoch, config.eval.last_epoch) if series else None
        if found is not None:
            summary |= {f"{metric}_mean": found.mean, f"{metric}_std": found.std, f"{metric}_best": found.best}
            log.info(
                "%s: %.2f ± %.2f %% over epochs %d to %d, best %.2f %% in epoch %d",
                metric,
                100 * found.mean,
                100 * found.std,
                config.eval.first_epoch,
                config.eval.last_epoch,
                100 * found.best,
                found.best_epoch,
            )
    if summary:
        auroc_curve(
            rows, (config.eval.first_epoch, config.eval.last_epoch), run_name(config), folder.path / "auroc.png"
        )
    folder.write_status(state=state, reason=reason, summary=summary)
    if state is State.crashed:
        log.error("crashed: %s. This is recorded as the outcome of the run.", reason)
    tracker.finish(state, summary, folder.artifacts())
    log.info("%s in %s", state, folder.path)
    return state


class Supplement(StrEnum):
    """What may be asked of a run that has finished already."""

    unit_normality = "unit_normality"
    inference_time = "inference_time"


def lacks(config: Config, folder: RunFolder) -> set[Supplement]:
    """What the configuration asks of a finished run that it lacks; empty of a run in another state.

    Raises:
        UserError: its status is damaged.
    """
    status = folder.status() or {}
    if status.get("state") != State.finished:
        return set()
    return {
        supplement
        for supplement, due in {
            Supplement.unit_normality: config.eval.unit_normality and not folder.normality.exists(),
            Supplement.inference_time: config.eval.timing_images and "inference_ms" not in status.get("summary", {}),
        }.items()
        if due
    }


def add_to_record(folder: RunFolder, measured: dict[str, float]) -> None:
    """Add to the summary of a run that has finished, and send what is new of it to MLflow."""
    summary = (folder.status() or {}).get("summary", {}) | measured
    folder.write_status(summary=summary)
    if measured:
        log.info(", ".join(f"{name} {value:.2f}" for name, value in measured.items()))
    if tracker := Tracker.from_record(folder):
        tracker.finish(State.finished, summary, folder.artifacts())


def fail(folder: RunFolder, error: BaseException) -> None:
    """Record why a run ended before its time; it can be resumed.

    A keyboard, a cluster or a full disk that stopped it is no fault of its own: a sweep goes on with it by itself.
    """
    full = no_space(error)
    interrupted = full is not None or was_interrupted(error)
    reason = full.strerror if full else "interrupted" if interrupted else f"{type(error).__name__}: {error}"
    if full is None:  # else whoever called has a sentence for it
        log.error("failed: %s; the same command goes on from the checkpoint.", reason)
    log.debug("where it happened:", exc_info=full is not None or not interrupted)
    try:
        if folder.status() is not None:
            folder.write_status(state=State.failed, reason=reason, interrupted=interrupted)
            if tracker := Tracker.from_record(folder):
                tracker.finish(State.failed, {}, folder.artifacts())
    except OSError as again:
        if full is None:
            log.error("that could not be written down either (%s).", again)
        # else not even this fits: the run looks like one that was killed, until there is space again


def report_done(folder: RunFolder, status: dict[str, Any], config: Config, images: ImageSet, uri: str) -> State:
    """Say that there is nothing to do, and send to MLflow what it lacks."""
    state = State(status["state"])
    why = f" ({status['reason']})" if status.get("reason") else ""
    log.info("%s already%s in %s: nothing to do (resume=never puts it aside and starts over).", state, why, folder.path)
    prepare_store(uri)
    build_tracker(folder, config, images, uri).finish(state, status.get("summary", {}), folder.artifacts())
    return state


def flatten(node: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} → {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in plain(node).items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def plain(node: dict[str, Any]) -> dict[str, Any]:
    """The same with enumeration members as strings."""
    return {
        key: plain(value) if isinstance(value, dict) else str(value) if isinstance(value, str) else value
        for key, value in node.items()
    }
