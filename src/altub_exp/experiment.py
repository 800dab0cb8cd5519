"""One run, from top to bottom: configuration → images → features → density → scores → metrics → record."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from altub_exp.config.check import check
from altub_exp.config.schema import Config, EvalConfig, Resume
from altub_exp.data import ImageSet, Sample, load_images, load_masks, open_category
from altub_exp.data.canvas import Canvas
from altub_exp.data.images import load_insides
from altub_exp.detector.assembly import (
    build_density,
    build_features,
    build_fitted,
    build_learner,
    check_parts,
    family,
)
from altub_exp.detector.evaluation import (
    TestSet,
    anomaly_scores,
    detection,
    end_metrics,
    fit_psi,
    normality,
    parameter_statistics,
    require_numbers,
)
from altub_exp.errors import Divergence, UserError, was_interrupted
from altub_exp.features.maps import FeatureMaps
from altub_exp.machine.command_line import interruptible
from altub_exp.machine.cuda_graphs import CudaGraphs
from altub_exp.machine.device import prepare_device, seed_everything
from altub_exp.machine.disk import no_space, writing_to
from altub_exp.machine.memory import collection_paused
from altub_exp.machine.terminal import EpochProgress, log, logging_to
from altub_exp.method.density import Density
from altub_exp.method.learner import Learner
from altub_exp.method.learning_rate import TrainingStep
from altub_exp.method.scoring import Scoring, localises
from altub_exp.runs.checkpoint import ImageScores, Trained, load_checkpoint, save_checkpoint, save_trained
from altub_exp.runs.folder import RunFolder
from altub_exp.runs.identity import run_name, run_path, weights_fingerprint
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
    4. otherwise all epochs are computed.
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
            with interruptible():
                data = load_run_data(config, images, device)
                learner = prepare_learner(config, data, device)
                prepare_store(uri)
                return train(config, images, data, learner, folder, device, uri)
        except UserError:
            if not folder.exists():
                folder.discard(keep=Path(config.runs_dir))  # nothing was recorded
            raise
        except BaseException as error:
            fail(folder, error)
            if no_space(error) and folder.status() is None:
                folder.discard(keep=Path(config.runs_dir))
            if was_interrupted(error) and not isinstance(error, SystemExit):
                raise KeyboardInterrupt("reported") from error
            raise


@dataclass
class RunData:
    """The data of a run's training and evaluation.

    Attributes:
        train: features of the tiles of the training images.
        test: features, labels and masks of the test images; if there are none, the training images.
        samples: the samples of these images.
        good: indices of the tiles of the normal test images.
        pictures: the images of the final picture, by their indices, uint8 [3, H, W].
    """

    train: FeatureMaps
    test: TestSet
    samples: Sequence[Sample]
    good: Tensor
    pictures: dict[int, Tensor]


def load_run_data(config: Config, images: ImageSet, device: torch.device) -> RunData:
    """Decode the images and compute their features.

    Raises:
        UserError: weights or images cannot be read, or do not fit.
    """
    if config.backbone.weights == "random":
        log.warning("The backbone's weights are random, as requested: its features are untrained.")
    canvas, interpolation, bit_depth = Canvas.of(config.dataset), config.dataset.interpolation, config.dataset.bit_depth
    if bit_depth is not None:
        log.info("16-bit images are read with dataset.bit_depth=%d: the value %d is white", bit_depth, 2**bit_depth - 1)
    for sentence in images.copies() + images.left_out() + images.without_auroc():
        log.warning("%s.", sentence)
    located = localises(family(config.model.name).scoring(config.model))
    if not located:
        log.info("model=%s scores images as a whole: there is no pixel AUROC and no anomaly map", config.model.name)
    masks = load_masks(images.test, canvas).numpy() if images.has_masks and located else None
    train, test = build_features(config, images, device, weights_fingerprint(config.backbone.weights))
    if config.cache.dir is not None:
        parts = ([] if config.dataset.rotation else [train]) + ([test] if images.test else [])
        cached, total = sum(maps.from_cache for maps in parts), sum(len(maps) for maps in parts)
        noun = "images" if canvas.tiles == 1 else "tiles"
        log.info("features of %d of %d %s were in the cache %s", cached, total, noun, config.cache.dir)
    samples = images.test or images.train
    rows = shown_rows(samples)
    shown = load_images([samples[row] for row in rows], canvas, interpolation, bit_depth)
    pictures = dict(zip(rows, shown, strict=True))
    defective = np.array([sample.defective for sample in samples])
    good = torch.from_numpy(np.flatnonzero(np.repeat(~defective if images.test else ~defective[:0], canvas.tiles)))
    tested = TestSet(test, defective, masks, canvas, load_insides(samples, canvas))
    return RunData(train, tested, samples, good, pictures)


@collection_paused()  # the first optimizer imports much of PyTorch
def prepare_learner(config: Config, data: RunData, device: torch.device) -> Learner:
    """Build the density and the learner that trains it.

    Raises:
        UserError: there are too few images for a batch, or too few positions for a step.
    """
    seed_everything(config.seed)
    density = build_density(config, data.train.shapes).to(device)
    learner = build_learner(config, density)
    count, batch_size = len(data.train), config.train.batch_size
    noun = "training images" if data.test.canvas.tiles == 1 else "tiles of training images"
    if config.train.drop_last and count < batch_size:
        raise UserError(
            f"{count} {noun} make no batch of {batch_size}, and incomplete batches are dropped: set "
            f"train.batch_size={count} or less, or train.drop_last=false."
        )
    learner.check(data.train.shapes, min(count, batch_size))
    return learner


def train(
    config: Config,
    images: ImageSet,
    data: RunData,
    learner: Learner,
    folder: RunFolder,
    device: torch.device,
    uri: str,
) -> RunState:
    """Train over the epochs with evaluations and checkpoints, then write the final picture and model."""
    density, optimizer, scoring = learner.density, learner.optimizer, family(config.model.name).scoring(config.model)
    fitted = build_fitted(config, density)
    scored = density if fitted is None or config.eval.fitted else fitted
    done = load_checkpoint(folder.checkpoint, density, optimizer)
    folder.journal.truncate(done)
    start_status(folder, config, images.fingerprint(), device, done)
    tracker = build_tracker(folder, config, images, uri)
    gib = data.train.gib + (data.test.features.gib if images.test else 0.0)
    log.info(
        f"{run_name(config)}: {len(images.train)} training and {len(images.test)} test images of {data.test.canvas}, "
        f"{gib:.2f} GiB of features {data.train.place}, on {device}, "
        + (f"from epoch {done + 1}" if done else str(folder.path))
    )
    tracker.flush(done)
    saved, epoch = time.monotonic(), done
    try:
        with EpochProgress(run_name(config), done, config.train.epochs) as progress:
            for epoch in range(done + 1, config.train.epochs + 1):
                began = time.monotonic()
                row = {"epoch": epoch} | train_epoch(learner, data.train, epoch, config.seed, config.train.drop_last)
                try:
                    if not math.isfinite(row["loss"]):
                        raise Divergence(f"the loss became {row['loss']}")
                    row |= evaluate(
                        epoch, scored, fitted, scoring, data, config.eval, config.latent_memory_gb, optimizer.graphs
                    )
                finally:  # a divergence is recorded too
                    folder.journal.append(row | {"seconds": time.monotonic() - began, "time": now_ms()})
                    progress.epoch(row, "  (ψ only)" if optimizer.psi_only(epoch) else "")
                last = epoch == config.train.epochs
                if last or time.monotonic() - saved >= config.checkpoint_seconds:
                    save_checkpoint(folder.checkpoint, epoch, density, optimizer, facts(folder))
                    folder.write_status(checkpoint_epoch=epoch)
                    tracker.flush(epoch)
                    saved = time.monotonic()
        if fitted is scored:
            fit_psi(scored, data.train, optimizer.graphs)
        scores = anomaly_scores(scored, scoring, data.test, data.train, optimizer.graphs)
        require_numbers(scores)
    except Divergence as error:
        return finish(folder, tracker, config.eval, RunState.crashed, reason=f"{error} in epoch {epoch}")
    maps, insides = scores.maps.cpu(), data.test.insides
    if localises(scoring):
        shown = maps if insides is None else maps.masked_fill(~insides, torch.nan)
        map_sheet(data.samples, data.pictures, data.test.masks, shown, folder.path / "maps.png")
    of_images = data.test.of_images(scores.maps)
    limits = float(of_images.min()), float(of_images.max())
    labelled = ImageScores(scores.images, torch.from_numpy(data.test.defective), "test" if images.test else "train")
    trained = Trained(scored.state_dict(), data.train.shapes, scores.extremes, limits, labelled)
    save_trained(folder.checkpoint, config.train.epochs, trained, facts(folder))
    metrics = end_metrics(scores, data.test)
    return finish(folder, tracker, config.eval, RunState.finished, reason=None, end=metrics)


def train_epoch(learner: Learner, features: FeatureMaps, epoch: int, seed: int, drop_last: bool) -> dict[str, float]:
    """Train on all images once, in an order drawn from (seed, epoch); return the mean losses over the images."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order = torch.randperm(len(features), generator=generator)
    batches = features.batches(order, drop_last=drop_last)
    totals: dict[str, Tensor | float] = {}  # on the device: reading one would wait for it
    count = 0
    for number, rows in enumerate(batches):
        step = TrainingStep(epoch, number, len(batches))
        loss = learner.learn(features.augmented(rows, generator), step, generator)
        if loss is not None:
            count += len(rows)
            for name, value in loss._asdict().items():
                if value is not None:
                    totals[name] = totals.get(name, 0.0) + value * len(rows)
    return {name: float(total) / count for name, total in totals.items()}


