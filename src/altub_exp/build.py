"""The parts of a run, made as the configuration says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from altub_exp import plugins
from altub_exp.altub import AlternatingOptimizer, Alternation
from altub_exp.base import BASES
from altub_exp.config import (
    CFlowConfig,
    Clip,
    ClipPhase,
    Config,
    CSFlowConfig,
    Device,
    FastFlowConfig,
    FeatureNorm,
    Optimizers,
    Precision,
)
from altub_exp.density import Density
from altub_exp.errors import UserError
from altub_exp.features.backbone import Backbone
from altub_exp.flows.cflow import CFlow
from altub_exp.flows.csflow import CSFlow
from altub_exp.flows.fastflow import FastFlow
from altub_exp.flows.latent import Shape
from altub_exp.learner import FibreLearner, ImageLearner, Learner
from altub_exp.precision import allow_tf32
from altub_exp.schedule import LearningRate
from altub_exp.scoring import CrossScaleEnergy, FibreProbability, LikelihoodMap, Scoring


@dataclass(frozen=True)
class Family:
    """What a flow needs beside itself.

    Attributes:
        flow: its configuration (a :class:`~altub_exp.config.ModelConfig` of its own) and the shapes of the feature maps
            → the flow.
        scoring: its configuration → how it scores.
        learner: how it learns from a batch.
    """

    flow: Callable[[Any, Sequence[Shape]], nn.Module]
    scoring: Callable[[Any], Scoring] = lambda model: LikelihoodMap()
    learner: Callable[[Any, Density, AlternatingOptimizer, LearningRate], Learner] = (
        lambda model, density, optimizer, rate: ImageLearner(density, optimizer, rate)
    )


def _fastflow(model: FastFlowConfig, shapes: Sequence[Shape]) -> nn.Module:
    return FastFlow(
        shapes,
        steps=model.steps,
        conv3x3_only=model.conv3x3_only,
        hidden_ratio=model.hidden_ratio,
        affine_clamping=model.affine_clamping,
        feature_norm=model.feature_norm,
        output_norm=model.output_norm,
    )


def _cflow(model: CFlowConfig, shapes: Sequence[Shape]) -> nn.Module:
    return CFlow(
        shapes,
        steps=model.steps,
        condition_channels=model.condition_channels,
        hidden_ratio=model.hidden_ratio,
        affine_clamping=model.affine_clamping,
        permute_soft=model.permute_soft,
    )


def _csflow(model: CSFlowConfig, shapes: Sequence[Shape]) -> nn.Module:
    return CSFlow(
        shapes,
        steps=model.steps,
        hidden_channels=model.hidden_channels,
        kernel_size=model.kernel_size,
        last_kernel_size=model.last_kernel_size,
        affine_clamping=model.affine_clamping,
        feature_norm=model.feature_norm,
    )


def _fibre_learner(
    model: CFlowConfig, density: Density, optimizer: AlternatingOptimizer, rate: LearningRate
) -> Learner:
    return FibreLearner(density, optimizer, rate, fibre_batch=model.fibre_batch)


FAMILIES: dict[str, Family] = {
    "fastflow": Family(_fastflow),
    "cflow": Family(_cflow, lambda model: FibreProbability(model.score_reference), _fibre_learner),
    "csflow": Family(
        _csflow,
        lambda model: CrossScaleEnergy(),
        lambda model, density, optimizer, rate: ImageLearner(density, optimizer, rate, per_dimension=True),
    ),
}


def family(config: Config) -> Family:
    """The family of the model that the configuration names.

    Raises:
        UserError: there is none of that name.
    """
    return cast("Family", _find("model.name", config.model.name, FAMILIES, plugins.FLOWS))


def base(config: Config) -> Callable[[Shape], nn.Module]:
    """What makes the base distribution that the configuration names, from the shape (C, H, W) of a latent.

    Raises:
        UserError: there is none of that name.
    """
    return cast("Callable[[Shape], nn.Module]", _find("altub.base", config.altub.base, BASES, plugins.BASES))


def _find(key: str, name: str, own: Mapping[str, Any], of_plugins: Mapping[str, str]) -> Any:
    if name in own:
        return own[name]
    if name in of_plugins:
        return plugins.load(of_plugins[name])
    raise UserError(f"{key}={name} is not known: choose one of {', '.join([*own, *of_plugins])}.")


def build_backbone(config: Config) -> Backbone:
    """The frozen feature extractor that the configuration names."""
    return Backbone(
        config.backbone.name,
        config.backbone.stages,
        weights=config.backbone.weights,
        final_norm=config.model.feature_norm is FeatureNorm.pretrained,
        seed=config.seed,
    )


def build_density(config: Config, shapes: Sequence[Shape]) -> Density:
    """The flow and the base distributions that the configuration names, for feature maps of these shapes."""
    flow = family(config).flow(config.model, shapes)
    bases = [base(config)(shape) for shape in flow.shapes]  # type: ignore[union-attr]
    return Density(flow, bases, autocast=torch.bfloat16 if config.precision is Precision.bf16 else None)


def build_learner(config: Config, density: Density) -> Learner:
    """The optimizers and the schedules that the configuration names."""
    train, altub = config.train, config.altub
    alternates = altub.alternating and altub.base != "fixed"
    optimizers = config.model.optimizers if isinstance(config.model, CFlowConfig) else None
    optimizer = AlternatingOptimizer(
        density.parts(per_scale=optimizers is Optimizers.per_decoder),
        lr=train.lr,
        weight_decay=train.weight_decay,
        psi_weight_decay=altub.psi_weight_decay,
        alternation=Alternation(altub.freezing_interval if alternates else None, altub.count_from, altub.idle_epochs),
        max_lr=altub.max_lr,
        momentum=altub.momentum,
        clip=altub.clip,
        clip_value=altub.clip_value,
        clip_jointly=altub.clip_phase is ClipPhase.every and altub.clip is not Clip.none,
        betas=(train.betas[0], train.betas[1]),
        eps=train.eps,
        grad_norm=train.grad_norm,
        keep_gradients=optimizers is Optimizers.joint,
    )
    rate = LearningRate(train.lr, train.final_lr, train.epochs, train.cycle, train.warmup_epochs)
    return family(config).learner(config.model, density, optimizer, rate)


def prepare_device(
    wanted: Device, threads: int | None = None, precision: Precision = Precision.float32
) -> torch.device:
    """The device that was asked for, with TF32 only where ``precision`` says so, and on the CPU with so many threads.

    Raises:
        UserError: CUDA was asked for and there is none, or TF32, which a CPU does not have.
    """
    available = torch.cuda.is_available()
    if wanted is Device.cuda and not available:
        raise UserError("device=cuda was asked for, but PyTorch finds no CUDA device here: set device=cpu or auto.")
    if threads is not None:
        torch.set_num_threads(threads)
    device = torch.device("cuda" if available and wanted is not Device.cpu else "cpu")
    if precision is Precision.tf32 and device.type != "cuda":
        raise UserError(
            "precision=tf32 has no effect on a CPU: set precision=float32, or device=cuda where there is one."
        )
    allow_tf32(precision is Precision.tf32)
    return device


def seed_everything(seed: int) -> None:
    """Seed PyTorch, and numpy's global generator, from which FrEIA draws the permutations."""
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002
