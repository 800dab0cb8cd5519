"""The typed configuration: one dataclass per group. Values stand in ``conf/`` alone; here are the names and types."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from altub_exp.errors import UserError


class FeatureNorm(StrEnum):
    """What normalises the feature maps before they enter the flow (method: LayerNorm([C, H, W]) or the backbone's)."""

    trainable = "trainable"
    nonaffine = "nonaffine"
    pretrained = "pretrained"
    none = "none"


class OutputNorm(StrEnum):
    """What normalises the latents behind the flow."""

    none = "none"
    layernorm = "layernorm"


class Levels(StrEnum):
    """Which feature maps of a backbone a model reads: of a ResNet, layers 1 to 3 or layers 2 to 4."""

    early = "early"
    late = "late"


class ScoreReference(StrEnum):
    """Over which images CFLOW-AD takes the largest likelihood of each scale."""

    test = "test"
    train = "train"


class Optimizers(StrEnum):
    """How the decoders of CFLOW-AD are optimised: by one Adam that moves all in every step, or by one each."""

    joint = "joint"
    per_decoder = "per_decoder"


class Clip(StrEnum):
    """How the gradient of ψ is clipped."""

    value = "value"
    norm = "norm"
    none = "none"


class ClipPhase(StrEnum):
    """In which steps the gradient of ψ is clipped."""

    psi_only = "psi_only"
    every = "every"


class Layout(StrEnum):
    """How a dataset lies on disk."""

    mvtec = "mvtec"
    btad = "btad"
    visa = "visa"
    folder = "folder"
    synthetic = "synthetic"


class Interpolation(StrEnum):
    """How images are resized to the square input; ``bilinear`` takes two taps, the other two average (antialias)."""

    bilinear = "bilinear"
    antialias = "antialias"
    lanczos = "lanczos"


class Device(StrEnum):
    """Where tensors live; ``auto`` takes CUDA where there is one."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Precision(StrEnum):
    """Of the flow's convolutions and matrix products; the rest, backbone and log-determinant included, is float32."""

    float32 = "float32"
    tf32 = "tf32"
    bf16 = "bf16"


class Resume(StrEnum):
    """Whether a half-finished run goes on from its checkpoint or is put aside and started over."""

    auto = "auto"
    never = "never"


@dataclass
class ProtocolConfig:
    """What ``train``, ``eval``, ``dataset``, ``backbone`` and ``altub`` take from the model, unless told otherwise."""

    epochs: int
    cycle: int
    first_epoch: int
    batch_size: int
    drop_last: bool
    lr: float
    final_lr: float
    warmup_epochs: int
    weight_decay: float
    betas: list[float]
    eps: float
    grad_norm: float | None
    psi_clip: Clip
    levels: Levels
    image_sizes: dict[str, dict[str, int]]
    interpolation: Interpolation
    rotation: float


@dataclass
class ModelConfig:
    """The flow. Each ``conf/model/*.yaml`` has its own dataclass that extends this one."""

    name: str
    feature_norm: FeatureNorm
    protocol: ProtocolConfig


@dataclass
class FastFlowConfig(ModelConfig):
    """FastFlow: one sequence of coupling blocks with convolutional subnets per scale."""

    steps: int
    conv3x3_only: bool
    hidden_ratio: float
    affine_clamping: float
    output_norm: OutputNorm


@dataclass
class CFlowConfig(ModelConfig):
    """CFLOW-AD: one decoder per scale for the vectors of single positions, conditioned on where they are."""

    steps: int
    condition_channels: int
    hidden_ratio: float
    affine_clamping: float
    permute_soft: bool
    fibre_batch: int
    optimizers: Optimizers
    score_reference: ScoreReference


@dataclass
class CSFlowConfig(ModelConfig):
    """CS-Flow: coupling blocks over all scales at once, whose subnets exchange between neighbouring scales."""

    steps: int
    hidden_channels: int
    kernel_size: int
    last_kernel_size: int
    affine_clamping: float


@dataclass
class FastFlowRow:
    """What FastFlow's configuration takes from the backbone: one column of the table in the method's section 1."""

    steps: int
    conv3x3_only: bool
    hidden_ratio: float
    feature_norm: FeatureNorm


@dataclass
class LevelsTable:
    """The stages that each choice of levels means for a backbone."""

    early: list[int]
    late: list[int]


@dataclass
class BackboneConfig:
    """The frozen timm feature extractor."""

    key: str
    name: str
    stages: list[int]
    levels: LevelsTable
    image_size: int
    weights: str
    fastflow: FastFlowRow


@dataclass
class DatasetConfig:
    """The images. Each layout has its own dataclass that extends this one."""

    name: str
    layout: Layout
    root: str
    category: str
    categories: list[str] | None
    image_size: int
    interpolation: Interpolation
    rotation: float


@dataclass
class FolderConfig(DatasetConfig):
    """Your own images: the folders below ``root/category`` that hold each kind."""

    train_dir: str
    normal_dir: str
    defect_dir: str
    mask_dir: str | None


@dataclass
class SyntheticConfig(DatasetConfig):
    """The built-in images: how many are drawn, how large, from which seed."""

    size: int
    train_images: int
    good_images: int
    defect_images: int
    seed: int


@dataclass
class AltubConfig:
    """The base distribution and the alternating schedule (paper: Algorithm 1 and section 5.6)."""

    name: str
    base: str
    alternating: bool
    idle_epochs: int
    freezing_interval: int
    count_from: int
    max_lr: float
    momentum: float
    clip: Clip
    clip_value: float
    clip_phase: ClipPhase
    psi_weight_decay: float


@dataclass
class TrainConfig:
    """The optimisation of the flow: Adam, its learning rate a cosine in steps of ``cycle`` epochs, with a warm-up."""

    epochs: int
    cycle: int
    batch_size: int
    drop_last: bool
    lr: float
    final_lr: float
    warmup_epochs: int
    weight_decay: float
    betas: list[float]
    eps: float
    grad_norm: float | None


@dataclass
class EvalConfig:
    """When to evaluate, and the window of the stability statistics; epochs count from 1."""

    first_epoch: int
    last_epoch: int
    every: int
    ks_every: int
    unit_normality: bool
    timing_images: int


@dataclass
class TrackingConfig:
    """Where MLflow records; the sweep that a run belongs to, and the code that the sweep was started with."""

    uri: str
    experiment: str
    sweep: str | None
    code: str | None


@dataclass
class CacheConfig:
    """Where feature maps are kept for all runs, and how many GiB of them; without a folder they are not."""

    dir: str | None
    max_gb: float


@dataclass
class SweepConfig:
    """What ``-m`` does."""

    retry_failed: bool
    dry_run: bool


@dataclass
class Config:
    """Everything one run is made of."""

    model: ModelConfig
    backbone: BackboneConfig
    dataset: DatasetConfig
    altub: AltubConfig
    train: TrainConfig
    eval: EvalConfig
    tracking: TrackingConfig
    sweep: SweepConfig
    cache: CacheConfig
    seed: int
    device: Device
    precision: Precision
    resume: Resume
    runs_dir: str
    threads: int | None
    feature_memory_gb: float
    latent_memory_gb: float
    checkpoint_seconds: float


MODELS: dict[str, type[ModelConfig]] = {"fastflow": FastFlowConfig, "cflow": CFlowConfig, "csflow": CSFlowConfig}
DATASETS: dict[str, type[DatasetConfig]] = {
    "dataset": DatasetConfig,
    "folder": FolderConfig,
    "synthetic": SyntheticConfig,
}


NEUTRAL = (
    "tracking",
    "sweep",
    "cache",
    "device",
    "resume",
    "runs_dir",
    "threads",
    "feature_memory_gb",
    "latent_memory_gb",
    "checkpoint_seconds",
    "dataset.root",
    "dataset.categories",
    "eval.timing_images",
    "eval.unit_normality",
)
"""The keys, and groups of keys, that change no number of a run, but where, when and how quickly it is computed."""


def conf_dir() -> str:
    """Absolute path of the YAML groups: the packaged folder where it exists, else the checkout's."""
    package = Path(__file__).resolve().parent
    packaged = package / "conf"
    return str(packaged if packaged.is_dir() else package.parents[1] / "conf")


def options(group: str) -> list[str]:
    """The names that can be chosen for a group: the program's own and those of plug-ins."""
    stored = ConfigStore.instance().repo
    for part in group.split("/"):
        stored = stored.get(part, {})
    own = {path.stem for path in (Path(conf_dir()) / group).glob("*.yaml")}
    return sorted(own | {name.removesuffix(".yaml") for name, node in stored.items() if not isinstance(node, dict)})


def backbone_label(backbone: BackboneConfig) -> str:
    """The group's name (``r18``), or timm's where ``backbone.name`` was overridden: a label must not lie."""
    declared = OmegaConf.load(Path(conf_dir()) / "backbone" / f"{backbone.key}.yaml")
    return backbone.key if OmegaConf.select(declared, "name") == backbone.name else backbone.name


def check(config: Config) -> None:
    """Say what cannot work, before any work starts.

    Raises:
        UserError: a value is out of its range; the sentence names the key.
    """
    at_least = {
        "train.epochs": (config.train.epochs, 1),
        "train.batch_size": (config.train.batch_size, 1),
        "train.cycle": (config.train.cycle, 1),
        "train.warmup_epochs": (config.train.warmup_epochs, 0),
        "eval.every": (config.eval.every, 1),
        "eval.ks_every": (config.eval.ks_every, 0),
        "eval.first_epoch": (config.eval.first_epoch, 1),
        "eval.timing_images": (config.eval.timing_images, 0),
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
    if not config.latent_memory_gb > 0:
        raise UserError(f"latent_memory_gb={config.latent_memory_gb} holds nothing: give a number above 0.")
    if not config.cache.max_gb > 0:
        raise UserError(f"cache.max_gb={config.cache.max_gb} holds nothing: give a number above 0, or cache.dir=null.")
    if config.cache.dir is not None and config.cache.dir.lower() in ("", "false", "none", "off"):
        raise UserError(f"cache.dir={config.cache.dir}: without a cache, cache.dir=null.")
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
    if isinstance(config.model, CSFlowConfig):
        for key in ("kernel_size", "last_kernel_size"):
            size = getattr(config.model, key)
            if size % 2 == 0:
                raise UserError(f"model.{key}={size} would change the size of the maps: give an odd number.")
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


def image_size(table: dict[str, dict[str, int]], dataset: str, category: str, default: int) -> int:
    """Side in pixels that a model's table gives for a category of a dataset, else the default.

    >>> image_size({"mvtec": {"bottle": 512}}, "mvtec", "bottle", 256), image_size({}, "folder", "bottle", 256)
    (512, 256)
    """
    return table.get(dataset, {}).get(category, default)


def load_config(file: Path) -> Config:
    """The configuration that a run has written, checked against the types of today.

    Raises:
        UserError: the file is damaged, or another version's.
    """
    try:
        written = OmegaConf.load(file)
        schema = OmegaConf.structured(Config)
        schema.model = OmegaConf.structured(MODELS[written.model.name])
        schema.dataset = OmegaConf.structured(DATASETS.get(written.dataset.layout, DatasetConfig))
        earlier = {"cache": cache_defaults(), "precision": Precision.float32}  # what runs had before these could be set
        config = OmegaConf.to_object(OmegaConf.merge(schema, earlier, written))
    except (OSError, YAMLError, KeyError, AttributeError, OmegaConfBaseException) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{file} is not the configuration of a run of this version ({reason}).") from error
    assert isinstance(config, Config)
    return config


def cache_defaults() -> CacheConfig:
    """The cache's part of ``conf/train.yaml``; runs that were recorded before there was one lack it."""
    declared = OmegaConf.load(Path(conf_dir()) / "train.yaml")
    return CacheConfig(**OmegaConf.select(declared, "cache"))


def register_schema() -> None:
    """Make the dataclasses known to Hydra, and the resolvers that ``conf/`` uses."""
    store = ConfigStore.instance()
    store.store(group="schema", name="root", node=Config, package="_global_")
    for name, schema in MODELS.items():
        store.store(group="model/schema", name=name, node=schema)
    for name, layout in DATASETS.items():
        store.store(group="dataset/schema", name=name, node=layout)
    OmegaConf.register_new_resolver("window_start", lambda epochs, part: max(1, epochs // part), replace=True)
    OmegaConf.register_new_resolver("image_size", image_size, replace=True)
