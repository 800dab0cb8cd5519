"""One run, from top to bottom: configuration → images → features → density → scores → metrics → record."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from altub_exp.config.check import check
from altub_exp.config.schema import Config, Resume
from altub_exp.data import ImageSet, load_images, load_masks, open_category
from altub_exp.detector.assembly import base, build_density, build_features, build_learner, family
from altub_exp.detector.evaluation import TestSet, anomaly_scores, detection, normality, unit_normality
from altub_exp.detector.inference import load_detector, time_inference
from altub_exp.errors import Divergence, UserError, was_interrupted
from altub_exp.features.maps import FeatureMaps
from altub_exp.machine.device import prepare_device, seed_everything
from altub_exp.machine.disk import no_space, write_json, writing_to
from altub_exp.machine.memory import collection_paused
from altub_exp.machine.terminal import EpochProgress, log, logging_to
from altub_exp.method.density import Density
from altub_exp.method.learner import Learner
from altub_exp.method.learning_rate import TrainingStep
from altub_exp.method.scoring import Scoring
from altub_exp.metrics.shapiro import FEWEST_VALUES
from altub_exp.runs.checkpoint import Trained, load_checkpoint, save_checkpoint, save_trained
from altub_exp.runs.folder import RunFolder, State
from altub_exp.runs.identity import run_name, run_path, weights_fingerprint
from altub_exp.runs.journal import now_ms
from altub_exp.runs.pictures import map_sheet, shown_rows
from altub_exp.tracking.lifecycle import (
    Supplement,
    add_to_record,
    build_tracker,
    fail,
    finish,
    lacks,
    report_done,
    start_status,
)
from altub_exp.tracking.store import prepare_store
from altub_exp.tracking.uri import resolve_uri


def run_experiment(config: Config) -> State:
    """Train, evaluate and record one run, or what is left of it.

    Returns:
        How the run stands: ``finished``, or ``crashed`` where the training diverged, which is a result too.

    Raises:
        UserError: the configuration, the data or the weights need a person's attention; nothing was trained.
        DiskFull: no space is left; what was recorded until then is whole.
    """
    check(config)
    for find in (family, base):
        find(config)  # unknown names fail here
    device = prepare_device(config.device, config.threads, config.precision)
    uri = resolve_uri(config.tracking.uri)
    images = open_category(config.dataset)
    folder = RunFolder(run_path(config, images.fingerprint()))
    with writing_to(folder.path):
        return compute(config, images, folder, device, uri)


def compute(config: Config, images: ImageSet, folder: RunFolder, device: torch.device, uri: str) -> State:
    """One run in its folder, whose lock is held meanwhile."""
    aside = None
    if config.resume is Resume.never and folder.status() is not None:
        with folder.lock():
            aside = folder.put_aside()
    with folder.lock(), logging_to(folder.log):
        if aside is not None:
            log.info("resume=never: the earlier run now lies in %s", aside)
        before = folder.status()
        if before is not None and before["state"] in (State.finished, State.crashed):
            state = report_done(folder, before, config, images, uri)
            supplement(config, images, folder, device)
            return state
        try:
            material = gather(config, images, device)
            learner = assemble(config, material, device)
            prepare_store(uri)
            state = train(config, images, material, learner, folder, device, uri)
            supplement(config, images, folder, device)
            return state
        except UserError:
            if before is None and folder.status() is None:
                folder.discard(keep=Path(config.runs_dir))  # nothing was recorded: leave nothing behind
            raise
        except BaseException as error:
            fail(folder, error)
            if no_space(error) and folder.status() is None:
                folder.discard(keep=Path(config.runs_dir))
            if was_interrupted(error) and not isinstance(error, SystemExit):
                raise KeyboardInterrupt from error
            raise


@dataclass
class Material:
    """What a run trains on and is judged on.

    Attributes:
        train: features of the training images.
        test: features, labels and masks of the test images.
        good: indices of the normal test images.
        pictures: the test images that are shown at the end, by their indices, uint8 [3, S, S].
    """

    train: FeatureMaps
    test: TestSet
    good: torch.Tensor
    pictures: dict[int, torch.Tensor]


def gather(config: Config, images: ImageSet, device: torch.device) -> Material:
    """Decode the images and take them through the backbone; what a person may have got wrong shows here.

    Raises:
        UserError: weights or images cannot be read, or do not fit.
    """
    if config.backbone.weights == "random":
        log.warning("The backbone's weights are random, as asked for: its features are untrained.")
    size, interpolation = config.dataset.image_size, config.dataset.interpolation
    masks = load_masks(images.test, size).numpy() if images.has_masks else None
    train, test = build_features(config, images, device, weights_fingerprint(config))
    if config.cache.dir is not None:
        parts = [test] if config.dataset.rotation else [train, test]
        found, wanted = sum(maps.from_cache for maps in parts), sum(len(maps) for maps in parts)
        log.info("features of %d of %d images were in the cache %s", found, wanted, config.cache.dir)
    rows = shown_rows(images.test)
    pictures = dict(zip(rows, load_images([images.test[row] for row in rows], size, interpolation), strict=True))
    defective = np.array([sample.defective for sample in images.test])
    return Material(
        train, TestSet(test, defective, masks, size), torch.from_numpy(np.flatnonzero(~defective)), pictures
    )


@collection_paused()  # the first optimizer imports much of PyTorch
def assemble(config: Config, material: Material, device: torch.device) -> Learner:
    """The density, with what trains it.

    Raises:
        UserError: there are too few images for a batch, or too few positions for a step.
    """
    seed_everything(config.seed)
    density = build_density(config, material.train.shapes).to(device)
    learner = build_learner(config, density)
    count, batch_size = len(material.train), config.train.batch_size
    if config.train.drop_last and count < batch_size:
        raise UserError(
            f"{count} training images make no batch of {batch_size}, and incomplete batches are dropped: set "
            f"train.batch_size={count} or less, or train.drop_last=false."
        )
    learner.check(material.train.shapes, min(count, batch_size))
    return learner


def train(
    config: Config,
    images: ImageSet,
    material: Material,
    learner: Learner,
    folder: RunFolder,
    device: torch.device,
    uri: str,
) -> State:
    """The straight loop over the epochs, and what stands before and after it."""
    density, optimizer, scoring = learner.density, learner.optimizer, family(config).scoring(config.model)
    done = load_checkpoint(folder.checkpoint, density, optimizer)
    folder.journal.truncate(done)
    start_status(folder, config, images, device, done)
    tracker = build_tracker(folder, config, images, uri)
    log.info(
        "%s: %d training and %d test images of %d px, %.2f GiB of features %s, on %s, %s",
        run_name(config),
        len(images.train),
        len(images.test),
        material.test.size,
        material.train.gib + material.test.features.gib,
        material.train.place,
        device,
        f"from epoch {done + 1}" if done else folder.path,
    )
    tracker.flush(done)
    saved = time.monotonic()
    try:
        with EpochProgress(run_name(config), done, config.train.epochs) as progress:
            for epoch in range(done + 1, config.train.epochs + 1):
                began = time.monotonic()
                row = {"epoch": epoch} | train_epoch(learner, material.train, config, epoch)
                try:
                    if not math.isfinite(row["loss"]):
                        raise Divergence(f"the loss became {row['loss']}")
                    row |= evaluate(config, epoch, density, scoring, material)
                finally:  # a divergence is recorded too
                    folder.journal.append(row | {"seconds": time.monotonic() - began, "time": now_ms()})
                    progress.epoch(row, "  (ψ only)" if optimizer.psi_only(epoch) else "")
                last = epoch == config.train.epochs
                if last or time.monotonic() - saved >= config.checkpoint_seconds:
                    save_checkpoint(folder.checkpoint, epoch, density, optimizer)
                    folder.write_status(checkpoint_epoch=epoch)
                    tracker.flush(epoch)
                    saved = time.monotonic()
        if config.eval.unit_normality:
            write_unit_normality(config, density, material, folder)
    except Divergence as error:
        return finish(config, folder, tracker, State.crashed, reason=f"{error} in epoch {epoch}")
    scores = anomaly_scores(density, scoring, material.test, material.train)
    map_sheet(images.test, material.pictures, material.test.masks, scores.maps.cpu(), folder.path / "maps.png")
    limits = float(scores.maps.min()), float(scores.maps.max())
    trained = Trained(density.state_dict(), material.train.shapes, scores.extremes, limits)
    save_trained(folder.checkpoint, config.train.epochs, trained)
    return finish(config, folder, tracker, State.finished)


def supplement(config: Config, images: ImageSet, folder: RunFolder, device: torch.device) -> None:
    """Measure what is asked of a finished run and is not there yet; nothing of it changes the run's numbers.

    Raises:
        UserError: a file of the run, or an image, cannot be read.
    """
    lacking = lacks(config, folder)
    if not lacking:
        return
    detector = load_detector(folder.path, device, config.backbone.weights)
    measured: dict[str, float] = {}
    if Supplement.unit_normality in lacking:
        try:
            write_unit_normality(config, detector.density, gather(config, images, device), folder)
        except Divergence as error:
            raise UserError(f"The latent units of {folder.path} cannot be tested for normality: {error}.") from error
    if Supplement.inference_time in lacking:
        measured = time_inference(detector, config.eval.timing_images)
    add_to_record(folder, measured)


def write_unit_normality(config: Config, density: Density, material: Material, folder: RunFolder) -> None:
    """Test every latent unit for normality over the normal images of training and of test (paper: Fig. 1)."""
    log.info("testing every latent unit for normality …")
    found: dict[str, object] = {}
    for name, features, rows in (
        ("train", material.train, None),
        ("test_good", material.test.features, material.good),
    ):
        if len(features if rows is None else rows) >= FEWEST_VALUES:
            found[name] = unit_normality(density, features, rows, memory_gb=config.latent_memory_gb).to_json()
        else:
            log.warning("fewer than %d images in %s: no test of normality", FEWEST_VALUES, name)
    write_json(folder.normality, found)


def train_epoch(learner: Learner, features: FeatureMaps, config: Config, epoch: int) -> dict[str, float]:
    """One pass over the training images in an order drawn from (seed, epoch); means over its images."""
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + epoch)
    order = torch.randperm(len(features), generator=generator)
    batches = features.batches(order, drop_last=config.train.drop_last)
    totals: dict[str, Tensor | float] = {}  # on the device: to read one would wait for it
    count = 0
    for number, rows in enumerate(batches):
        moment = TrainingStep(epoch, number, len(batches))
        lesson = learner.learn(features.augmented(rows, generator), moment, generator)
        if lesson is not None:
            count += len(rows)
            for name, value in lesson._asdict().items():
                if value is not None:
                    totals[name] = totals.get(name, 0.0) + value * len(rows)
    return {name: float(total) / count for name, total in totals.items()}


def evaluate(config: Config, epoch: int, density: Density, scoring: Scoring, material: Material) -> dict[str, float]:
    """The metrics that are due after this epoch."""
    metrics: dict[str, float] = {}
    if epoch % config.eval.every == 0:
        metrics |= detection(anomaly_scores(density, scoring, material.test, material.train), material.test)
    if config.eval.ks_every and epoch % config.eval.ks_every == 0:
        memory_gb = config.latent_memory_gb
        metrics |= normality(density, material.train, memory_gb=memory_gb)
        of_test = normality(density, material.test.features, material.good, memory_gb=memory_gb)
        metrics |= {f"{name}_test_good": of_test[name] for name in ("ks", "ks_std", "mean_square")}
    return metrics
