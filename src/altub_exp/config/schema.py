"""The typed configuration: one dataclass per group, with names and types; the values are all in ``conf/``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

FeatureNorm = StrEnum("FeatureNorm", "trainable counted nonaffine pretrained none")
"""Normalisation of the feature maps before they enter the flow: LayerNorm([C, H, W]) or the backbone's own."""

OutputNorm = StrEnum("OutputNorm", "none layernorm")
"""Normalisation of the latents after the flow."""

Levels = StrEnum("Levels", "early late")
"""Choice of a backbone's feature maps; for a ResNet, early means layers 1 to 3 and late layers 2 to 4."""

ScoreReference = StrEnum("ScoreReference", "test train")
"""The images over which CFLOW-AD takes the largest likelihood of each scale."""

Optimizers = StrEnum("Optimizers", "joint per_decoder")
"""Optimisation of CFLOW-AD's decoders: one Adam that moves all of them in every step, or one Adam each."""

Clip = StrEnum("Clip", "value norm none")
"""Clipping of the gradient of ψ."""

ClipPhase = StrEnum("ClipPhase", "psi_only every")
"""The steps in which the gradient of ψ is clipped: those of its SGD, or also those of Adam."""

LearnedBy = StrEnum("LearnedBy", "adam sgd moments")
"""Estimation of ψ outside of ψ-only epochs: by the flow's Adam, by SGD at η₂, or from the moments of the latents."""

Idle = StrEnum("Idle", "frozen joint")
"""The idle epochs of ψ: it stays 0, or moves as in the other joint epochs."""

FreezingUnit = StrEnum("FreezingUnit", "epoch cycle")
"""The unit that the freezing interval counts: epochs, or cycles of ``train.cycle`` epochs (meta-epochs)."""

PsiLoss = StrEnum("PsiLoss", "objective nats")
"""The loss of the ψ-only epochs: that of the joint epochs, or −log p in nats."""

Layout = StrEnum("Layout", "mvtec btad visa elpv folder synthetic")
"""Directory layout of a dataset."""

Interpolation = StrEnum("Interpolation", "bilinear antialias lanczos")
"""Resizing of images to the square input; ``bilinear`` takes two taps, the other two average (antialias)."""

Device = StrEnum("Device", "auto cpu cuda")
"""Device of the tensors; ``auto`` takes CUDA if it is available."""

Precision = StrEnum("Precision", "float32 tf32 bf16")
"""Precision of the flow's convolutions and matrix products; all other work, also the backbone's, is in float32."""

Resume = StrEnum("Resume", "auto never")
"""Treatment of an unfinished run: continue from its checkpoint (``auto``), or archive it and start over."""


@dataclass
class OptimisationConfig:
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
class ProtocolConfig(OptimisationConfig):
    """Defaults that a model sets for ``train``, ``eval``, ``dataset``, ``backbone`` and ``altub``."""

    first_epoch: int
    psi_clip: Clip
    psi_loss: PsiLoss
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
    """CFLOW-AD: one decoder per scale for the vectors of single positions, conditioned on the position."""

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
    """CS-Flow: coupling blocks over all scales at once, whose subnets also read the neighbouring scales."""

    steps: int
    hidden_channels: int
    kernel_size: int
    last_kernel_size: int
    affine_clamping: float


@dataclass
class FastFlowRow:
    """Defaults that a backbone sets for FastFlow, see ``conf/backbone/``."""

    steps: int
    conv3x3_only: bool
    hidden_ratio: float
    feature_norm: FeatureNorm


@dataclass
class LevelsTable:
    """A backbone's stages for each choice of levels."""

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
    bit_depth: int | None
    rotation: float


@dataclass
class FolderConfig(DatasetConfig):
    """Your own images: the names of their folders below ``root/category``."""

    train_dir: str
    normal_dir: str
    defect_dir: str
    mask_dir: str | None


@dataclass
class ElpvConfig(DatasetConfig):
    """Images of solar cells: the defect probabilities in percent of the defective test images."""

    probabilities: list[int]


@dataclass
class SyntheticConfig(DatasetConfig):
    """The built-in images: their number, size and seed."""

    size: int
    train_images: int
    good_images: int
    defect_images: int
    seed: int


@dataclass
class AltubConfig:
    """The base distribution and the alternating schedule (Algorithm 1, section 5.6 of arXiv 2210.14913)."""

    name: str
    base: str
    alternating: bool
    learned_by: LearnedBy
    idle_epochs: int
    idle: Idle
    freezing_interval: int
    freezing_unit: FreezingUnit
    count_from: int
    psi_loss: PsiLoss
    max_lr: float
    momentum: float
    clip: Clip
    clip_value: float
    clip_phase: ClipPhase
    psi_weight_decay: float


@dataclass
class TrainConfig(OptimisationConfig):
    """The optimisation of a run; its defaults are those of the model's protocol."""


@dataclass
class EvalConfig:
    """The evaluated epochs and the window of the stability statistics; epochs count from 1."""

    first_epoch: int
    last_epoch: int
    every: int
    ks_every: int
    fitted: bool


@dataclass
class TrackingConfig:
    """MLflow's store and experiment; the sweep that a run belongs to, and the code that the sweep was started with."""

    uri: str
    experiment: str
    sweep: str | None
    code: str | None


@dataclass
class CacheConfig:
    """Folder and size in GiB of the feature cache that all runs share; without a folder nothing is cached."""

    dir: str | None
    max_gb: float


@dataclass
class SweepConfig:
    """Options of a sweep (``-m``)."""

    retry_failed: bool
    dry_run: bool


@dataclass
class Config:
    """The configuration of one run."""

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
    "elpv": ElpvConfig,
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
"""Keys and groups of keys that change no result of a run, only the place, time and speed of its computation."""
