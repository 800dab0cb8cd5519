"""The kinds of flows and base distributions, this package's and those of plug-ins, by their names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from torch import nn

from altub_exp.config import plugins
from altub_exp.config.rivals import environment
from altub_exp.config.schema import Config, LearnedBy, RivalConfig
from altub_exp.errors import UserError
from altub_exp.flows.cflow import CFlow
from altub_exp.flows.csflow import CSFlow
from altub_exp.flows.differnet import DifferNet
from altub_exp.flows.fastflow import FastFlow
from altub_exp.flows.flow import Flow, Shape
from altub_exp.flows.msflow import MSFlow
from altub_exp.method.base import BASES, reach_of
from altub_exp.method.density import Density
from altub_exp.method.learner import FibreLearner, ImageLearner, Learner
from altub_exp.method.learning_rate import LearningRate
from altub_exp.method.optimizer import AlternatingOptimizer
from altub_exp.method.scoring import (
    CrossScaleEnergy,
    FibreProbability,
    ImageEnergy,
    LikelihoodMap,
    Scoring,
    SumAndProduct,
)


@dataclass(frozen=True)
class Family:
    """A kind of flow with its scoring and its learner.

    Attributes:
        flow: makes the flow from its configuration (a subclass of ModelConfig) and the shapes of the feature maps.
        scoring: makes the scoring from the configuration.
        learner: makes the learner from configuration, density, optimizer, learning rate and ``altub.psi_loss``.
        fibres: True if the learner trains on single positions.
    """

    flow: Callable[[Any, Sequence[Shape]], Flow]
    scoring: Callable[[Any], Scoring] = lambda model: LikelihoodMap()
    learner: Callable[[Any, Density, AlternatingOptimizer, LearningRate, str], Learner] = (
        lambda model, density, optimizer, rate, psi_loss: ImageLearner(density, optimizer, rate, psi_loss=psi_loss)
    )
    fibres: bool = False


def _built(flow: Callable[..., Flow], *keys: str) -> Callable[[Any, Sequence[Shape]], Flow]:
    """Return the builder of a flow whose options are these keys of its configuration."""
    return lambda model, shapes: flow(shapes, **{key: getattr(model, key) for key in keys})


BLOCKS = ("steps", "affine_clamping")

FAMILIES: dict[str, Family] = {
    "fastflow": Family(
        _built(FastFlow, *BLOCKS, "conv3x3_only", "hidden_ratio", "feature_norm", "output_norm"),
    ),
    "cflow": Family(
        _built(CFlow, *BLOCKS, "condition_channels", "hidden_ratio", "permute_soft"),
        lambda model: FibreProbability(model.score_reference),
        lambda model, density, optimizer, rate, psi_loss: FibreLearner(
            density, optimizer, rate, fibre_batch=model.fibre_batch, psi_loss=psi_loss
        ),
        fibres=True,
    ),
    "csflow": Family(
        _built(CSFlow, *BLOCKS, "hidden_channels", "kernel_size", "last_kernel_size", "feature_norm"),
        lambda model: CrossScaleEnergy(),
        lambda model, density, optimizer, rate, psi_loss: ImageLearner(
            density, optimizer, rate, per_dimension=True, psi_loss=psi_loss
        ),
    ),
    "differnet": Family(
        _built(DifferNet, *BLOCKS, "hidden_features", "feature_norm"),
        lambda model: ImageEnergy(model.rotations),
        lambda model, density, optimizer, rate, psi_loss: ImageLearner(
            density, optimizer, rate, per_dimension=True, psi_loss=psi_loss
        ),
    ),
    "msflow": Family(
        _built(MSFlow, *BLOCKS, "asymmetry", "condition_channels", "hidden_ratio", "fusion_ratio", "feature_norm"),
        lambda model: SumAndProduct(model.top_share),
    ),
}


def family(name: str) -> Family:
    """Return the family of flows with this name (``model.name``).

    Raises:
        UserError: there is no family of that name.
    """
    return cast("Family", _find("model.name", name, FAMILIES, plugins.FLOWS))


def base(name: str) -> Callable[[Shape], nn.Module]:
    """Return the factory of the base distribution with this name (``altub.base``); it takes a latent's (C, H, W).

    Raises:
        UserError: there is no base distribution of that name.
    """
    return cast("Callable[[Shape], nn.Module]", _find("altub.base", name, BASES, plugins.BASES))


def check_parts(config: Config) -> None:
    """Check that flow and base distribution exist and fit each other, or that a rival has its environment.

    Raises:
        UserError: they do not; the sentence names the key.
    """
    if isinstance(config.model, RivalConfig):
        environment(config.model)
        return
    flow, psi, name = family(config.model.name), base(config.altub.base), config.altub.base
    if flow.fibres and reach_of(psi).z:
        raise UserError(
            f"altub.base={name} reads the latents around a position, and model={config.model.name} trains on single "
            "positions: choose another base distribution or model."
        )
    if config.altub.learned_by is LearnedBy.moments and not hasattr(psi, "fit"):
        raise UserError(
            f"altub.base={name} cannot be fitted to the latents: choose learned, channelwise, shifted or scaled."
        )


def _find(key: str, name: str, own: Mapping[str, Any], of_plugins: Mapping[str, str]) -> Any:
    if name in own:
        return own[name]
    if name in of_plugins:
        return plugins.load(of_plugins[name])
    raise UserError(f"{key}={name} is not known: choose one of {', '.join([*own, *of_plugins])}.")
