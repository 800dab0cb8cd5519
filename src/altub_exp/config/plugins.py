"""Flows and base distributions of other packages, found by their entry points in the group ``altub_exp.plugins``.

The value of an entry point names a function without arguments, such as ``my_package:register``, that calls
:func:`add_flow` and :func:`add_base`. It runs at every start, before PyTorch is imported, and should not import it: its
flows and base distributions are named as ``module:attribute`` and imported when they are used.
"""

from __future__ import annotations

import functools
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from altub_exp.config.compose import options
from altub_exp.config.schema import MODELS, ModelConfig
from altub_exp.errors import UserError

GROUP = "altub_exp.plugins"

BASES: dict[str, str] = {}
FLOWS: dict[str, str] = {}
"""The base distributions and the families of flows of the plug-ins: ``module:attribute`` by name."""


def add_base(name: str, base: str) -> None:
    """Offer a base distribution as ``altub=NAME`` (alternating) and as ``altub.base=NAME``.

    Args:
        name: its name.
        base: ``module:attribute`` of the class; called with the latent's shape (C, H, W), see ``docs/extending.md``.

    Raises:
        ValueError: the name is taken.
    """
    _claim("altub", name)
    BASES[name] = base
    node = {"defaults": ["alternating", "_self_"], "name": name, "base": name}
    ConfigStore.instance().store(group="altub", name=name, node=OmegaConf.create(node))


def add_flow(name: str, config: type[ModelConfig], values: Path, family: str) -> None:
    """Offer a flow as ``model=NAME``.

    Args:
        name: its name.
        config: the dataclass of its configuration.
        values: the YAML file with its values; it begins with the defaults ``schema/NAME@_here_`` and ``_self_``, like
            those in ``conf/model/``.
        family: ``module:attribute`` of an :class:`altub_exp.detector.families.Family`.

    Raises:
        ValueError: the name is taken.
        OSError: the YAML file cannot be read.
    """
    _claim("model", name)
    FLOWS[name] = family
    MODELS[name] = config
    store = ConfigStore.instance()
    store.store(group="model/schema", name=name, node=config)
    store.store(group="model", name=name, node=OmegaConf.load(values))


def _claim(group: str, name: str) -> None:
    if name in options(group):
        raise ValueError(f"{group}={name} exists already")


@functools.cache
def discover() -> dict[str, str]:
    """Let the installed plug-ins register themselves, once.

    Returns:
        The versions by distribution.

    Raises:
        UserError: a plug-in fails.
    """
    versions: dict[str, str] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        try:
            point.load()()
        except Exception as error:  # foreign code may raise anything
            raise UserError(
                f"The plug-in {_label(point)} cannot be used ({type(error).__name__}: {error}): repair or uninstall it."
            ) from error
        if point.dist is not None:
            versions[point.dist.name] = point.dist.version
    return versions


def load(target: str) -> Any:
    """Import ``module:attribute``.

    Raises:
        UserError: it cannot be imported.
    """
    module, _, attribute = target.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{target} of a plug-in cannot be imported ({error}): repair or uninstall it.") from error


def _label(point: EntryPoint) -> str:
    return point.name if point.dist is None else f"{point.name} ({point.dist.name} {point.dist.version})"
