"""A run's identity: the hash of everything that can change its numbers; its folder and its name."""

from __future__ import annotations

import functools
import hashlib
import json
import operator
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import Any

from altub_exp.config.compose import backbone_label
from altub_exp.config.schema import LATER, NEUTRAL, Config
from altub_exp.features.packaged import sha256_of, weights_file


def run_path(config: Config, images: str) -> Path:
    """Return ``runs/DATASET/CATEGORY/MODEL-BACKBONE/ALTUB/seedN-HASH``, where HASH is the run's identity.

    Images (by their ``fingerprint``) and weights count by content, not by path, so that another machine finds the run.
    """
    part: dict[str, Any] = asdict(config)
    for name in (*NEUTRAL, *LATER):
        group, _, key = name.rpartition(".")
        within = functools.reduce(operator.getitem, group.split("."), part) if group else part
        if name not in LATER or within[key] == LATER[name]:
            within.pop(key, None)  # not every model has the keys of a rival
    part["dataset"]["files"] = images
    part["backbone"]["weights"] = weights_fingerprint(config.backbone.weights) or config.backbone.weights
    return (
        Path(config.runs_dir)
        / config.dataset.name
        / config.dataset.category
        / f"{config.model.name}-{backbone_label(config.backbone)}"
        / config.altub.name
        / f"seed{config.seed}-{identity(part)}"
    )


def weights_fingerprint(weights: str) -> str | None:
    """Return the SHA-256 of the backbone's weights file, in hex digits; None for ``pretrained`` and ``random``.

    Raises:
        UserError: there is no such file.
    """
    file = weights_file(weights)
    return None if file is None else sha256_of(file)


def run_name(config: Config) -> str:
    """Return the name of a run on the terminal and in MLflow, without the seed."""
    label = backbone_label(config.backbone)
    return f"{config.dataset.name}/{config.dataset.category} {config.model.name}-{label} {config.altub.name}"


def identity(part: Mapping[str, Any]) -> str:
    """Return a hash of eight hex digits over all keys and values, independent of the order of the keys.

    Args:
        part: values that can change a run's numbers: mappings, sequences, enums, strings, numbers, booleans and None.

    Raises:
        TypeError: a value has another type, or a key is not a string.

    >>> identity({"seed": 25, "model": {"lr": 1e-3}}) == identity({"model": {"lr": 0.001}, "seed": 25})
    True
    """
    text = json.dumps(_plain(part), sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return _plain(value.value)
    if isinstance(value, Mapping):
        if wrong := [key for key in value if not isinstance(key, str)]:
            raise TypeError(f"a configuration's keys are strings, not {wrong[0]!r}")
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(item) for item in value]
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise TypeError(f"a configuration holds no {type(value).__name__}: {value!r}")
