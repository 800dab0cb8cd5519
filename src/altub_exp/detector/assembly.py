"""Construction of a run's parts from its configuration."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import torch

from altub_exp.config.schema import (
    AltubConfig,
    CFlowConfig,
    Clip,
    ClipPhase,
    Config,
    DifferNetConfig,
    FeatureNorm,
    FreezingUnit,
    Idle,
    LearnedBy,
    MSFlowConfig,
    Optimizers,
    Precision,
    WarmupUnit,
)
from altub_exp.data import ImageSet
from altub_exp.data.canvas import Canvas
from altub_exp.data.images import ImageFiles
from altub_exp.detector.families import base, family
from altub_exp.features.backbone import Backbone
from altub_exp.features.cache import FeatureCache
from altub_exp.features.cache_key import WeightsSource, image_facts, model_facts
from altub_exp.features.extraction import LateBackbone
from altub_exp.features.maps import FeatureMaps
from altub_exp.features.passes import Passes
from altub_exp.features.recipe_cache import RecipeCache, open_recipe
from altub_exp.flows.flow import AutocastFlow, Shape
from altub_exp.machine.cuda_graphs import cuda_graphs_for
from altub_exp.machine.terminal import log
from altub_exp.method.base import LearnedNormal
from altub_exp.method.density import Density
from altub_exp.method.learner import Learner
from altub_exp.method.learning_rate import LearningRate
from altub_exp.method.optimizer import AlternatingOptimizer, parts_of
from altub_exp.method.schedule import PHASES, Alternation


def passes_of(config: Config) -> Passes:
    """Return the passes of an image through the backbone: its sizes are the backbone's, the rest is the model's."""
    divisors = tuple(config.backbone.input_divisors)
    if isinstance(config.model, DifferNetConfig):
        return Passes(divisors, config.model.rotations, pooled=True)
    return Passes(divisors, halved=isinstance(config.model, MSFlowConfig))


def build_backbone(config: Config) -> Backbone:
    """Make the frozen feature extractor of the configuration."""
    return Backbone(
        config.backbone.name,
        config.backbone.stages,
        weights=config.backbone.weights,
        final_norm=config.model.feature_norm is FeatureNorm.pretrained,
        extra_blocks=config.backbone.extra_blocks,
        passes=passes_of(config),
        seed=config.seed,
    )


def build_features(
    config: Config, images: ImageSet, device: torch.device, weights_sha256: str | None
) -> tuple[FeatureMaps, FeatureMaps]:
    """Make the feature maps of the tiles of training and test images.

    The backbone is built only if the cache lacks a map.

    Without test images the second ones are the first.

    Raises:
        UserError: weights or images cannot be read, or do not fit.
    """
    backbone = LateBackbone(lambda: build_backbone(config).to(device))
    canvas = Canvas.of(config.dataset)
    cache = None if config.cache.dir is None else open_cache(config, backbone, device, weights_sha256)
    parts = []
    sets = [(images.train, config.dataset.rotation), *([(images.test, 0.0)] if images.test else [])]
    for samples, rotation in sets:
        files = ImageFiles(samples, canvas, config.dataset.interpolation, config.dataset.bit_depth)
        names = [] if cache is None else tile_names([images.digests[sample.image] for sample in samples], canvas)
        files.decode([row for row in range(len(files)) if rotation or cache is None or not cache.has(names[row])])
        parts.append((files, rotation, None if cache is None else functools.partial(cache.lease, names)))
    kept = sum(len(files) for files, rotation, _ in parts if not rotation) or len(parts[0][0])
    feature_maps = [
        FeatureMaps(
            backbone,
            files,
            batch_size=config.train.batch_size,
            device=device,
            memory_gb=config.feature_memory_gb * len(files) / kept,
            rotation=rotation,
            rotations=passes_of(config).rotations,
            drawn=config.model.train_rotations if isinstance(config.model, DifferNetConfig) else 1,
            lease=lease,
        )
        for files, rotation, lease in parts
    ]
    return feature_maps[0], feature_maps[-1]


def tile_names(digests: Sequence[str], canvas: Canvas) -> list[str]:
    """Return the names of the tiles of images, which are named by the SHA-256 of their files, in the feature cache.

    >>> tile_names(["0a", "1b"], Canvas(32)), tile_names(["0a"], Canvas(32, columns=2))
    (['0a', '1b'], ['0a-0', '0a-1'])
    """
    if canvas.tiles == 1:
        return list(digests)
    return [f"{digest}-{number}" for digest in digests for number in range(canvas.tiles)]


def open_cache(
    config: Config, backbone: LateBackbone, device: torch.device, weights_sha256: str | None
) -> RecipeCache | None:
    """Open the run's features in the cache; return None, with a warning, if the cache cannot be used."""
    final_norm = config.model.feature_norm is FeatureNorm.pretrained
    extra_blocks = config.backbone.extra_blocks
    model = model_facts(config.backbone.name, config.backbone.stages, final_norm, device, extra_blocks=extra_blocks)
    weights = WeightsSource(config.backbone.weights, config.seed, config.backbone.name, weights_sha256)
    assert config.cache.dir is not None
    cache = FeatureCache(Path(config.cache.dir).expanduser(), config.cache.max_gb)
    facts = image_facts(config.dataset.image_size, config.dataset.interpolation, config.dataset.bit_depth)
    facts |= Canvas.of(config.dataset).facts() | passes_of(config).facts()
    try:
        return open_recipe(cache, model, facts, weights, backbone)
    except OSError as error:
        log.warning("The feature cache cannot be used (%s): continuing without it.", error)
        return None


