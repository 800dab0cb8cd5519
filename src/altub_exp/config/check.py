"""The check of a configuration's values before any work starts."""

from __future__ import annotations

from altub_exp.config.bounds import LARGEST_SIDE, canvas_side, grid
from altub_exp.config.credentials import refuse_credentials
from altub_exp.config.fields import enforce, shortened, undeclared
from altub_exp.config.messages import unknown_key
from altub_exp.config.rivals import check_rival
from altub_exp.config.schema import (
    DATASETS,
    MODELS,
    CFlowConfig,
    Config,
    CSFlowConfig,
    DatasetConfig,
    FastFlowConfig,
    FeatureNorm,
    LearnedBy,
    MSFlowConfig,
    PsiLoss,
)
from altub_exp.errors import UserError


def check(config: Config) -> None:
    """Check that all keys are known, that every value is within its bounds, and that the values fit each other.

    Raises:
        UserError: one does not; the sentence names the key.
    """
    if unknown := next(undeclared(config), None):
        raise UserError(unknown_key(unknown))
    refuse_credentials(config.tracking.uri, "tracking.uri", "MLFLOW_TRACKING_URI")
    enforce(config)
    if MODELS.get(config.model.name) is not type(config.model):
        raise UserError(
            f"model.name={shortened(config.model.name)} is not the name of the chosen model: choose it with model=NAME."
        )
    if DATASETS.get(config.dataset.layout, DatasetConfig) is not type(config.dataset):
        raise UserError(
            f"dataset.layout={config.dataset.layout} is not a layout of the chosen dataset: choose "
            f"dataset={config.dataset.layout}."
        )
    dataset = config.dataset
    side = canvas_side(dataset.image_size, max(grid(dataset.tiles)), dataset.tile_overlap)
    if side > LARGEST_SIDE:
        raise UserError(
            f"dataset.tiles={dataset.tiles} of dataset.image_size={dataset.image_size} make {side} pixels of a side, "
            f"and {LARGEST_SIDE} are the most: set fewer or smaller tiles."
        )
    check_rival(config)
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
    if isinstance(config.model, FastFlowConfig | MSFlowConfig) and config.altub.psi_loss is PsiLoss.objective:
        name = config.model.name
        raise UserError(f"model={name} minimises nats in all epochs: leave altub.psi_loss=objective out.")
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
    if not config.eval.first_epoch <= config.eval.last_epoch <= config.train.epochs:
        raise UserError(
            f"The window of epochs {config.eval.first_epoch} to {config.eval.last_epoch} does not lie within the "
            f"{config.train.epochs} epochs of training: set eval.first_epoch and eval.last_epoch, or leave both out "
            "for the last two thirds."
        )
    if config.eval.last_epoch // config.eval.every * config.eval.every < config.eval.first_epoch:
        raise UserError(
            f"eval.every={config.eval.every} evaluates no epoch of the window {config.eval.first_epoch} to "
            f"{config.eval.last_epoch}: set eval.every=1."
        )
