"""Composition of a typed configuration from the files of ``conf/``."""

from __future__ import annotations

import operator
from dataclasses import is_dataclass
from pathlib import Path

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from altub_exp.config.fields import fields_of
from altub_exp.config.schema import (
    DATASETS,
    LATER,
    MODELS,
    BackboneConfig,
    CacheConfig,
    Config,
    DatasetConfig,
    ProtocolConfig,
    TrainConfig,
)
from altub_exp.errors import UserError


def conf_dir() -> str:
    """Return the absolute path of the YAML groups: the packaged folder if it exists, otherwise the checkout's."""
    package = Path(__file__).resolve().parents[1]
    packaged = package / "conf"
    return str(packaged if packaged.is_dir() else package.parents[1] / "conf")


def options(group: str) -> list[str]:
    """List the options of a group: the program's own and those of plug-ins."""
    stored = ConfigStore.instance().repo
    for part in group.split("/"):
        stored = stored.get(part, {})
    own = {path.stem for path in (Path(conf_dir()) / group).glob("*.yaml")}
    return sorted(own | {name.removesuffix(".yaml") for name, node in stored.items() if not isinstance(node, dict)})


def backbone_label(backbone: BackboneConfig) -> str:
    """Return the option's name (``r18``), or timm's if ``backbone.name`` was overridden: a label must not mislead.

    The label of a user's own option, or of a ``backbone.key`` on the command line, is the key.
    """
    packaged = Path(conf_dir()) / "backbone" / f"{backbone.key}.yaml"
    name = OmegaConf.select(OmegaConf.load(packaged), "name") if packaged.is_file() else backbone.name
    return backbone.key if name == backbone.name else backbone.name


def image_size(table: dict[str, dict[str, int]], dataset: str, category: str, default: int) -> int:
    """Return the side in pixels that a model's table gives for a category of a dataset, or the default.

    >>> image_size({"mvtec": {"bottle": 512}}, "mvtec", "bottle", 256), image_size({}, "folder", "bottle", 256)
    (512, 256)
    """
    return table.get(dataset, {}).get(category, default)


def left_out(group: str) -> UserError:
    """Return the error for a group of which no option is chosen."""
    choices = options(group)
    return UserError(
        f"{group} cannot be left out or null: " + (f"choose one of {', '.join(choices)}." if choices else "keep it.")
    )


def typed(composed: DictConfig) -> Config:
    """Return the typed configuration of a composed one, without Hydra's own part.

    Raises:
        UserError: a group is missing, or a value refers to itself.
        OmegaConfBaseException: a value is missing or has another type.
    """
    for name, field in fields_of(Config).items():
        if is_dataclass(field.kind) and (OmegaConf.is_missing(composed, name) or composed.get(name) is None):
            raise left_out(name)
    try:
        config = OmegaConf.to_object(composed)
    except RecursionError as error:
        raise UserError("A value of the configuration refers to itself: give one of them.") from error
    assert isinstance(config, Config)
    return config


def load_config(file: Path) -> Config:
    """Read the configuration file of a run, complete it if an earlier version wrote it, and check its types.

    Raises:
        UserError: the file is damaged, or was written by another version.
    """
    try:
        written = OmegaConf.load(file)
        schema = OmegaConf.structured(Config)
        schema.model = OmegaConf.structured(MODELS[written.model.name])
        schema.model.protocol = OmegaConf.structured(ProtocolConfig)
        schema.train = OmegaConf.structured(TrainConfig)
        schema.backbone = OmegaConf.structured(BackboneConfig)
        schema.dataset = OmegaConf.structured(DATASETS.get(written.dataset.layout, DatasetConfig))
        for name, value in LATER.items():
            OmegaConf.update(schema, name, value)
        config = OmegaConf.to_object(OmegaConf.merge(schema, written))
    except (OSError, YAMLError, KeyError, AttributeError, OmegaConfBaseException) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{file} is not the configuration of a run of this version ({reason}).") from error
    assert isinstance(config, Config)
    return config


def cache_defaults() -> CacheConfig:
    """Return the defaults of the feature cache in ``conf/train.yaml``."""
    declared = OmegaConf.load(Path(conf_dir()) / "train.yaml")
    return CacheConfig(**OmegaConf.select(declared, "cache"))


def register_schema() -> None:
    """Register the dataclasses with Hydra, and the resolvers that ``conf/`` uses."""
    # Hydra 1.3 copies its whole store for each group that it lists or loads, although it only reads it. This takes most
    # of the time of --help. A test fails once the installed Hydra no longer does so; then remove this line.
    ConfigStore.__deepcopy__ = lambda store, memo: store  # type: ignore[attr-defined]
    store = ConfigStore.instance()
    store.store(group="schema", name="root", node=Config, package="_global_")
    for name, schema in MODELS.items():
        store.store(group="model/schema", name=name, node=schema)
    for name, layout in DATASETS.items():
        store.store(group="dataset/schema", name=name, node=layout)
    OmegaConf.register_new_resolver("window_start", lambda epochs, part: max(1, epochs // part), replace=True)
    OmegaConf.register_new_resolver("equal", operator.eq, replace=True)
    OmegaConf.register_new_resolver("both", lambda one, other: [item for item in one if item in other], replace=True)
    OmegaConf.register_new_resolver("image_size", image_size, replace=True)
    OmegaConf.register_new_resolver("lookup", lambda table, key, default: table.get(key, default), replace=True)
