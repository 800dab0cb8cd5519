"""The check of a configuration's values before any work starts."""

from __future__ import annotations

from altub_exp.config.credentials import refuse_credentials
from altub_exp.config.schema import (
    CFlowConfig,
    Config,
    CSFlowConfig,
    FastFlowConfig,
    FeatureNorm,
    LearnedBy,
    PsiLoss,
)
from altub_exp.errors import UserError


def check(config: Config) -> None:
    """Check that the values can work.

    Raises:
        UserError: a value is out of its range; the sentence names the key.
    """
    refuse_credentials(config.tracking.uri, "tracking.uri", "MLFLOW_TRACKING_URI")
    at_least = {
        "train.epochs": (config.train.epochs, 1),
        "train.batch_size": (config.train.batch_size, 1),
        "train.cycle": (config.train.cycle, 1),
        "train.warmup_epochs": (config.train.warmup_epochs, 0),
        "eval.every": (config.eval.every, 1),
        "eval.ks_every": (config.eval.ks_every, 0),
        "eval.first_epoch": (config.eval.first_epoch, 1),
        "dataset.image_size": (config.dataset.image_size, 16),
        "dataset.rotation": (config.dataset.rotation, 0),
        "altub.freezing_interval": (config.altub.freezing_interval, 2),
        "altub.idle_epochs": (config.altub.idle_epochs, 0),
        "seed": (config.seed, 0),
        "threads": (config.threads if config.threads is not None else 1, 1),
    }
    for key, (value, least) in at_least.items():
        if value < least:
            raise UserError(f"{key}={value} is too small: give at least {least}.")
    if config.dataset.bit_depth is not None and not 8 <= config.dataset.bit_depth <= 16:
        raise UserError(f"dataset.bit_depth={config.dataset.bit_depth}: 16-bit images hold values of 8 to 16 bits.")
    if not config.latent_memory_gb > 0:
        raise UserError(f"latent_memory_gb={config.latent_memory_gb} is too small: give a number above 0.")
    if not config.cache.max_gb > 0:
        raise UserError(f"cache.max_gb={config.cache.max_gb} is too small: give a number above 0, or cache.dir=null.")
    if config.cache.dir is not None and config.cache.dir.lower() in ("", "false", "none", "off"):
        raise UserError(f"cache.dir={config.cache.dir} is not a folder: give one, or cache.dir=null for no cache.")
    for key, rate in {"train.lr": config.train.lr, "altub.max_lr": config.altub.max_lr}.items():
        if not rate > 0:
            raise UserError(f"{key}={rate} is not a learning rate: give a number above 0.")
    if not 0 < config.train.final_lr <= 1:
        raise UserError(f"train.final_lr={config.train.final_lr} is a fraction of train.lr: give one above 0, up to 1.")
    if isinstance(config.model, CFlowConfig) and config.model.condition_channels % 4:
        raise UserError(
            f"model.condition_channels={config.model.condition_channels}: sine and cosine of two coordinates need a "
            "multiple of 4."
        )
    if isinstance(config.model, CFlowConfig) and config.model.feature_norm not in (
        FeatureNorm.none,
        FeatureNorm.pretrained,
    ):
        raise UserError(
            f"model.feature_norm={config.model.feature_norm} normalises whole maps, but CFLOW-AD reads single "
            "positions: set model.feature_norm=none, or pretrained for a transformer's own norm."
        )
    if isinstance(config.model, CSFlowConfig):
        for key in ("kernel_size", "last_kernel_size"):
            size = getattr(config.model, key)
            if size % 2 == 0:
                raise UserError(f"model.{key}={size} would change the size of the maps: give an odd number.")
    if isinstance(config.model, FastFlowConfig) and config.altub.psi_loss is PsiLoss.objective:
        raise UserError("model=fastflow minimises nats in all epochs: leave altub.psi_loss=objective out.")
    if config.altub.learned_by is LearnedBy.moments and config.altub.alternating:
        raise UserError(
            "altub.learned_by=moments fits ψ after the training, in which no epoch can move it: set "
            "altub.alternating=false."
        )
    if config.eval.fitted and config.altub.base != "fixed":
        raise UserError(
            f"eval.fitted=true fits ψ where none is learned, and altub.base={config.altub.base} learns it: set "
            "altub=none, or leave eval.fitted out."
        )
    if config.altub.count_from not in (0, 1):
        raise UserError(f"altub.count_from={config.altub.count_from}: epochs are counted from 1 (the default) or 0.")
    if not config.eval.first_epoch <= config.eval.last_epoch <= config.train.epochs:
        raise UserError(
            f"The window of epochs {config.eval.first_epoch} to {config.eval.last_epoch} does not lie within the "
            f"{config.train.epochs} epochs of training: set eval.first_epoch and eval.last_epoch, or leave both out "
            "for the last two thirds."
        )
    if not any(e % config.eval.every == 0 for e in range(config.eval.first_epoch, config.eval.last_epoch + 1)):
        raise UserError(
            f"eval.every={config.eval.every} evaluates no epoch of the window {config.eval.first_epoch} to "
            f"{config.eval.last_epoch}: set eval.every=1."
        )
