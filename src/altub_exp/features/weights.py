"""Fetches pretrained weights of backbones before the runs, into the cache of the Hugging Face hub that these read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir

from altub_exp.config.compose import conf_dir, options, register_schema
from altub_exp.config.plugins import discover
from altub_exp.errors import UserError, did_you_mean
from altub_exp.features.backbone import create, licence
from altub_exp.text import say


def fetch_weights(keys: Sequence[str]) -> None:
    """Fetch the weights of backbone configurations, and print where they lie.

    Args:
        keys: options of the group ``backbone``.

    Raises:
        UserError: there is no such backbone, or its weights cannot be fetched.
    """
    discover()
    register_schema()
    known = options("backbone")
    for key in keys:
        if key not in known:
            raise UserError(
                f"There is no backbone {key!r}{did_you_mean(key, known)}: choose one of {', '.join(known)}."
            )
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        backbones = {key: compose("train", [f"backbone={key}", "dataset.category=any"]).backbone for key in keys}
    from huggingface_hub import constants  # after the parser and the keys: it takes a while

    for key, backbone in backbones.items():
        if backbone.weights != "pretrained":
            say(f"{key}: needs no weights from the hub (backbone.weights={backbone.weights})")
            continue
        model: Any = create(backbone.name, fetch=True, seed=0)
        repository = model.pretrained_cfg.get("hf_hub_id")
        folder = cache_folder(repository) if repository else Path(torch.hub.get_dir(), "checkpoints")
        files = (folder / "blobs").glob("*") if repository else [folder / Path(model.pretrained_cfg["url"]).name]
        size = sum(file.stat().st_size for file in files)
        say(f"{key}: {backbone.name}, {size / 1e6:.0f} MB in {folder}, licence {licence(backbone.name)}")
    say(f"Compute nodes without network find them with HF_HOME={constants.HF_HOME} HF_HUB_OFFLINE=1")


def cache_folder(repository: str) -> Path:
    """Return the folder of a repository's files in the hub's cache."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repository, repo_type="model")
