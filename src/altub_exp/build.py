"""The parts of a run, made as the configuration says."""

from __future__ import annotations

import numpy as np
import torch

from altub_exp.altub import AlternatingOptimizer, Alternation
from altub_exp.base import BASES
from altub_exp.config import Base, Clip, ClipPhase, Config, Device, FastFlowConfig
from altub_exp.density import Density
from altub_exp.errors import UserError
from altub_exp.flows.fastflow import FastFlow
from altub_exp.flows.latent import Shape


def build_density(config: Config, shapes: list[Shape]) -> Density:
    """The flow and the base distributions that the configuration names."""
    model = config.model
    if not isinstance(model, FastFlowConfig):
        raise UserError(f"model={model.name} is not known: choose fastflow.")
    flow = FastFlow(
        shapes,
        steps=model.steps,
        conv3x3_only=model.conv3x3_only,
        hidden_ratio=model.hidden_ratio,
        affine_clamping=model.affine_clamping,
        feature_norm=model.feature_norm,
        output_norm=model.output_norm,
    )
    return Density(flow, [BASES[config.altub.base](shape) for shape in shapes])


def build_optimizer(config: Config, density: Density) -> AlternatingOptimizer:
    """The optimizers and the schedule that the configuration names."""
    altub = config.altub
    alternates = altub.alternating and altub.base is not Base.fixed
    return AlternatingOptimizer(
        density,
        lr=config.train.lr,
        weight_decay=config.train.weight_decay,
        psi_weight_decay=altub.psi_weight_decay,
        alternation=Alternation(altub.freezing_interval if alternates else None, altub.count_from),
        max_lr=altub.max_lr,
        momentum=altub.momentum,
        clip=altub.clip,
        clip_value=altub.clip_value,
        clip_jointly=altub.clip_phase is ClipPhase.every and altub.clip is not Clip.none,
    )


def choose_device(wanted: Device) -> torch.device:
    """The device that was asked for.

    Raises:
        UserError: CUDA was asked for and there is none.
    """
    available = torch.cuda.is_available()
    if wanted is Device.cuda and not available:
        raise UserError("device=cuda was asked for, but PyTorch finds no CUDA device here: set device=cpu or auto.")
    return torch.device("cuda" if available and wanted is not Device.cpu else "cpu")


def seed_everything(seed: int) -> None:
    """Seed PyTorch, and numpy's global generator, from which FrEIA draws the permutations."""
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002
