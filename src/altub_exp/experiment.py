"""One run, from top to bottom: configuration → images → features → density → scores → metrics → record."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from altub_exp.config.check import check
from altub_exp.config.schema import Config, Resume, RivalConfig
from altub_exp.data import ImageSet, load_images, load_masks, open_category
from altub_exp.data.canvas import Canvas
from altub_exp.data.images import load_insides
from altub_exp.detector.evaluation import TestSet, end_metrics, require_numbers
from altub_exp.detector.families import check_parts, family
from altub_exp.detector.flow_system import FlowSystem
from altub_exp.detector.rival import RivalSystem
from altub_exp.detector.system import System
from altub_exp.detector.worker import WorkerFailure
from altub_exp.errors import Divergence, UserError, was_interrupted
from altub_exp.machine.command_line import interruptible
from altub_exp.machine.device import prepare_device
from altub_exp.machine.disk import no_space, writing_to
from altub_exp.machine.terminal import EpochProgress, log, logging_to
from altub_exp.method.scoring import localises
from altub_exp.runs.checkpoint import ImageScores, Trained, save_trained
from altub_exp.runs.folder import RunFolder
from altub_exp.runs.identity import run_name, run_path
from altub_exp.runs.integrity import facts, require_intact
from altub_exp.runs.journal import now_ms
from altub_exp.runs.outcome import mean_auroc
from altub_exp.runs.pictures import map_sheet, shown_rows
from altub_exp.runs.states import FINAL, RunState
from altub_exp.tracking.lifecycle import build_tracker, fail, finish, report_done, start_status, write_configuration
from altub_exp.tracking.store import prepare_store
from altub_exp.tracking.uri import resolve_uri


def run_experiment(config: Config) -> float | None:
    """Train, evaluate and record one run, or the rest of an interrupted run.

    Returns:
        The value that a sweeper such as Optuna's maximises: the mean over the window of the pixel AUROC, or without
        masks of the image AUROC, a fraction. None if no epoch of the window was evaluated, or the training diverged,
        which is a result too.

    Raises:
        UserError: the configuration, the data or the weights are wrong; nothing was trained.
        DiskFull: no space is left; everything recorded until then is intact.
    """
    check(config)
    check_parts(config)
    device = prepare_device(config.device, config.threads, config.precision)
    uri = resolve_uri(config.tracking.uri)
    images = open_category(config.dataset, config.cache.dir)
    folder = RunFolder(run_path(config, images.fingerprint()))
    with writing_to(folder.path):
        state = compute(config, images, folder, device, uri)
    return mean_auroc(folder.status() or {}) if state is RunState.finished else None


def compute(config: Config, images: ImageSet, folder: RunFolder, device: torch.device, uri: str) -> RunState:
    """Compute one run in its folder, holding its lock; it ends as ``finished``, or ``crashed`` if it diverged.

    The first case that applies decides where the run starts:

    1. ``resume=never``: an earlier run is archived, and all epochs are computed;
    2. the run is finished or crashed: nothing is computed, and missing parts are sent to MLflow;
    3. there is a checkpoint: the epochs after it are computed;
    4. otherwise all epochs are computed, as always for a rival, which keeps no checkpoint.
    """
    archived = None
    if config.resume is Resume.never and folder.exists():
        with folder.lock():
            archived = folder.archive()
    with folder.lock(), logging_to(folder.log):
        if archived is not None:
            log.info("resume=never: the earlier run is now in %s", archived)
        before = folder.state()
        inspection = require_intact(folder, folder.checkpoint, folder.journal.file)
        if before in FINAL:
            if folder.config in inspection.damages:
                log.warning("%s", inspection.damages[folder.config])
                write_configuration(folder, config, folder.run_uid())
            prepare_store(uri)
            return report_done(folder, build_tracker(folder, config, images, uri))
        try:
            with interruptible(), open_system(config, images, folder, device) as system:
                pictures = load_pictures(config, images)
                prepare_store(uri)
                return train(config, images, pictures, system, folder, device, uri)
        except UserError as error:
            if not folder.exists():
                folder.discard(keep=Path(config.runs_dir))  # nothing was recorded
            elif isinstance(error, WorkerFailure):
                fail(folder, error, resumable=not isinstance(config.model, RivalConfig))
            raise
        except BaseException as error:
            fail(folder, error, resumable=not isinstance(config.model, RivalConfig))
            if no_space(error) and folder.status() is None:
                folder.discard(keep=Path(config.runs_dir))
            if was_interrupted(error) and not isinstance(error, SystemExit):
                raise KeyboardInterrupt("reported") from error
            raise


@contextmanager
def open_system(config: Config, images: ImageSet, folder: RunFolder, device: torch.device) -> Iterator[System]:
    """Build the system that the configuration names, with the test images; a rival's process ends with the context.

    Raises:
        UserError: weights or images cannot be read or do not fit, or there are too few images.
        WorkerFailure: anomalib refuses the work.
    """
    test = load_test_set(config, images)
    if isinstance(config.model, RivalConfig):
        with RivalSystem.opened(config, config.model, images, test, folder, device) as rival:
            yield rival
    else:
        yield FlowSystem.build(config, images, test, device)


def load_test_set(config: Config, images: ImageSet) -> TestSet:
    """Read labels and masks of the test images, and report all that is unusual about the images.

    Raises:
        UserError: a mask cannot be read, or does not fit its image.
    """
    canvas, bit_depth = Canvas.of(config.dataset), config.dataset.bit_depth
    if bit_depth is not None:
        log.info("16-bit images are read with dataset.bit_depth=%d: the value %d is white", bit_depth, 2**bit_depth - 1)
    for sentence in images.copies() + images.left_out() + images.without_auroc():
        log.warning("%s.", sentence)
    if not _localises(config):
        log.info("model=%s scores images as a whole: there is no pixel AUROC and no anomaly map", config.model.name)
    samples = images.test or images.train
    masks = load_masks(images.test, canvas).numpy() if images.has_masks and _localises(config) else None
    return TestSet(np.array([sample.defective for sample in samples]), masks, canvas, load_insides(samples, canvas))


def _localises(config: Config) -> bool:
    """Return True if the model gives anomaly maps, as all rivals do."""
    return isinstance(config.model, RivalConfig) or localises(family(config.model.name).scoring(config.model))


def load_pictures(config: Config, images: ImageSet) -> dict[int, Tensor]:
    """Return the images of the final picture, uint8 [3, H, W], by their indices among the test images.

    Raises:
        UserError: an image cannot be read.
    """
    samples = images.test or images.train
    rows = shown_rows(samples)
    shown, dataset = [samples[row] for row in rows], config.dataset
    pictures = load_images(shown, Canvas.of(dataset), dataset.interpolation, dataset.bit_depth)
    return dict(zip(rows, pictures, strict=True))


def train(
    config: Config,
    images: ImageSet,
    pictures: Mapping[int, Tensor],
    system: System,
    folder: RunFolder,
    device: torch.device,
    uri: str,
) -> RunState:
    """Train over the epochs with evaluations and checkpoints, then write the final picture and model."""
    done, test = system.restore(folder), system.test
    folder.journal.truncate(done)
    start_status(folder, config, images.fingerprint(), device, done, system.versions)
    tracker = build_tracker(folder, config, images, uri)
    log.info(
        f"{run_name(config)}: {len(images.train)} training and {len(images.test)} test images of {test.canvas}, "
        f"{system}, on {device}, " + (f"from epoch {done + 1}" if done else str(folder.path))
    )
    tracker.flush(done)
    saved, epoch = time.monotonic(), done
    try:
        with EpochProgress(run_name(config), done, config.train.epochs) as progress:
            for epoch in range(done + 1, config.train.epochs + 1):
                began = time.monotonic()
                row = {"epoch": epoch} | system.train(epoch)
                try:
                    if not math.isfinite(row.get("loss", 0.0)):
                        raise Divergence(f"the loss became {row['loss']}")
                    row |= system.evaluate(epoch)
                finally:  # a divergence is recorded too
                    folder.journal.append(row | {"seconds": time.monotonic() - began, "time": now_ms()})
                    progress.epoch(row, system.note(epoch))
                last = epoch == config.train.epochs
                if system.resumable and (last or time.monotonic() - saved >= config.checkpoint_seconds):
                    system.save(folder.checkpoint, epoch, facts(folder))
                    folder.write_status(checkpoint_epoch=epoch)
                    tracker.flush(epoch)
                    saved = time.monotonic()
        scores = system.final_scores()
        require_numbers(scores)
    except Divergence as error:
        return finish(folder, tracker, config.eval, RunState.crashed, reason=f"{error} in epoch {epoch}")
    maps, insides = scores.maps.cpu(), test.insides
    if _localises(config):
        shown = maps if insides is None else maps.masked_fill(~insides, torch.nan)
        map_sheet(images.test or images.train, pictures, test.masks, shown, folder.path / "maps.png")
    of_images = test.of_images(scores.maps)
    limits = float(of_images.min()), float(of_images.max())
    labelled = ImageScores(scores.images, torch.from_numpy(test.defective), "test" if images.test else "train")
    parameters, shapes = system.kept()
    trained = Trained(parameters, shapes, scores.extremes, limits, labelled)
    metrics = end_metrics(scores, test) | system.cost()
    save_trained(folder.checkpoint, config.train.epochs, trained, facts(folder))
    return finish(folder, tracker, config.eval, RunState.finished, reason=None, end=metrics)
