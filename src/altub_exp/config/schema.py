"""The typed configuration: one dataclass per group. Values stand in ``conf/`` alone; here are the names and types."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


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
    cuda_graphs: bool
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
    "cuda_graphs",
    "resume",
    "runs_dir",
    "threads",
    "feature_memory_gb",
    "latent_memory_gb",
    "checkpoint_seconds",
    "dataset.root",
    "dataset.categories",
)
"""The keys, and groups of keys, that change no number of a run, but where, when and how quickly it is computed."""
