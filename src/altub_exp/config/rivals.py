"""Rivals: the systems that anomalib computes in an environment of its own, and the options that they do not have."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from altub_exp.config.compose import conf_dir
from altub_exp.config.fields import fields_of, shortened
from altub_exp.config.schema import (
    Config,
    DraemConfig,
    FeatureNorm,
    OptimisationConfig,
    PatchCoreConfig,
    Precision,
    ProtocolConfig,
    RivalConfig,
)
from altub_exp.errors import UserError

PACKAGE, VERSION = "anomalib", "2.7.0"
"""The package that computes the rivals, as in ``rivals.lock``."""

NO_BACKBONE = "none"
"""The backbone of a system that has none (``backbone=none``)."""

USED = {PatchCoreConfig: ("batch_size",), DraemConfig: ("batch_size", "epochs")}
"""The keys of ``train`` that a system obeys; for the others anomalib has values of its own, those of the protocol."""

HALVINGS = 5
"""The number of times that DRAEM's segmenting network halves its maps, and doubles them again."""


def check_rival(config: Config) -> None:
    """Check that the configuration of a rival has no option that only flows have; return at once for a flow.

    Raises:
        UserError: it has one; the sentence names the key.
    """
    model, name = config.model, f"model={config.model.name}"
    if not isinstance(model, DraemConfig):
        if config.backbone.key == NO_BACKBONE:
            raise UserError(f"{name} needs a backbone, and backbone={NO_BACKBONE} is none: choose another.")
    elif config.backbone.key != NO_BACKBONE:
        raise UserError(f"{name} has no backbone, so backbone={config.backbone.key} has no effect: leave it out.")
    if not isinstance(model, RivalConfig):
        return
    altub, dataset, side = config.altub, config.dataset, 2**HALVINGS
    if altub.base != "fixed" or altub.alternating:
        raise UserError(
            f"altub={altub.name} learns the base distribution of a flow, and {name} has none: set altub=none."
        )
    for key, value, only in (
        ("eval.fitted", config.eval.fitted, False),
        ("precision", config.precision, Precision.float32),
        ("model.feature_norm", model.feature_norm, FeatureNorm.none),
        ("dataset.tiles", dataset.tiles, "1x1"),
        ("dataset.keep_aspect", dataset.keep_aspect, False),
        ("dataset.rotation", dataset.rotation, 0.0),
    ):
        if value != only:
            raise UserError(f"{key}={value} is an option of flows, which {name} does not have: leave it out.")
    protocol = _protocol(model.name)
    for key in fields_of(OptimisationConfig):
        value = getattr(config.train, key)
        if key not in USED[type(model)] and value != protocol[key]:
            raise UserError(
                f"train.{key}={shortened(value)} has no effect on {name}, for which anomalib sets it itself: leave it "
                "out."
            )
    if isinstance(model, DraemConfig):
        if dataset.image_size % side:
            raise UserError(
                f"dataset.image_size={dataset.image_size} is no multiple of {side}, and {name} halves its maps "
                f"{HALVINGS} times: give one, such as {max(1, round(dataset.image_size / side)) * side}."
            )
        if model.textures is not None and not Path(model.textures).expanduser().is_dir():
            raise UserError(
                f"model.textures={model.textures} is not a folder: give one of images, or null for Perlin noise."
            )


def environment(model: RivalConfig) -> Path:
    """Return the Python of the environment that computes a rival.

    Raises:
        UserError: it does not exist.
    """
    python = Path(model.python).expanduser().absolute()
    if not os.access(python, os.X_OK) or python.is_dir():
        raise UserError(
            f"model={model.name} is computed by anomalib in an environment of its own, and model.python={model.python} "
            "does not exist: make it by `make rivals`, or name the Python of that environment."
        )
    return python


@functools.cache
def _protocol(name: str) -> dict[str, Any]:
    written = OmegaConf.load(Path(conf_dir()) / "model" / f"{name}.yaml")
    protocol: Any = OmegaConf.merge(OmegaConf.structured(ProtocolConfig), written.model.protocol)
    return {key: protocol[key] for key in fields_of(OptimisationConfig)}