def evaluate(
    epoch: int,
    density: Density,
    fitted: Density | None,
    scoring: Scoring,
    data: RunData,
    schedule: EvalConfig,
    memory_gb: float,
    graphs: CudaGraphs | None,
) -> dict[str, float]:
    """Compute the metrics that are due after this epoch.

    Args:
        epoch: counted from 1.
        density: the density to evaluate.
        fitted: a density whose ψ is fitted first; if it is another one, it gives metrics with the suffix ``_fitted``.
        scoring: the scoring of the model.
        data: training and test images.
        schedule: the epochs of each metric.
        memory_gb: GiB of latents that are held at once, at most.
        graphs: recorded passes, see :class:`~altub_exp.machine.cuda_graphs.CudaGraphs`.
    """
    metrics: dict[str, float] = {}
    detects = epoch % schedule.every == 0 and data.test.has_both_classes
    tests = schedule.ks_every > 0 and epoch % schedule.ks_every == 0
    if fitted is not None and (detects or (tests and fitted is density)):
        fit_psi(fitted, data.train, graphs)
    if detects:
        metrics |= detection(anomaly_scores(density, scoring, data.test, data.train, graphs), data.test)
        if fitted is not None and fitted is not density:
            scores = anomaly_scores(fitted, scoring, data.test, data.train, graphs)
            metrics |= {f"{name}_fitted": value for name, value in detection(scores, data.test)}
    if tests:
        metrics |= normality(density, data.train, memory_gb=memory_gb)
        if len(data.good):
            of_test = normality(density, data.test.features, data.good, memory_gb=memory_gb)
            metrics |= {f"{name}_test_good": of_test[name] for name in ("ks", "ks_std", "mean_square")}
    if fitted is density and not (detects or tests):
        return metrics  # ψ is fitted only when it is used
    return metrics | parameter_statistics(density)
