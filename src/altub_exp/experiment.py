"""One run, from top to bottom: configuration → images → features → density → scores → metrics → record."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from altub_exp.altub import AlternatingOptimizer
from altub_exp.build import build_density, build_optimizer, choose_device, seed_everything
from altub_exp.checkpoint import load_checkpoint, save_checkpoint, strip_checkpoint
from altub_exp.config import Config, FeatureNorm, Resume, check
from altub_exp.data import ImageSet, load_images, load_masks, open_category
from altub_exp.density import Density
from altub_exp.errors import Divergence, UserError
from altub_exp.evaluation import TestSet, anomaly_maps, detection, normality
from altub_exp.features.backbone import Backbone
from altub_exp.features.maps import FeatureMaps
from altub_exp.pictures import map_sheet
from altub_exp.progress import EpochProgress, log, logging_to
from altub_exp.record import build_tracker, fail, finish, report_done, run_name, run_path, start_status, was_interrupted
from altub_exp.runs import RunFolder, State, now_ms
from altub_exp.tracking import prepare_store, resolve_uri


def run_experiment(config: Config) -> State:
    """Train, evaluate and record one run, or what is left of it.

    Returns:
        How the run stands: ``finished``, or ``crashed`` where the training diverged, which is a result too.

    Raises:
        UserError: the configuration, the data or the weights need a person's attention; nothing was trained.
    """
    check(config)
    device = choose_device(config.device)
    uri = resolve_uri(config.tracking.uri)
    images = open_category(config.dataset)
    folder = RunFolder(run_path(config, images))
    aside = None
    if config.resume is Resume.never and folder.status() is not None:
        with folder.lock():
            aside = folder.put_aside()
    with folder.lock(), logging_to(folder.log):
        if aside is not None:
            log.info("resume=never: the earlier run now lies in %s", aside)
        before = folder.status()
        if before is not None and before["state"] in (State.finished, State.crashed):
            return report_done(folder, before, config, images, uri)
        try:
            material = gather(config, images, device)
            prepare_store(uri)
            return train(config, images, material, folder, device, uri)
        except UserError:
            if before is None and folder.status() is None:
                folder.discard(keep=Path(config.runs_dir))  # nothing was recorded: leave nothing behind
            raise
        except BaseException as error:
            fail(folder, error)
            if was_interrupted(error):
                raise KeyboardInterrupt from error
            raise


@dataclass
class Material:
    """What a run trains on and is judged on.

    Attributes:
        train: features of the training images.
        test: features, labels and masks of the test images.
        good: indices of the normal test images.
        pixels: the test images, uint8 [N, 3, S, S].
    """

    train: FeatureMaps
    test: TestSet
    good: torch.Tensor
    pixels: torch.Tensor


def gather(config: Config, images: ImageSet, device: torch.device) -> Material:
    """Decode the images and take them through the backbone; what a person may have got wrong shows here.

    Raises:
        UserError: weights or images cannot be read, or do not fit.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    torch.backends.cudnn.allow_tf32 = False  # float32 is the reference
    backbone = Backbone(
        config.backbone.name,
        config.backbone.stages,
        weights=config.backbone.weights,
        final_norm=config.model.feature_norm is FeatureNorm.pretrained,
        seed=config.seed,
    ).to(device)
    if config.backbone.weights == "random":
        log.warning("The backbone's weights are random, as asked for: its features are untrained.")
    size, interpolation = config.dataset.image_size, config.dataset.interpolation
    masks = load_masks(images.test, size).numpy() if images.has_masks else None
    pixels = [load_images(samples, size, interpolation) for samples in (images.train, images.test)]
    total = sum(len(one) for one in pixels)
    train, test = (
        FeatureMaps(
            backbone,
            one,
            batch_size=config.train.batch_size,
            device=device,
            memory_gb=config.feature_memory_gb * len(one) / total,
        )
        for one in pixels
    )
    defective = np.array([sample.defective for sample in images.test])
    return Material(
        train, TestSet(test, defective, masks, size), torch.from_numpy(np.flatnonzero(~defective)), pixels[1]
    )


def train(
    config: Config, images: ImageSet, material: Material, folder: RunFolder, device: torch.device, uri: str
) -> State:
    """The straight loop over the epochs, and what stands before and after it."""
    seed_everything(config.seed)
    density = build_density(config, material.train.shapes).to(device)
    optimizer = build_optimizer(config, density)

    done = load_checkpoint(folder.checkpoint, density, optimizer)
    folder.truncate(done)
    start_status(folder, config, images, device, done)
    tracker = build_tracker(folder, config, images, uri)
    log.info(
        "%s: %d training and %d test images, %.2f GiB of features %s, on %s, %s",
        run_name(config),
        len(images.train),
        len(images.test),
        material.train.gib + material.test.features.gib,
        "kept in memory" if material.train.kept else "recomputed in every epoch",
        device,
        f"from epoch {done + 1}" if done else folder.path,
    )
    tracker.flush(done)
    saved = time.monotonic()
    dimensions = sum(math.prod(shape) for shape in material.train.shapes)
    try:
        with EpochProgress(run_name(config), done, config.train.epochs) as progress:
            for epoch in range(done + 1, config.train.epochs + 1):
                began = time.monotonic()
                loss = train_epoch(optimizer, material.train, config.seed, epoch) / dimensions
                row: dict[str, float] = {"epoch": epoch, "loss": loss}
                try:
                    if not math.isfinite(loss):
                        raise Divergence(f"the loss became {loss}")
                    row |= evaluate(config, epoch, density, material)
                finally:  # a divergence is recorded too
                    folder.append(row | {"seconds": time.monotonic() - began, "time": now_ms()})
                    progress.epoch(row, "  (ψ only)" if optimizer.psi_only(epoch) else "")
                last = epoch == config.train.epochs
                if last or time.monotonic() - saved >= config.checkpoint_seconds:
                    save_checkpoint(folder.checkpoint, epoch, density, optimizer)
                    folder.write_status(checkpoint_epoch=epoch)
                    tracker.flush(epoch)
                    saved = time.monotonic()
    except Divergence as error:
        return finish(config, folder, tracker, State.crashed, reason=f"{error} in epoch {epoch}")
    maps = anomaly_maps(density, material.test)
    map_sheet(images.test, material.pixels, material.test.masks, maps, folder.path / "maps.png")
    strip_checkpoint(folder.checkpoint)
    return finish(config, folder, tracker, State.finished)


def train_epoch(optimizer: AlternatingOptimizer, features: FeatureMaps, seed: int, epoch: int) -> float:
    """One pass over the training images in an order drawn from (seed, epoch); mean loss per image in nats."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    total = torch.zeros((), dtype=torch.float64)
    for rows in features.batches(torch.randperm(len(features), generator=generator)):
        total += optimizer.step(features.batch(rows), epoch).cpu() * len(rows)
    return float(total) / len(features)


def evaluate(config: Config, epoch: int, density: Density, material: Material) -> dict[str, float]:
    """The metrics that are due after this epoch."""
    metrics: dict[str, float] = {}
    if epoch % config.eval.every == 0:
        metrics |= detection(density, material.test)
    if config.eval.ks_every and epoch % config.eval.ks_every == 0:
        metrics["ks"] = normality(density, material.train)
        metrics["ks_test_good"] = normality(density, material.test.features, material.good)
    return metrics