def build_density(config: Config, shapes: Sequence[Shape]) -> Density:
    """Make the flow and the base distributions of the configuration for feature maps of these shapes."""
    flow = family(config.model.name).flow(config.model, shapes)
    bases = [base(config.altub.base)(shape) for shape in flow.shapes]
    return Density(AutocastFlow(flow, torch.bfloat16) if config.precision is Precision.bf16 else flow, bases)


def build_fitted(config: Config, density: Density) -> Density | None:
    """Make a density of the same flow whose ψ can be fitted to its latents; None if the configuration asks for none."""
    if not (config.eval.fitted or config.altub.learned_by is LearnedBy.moments):
        return None
    psi = LearnedNormal if config.eval.fitted else base(config.altub.base)
    return Density(density.flow, [psi(shape) for shape in density.flow.shapes]).to(next(density.parameters()).device)


def alternation(altub: AltubConfig, cycle: int) -> Alternation:
    """Return the schedule of ψ; ``cycle`` is ``train.cycle``."""
    learned = {LearnedBy.adam: "joint", LearnedBy.sgd: "constant", LearnedBy.moments: "theta_only"}
    joint = PHASES[learned[altub.learned_by]]
    return Alternation(
        altub.freezing_interval if altub.alternating and altub.base != "fixed" else None,
        altub.count_from,
        altub.idle_epochs,
        cycle if altub.freezing_unit is FreezingUnit.cycle else 1,
        joint,
        joint if altub.idle is Idle.joint else PHASES["theta_only"],
    )


def build_learner(config: Config, density: Density) -> Learner:
    """Make the learner with the optimizers and schedules of the configuration."""
    train, altub = config.train, config.altub
    optimizers = config.model.optimizers if isinstance(config.model, CFlowConfig) else None
    device = next(density.parameters()).device
    parts = parts_of(density, per_scale=optimizers is not None)
    if optimizers is Optimizers.joint and sum(len(theta) for theta, _ in parts) < len(parts_of(density)[0][0]):
        parts = parts_of(density)  # the flow of a plug-in has parameters outside of its scales
    optimizer = AlternatingOptimizer(
        parts,
        lr=train.lr,
        weight_decay=train.weight_decay,
        psi_weight_decay=altub.psi_weight_decay,
        alternation=alternation(altub, train.cycle),
        max_lr=altub.max_lr,
        momentum=altub.momentum,
        clip=altub.clip,
        clip_value=altub.clip_value,
        clip_jointly=altub.clip_phase is ClipPhase.every and altub.clip is not Clip.none,
        betas=(train.betas[0], train.betas[1]),
        eps=train.eps,
        grad_norm=train.grad_norm,
        keep_gradients=optimizers is Optimizers.joint,
        kernel=config.cuda_graphs,
        graphs=cuda_graphs_for(device, (density.flow, *density.bases)) if config.cuda_graphs else None,
    )
    rate = LearningRate(
        train.lr,
        train.final_lr,
        train.epochs,
        train.cycle,
        train.warmup_epochs,
        by_epoch=train.warmup_unit is WarmupUnit.epoch,
        milestones=tuple(train.milestones),
        factor=train.milestone_factor,
    )
    return family(config.model.name).learner(config.model, density, optimizer, rate, altub.psi_loss)
