"""The typed configuration: one dataclass per group, with names, types and bounds; the values are in ``conf/``."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any

from altub_exp.config.bounds import (
    Count,
    CountOrNone,
    Decay,
    Distinct,
    Epochs,
    FilePath,
    Fraction,
    Grid,
    Label,
    LearningRate,
    Length,
    Moment,
    Name,
    NotNegative,
    PathName,
    Pixels,
    Positive,
    Range,
    Secret,
    Text,
)

Steps = Annotated[int, Range(least=1, most=1000)]
Ratio = Annotated[float, Range(above=0, most=1000)]
Clamping = Annotated[float, Range(above=0, most=1e6)]
KernelSize = Annotated[int, Range(least=1, most=255)]
Channels = Annotated[int, Range(least=1, most=65_536)]
Angle = Annotated[float, Range(least=0, most=180)]
Stages = Annotated[list[int], Length(), Distinct()]
Divisors = Annotated[list[Annotated[int, Range(least=1, most=64)]], Length(), Distinct()]
Rotations = Annotated[int, Range(least=1, most=360)]
Seed = Annotated[int, Range(least=0, most=2**32 - 1)]
NO_CACHE = PathName(off=("", "false", "none", "off"), otherwise=", or cache.dir=null for no cache")

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

Layout = StrEnum("Layout", "mvtec mvtec2 loco btad visa realiad elpv folder synthetic")
"""Directory layout of a dataset."""

Interpolation = StrEnum("Interpolation", "bilinear antialias lanczos")
"""Resizing of images to the square input; ``bilinear`` takes two taps, the other two average (antialias)."""

Device = StrEnum("Device", "auto cpu cuda")
"""Device of the tensors; ``auto`` takes CUDA if it is available."""

WarmupUnit = StrEnum("WarmupUnit", "batch epoch")
"""The steps in which the learning rate rises during the warm-up."""

Precision = StrEnum("Precision", "float32 tf32 bf16")
"""Precision of the flow's convolutions and matrix products; all other work, also the backbone's, is in float32."""

Resume = StrEnum("Resume", "auto never")
"""Treatment of an unfinished run: continue from its checkpoint (``auto``), or archive it and start over."""


@dataclass
class OptimisationConfig:
    """The optimisation of the flow: Adam, its learning rate a cosine in steps of ``cycle`` epochs, with a warm-up.

    Values here are those of files of models that lack the key.
    """

    epochs: Epochs
    cycle: Epochs
    batch_size: Count
    drop_last: bool
    lr: LearningRate
    final_lr: Fraction
    warmup_epochs: CountOrNone
    weight_decay: Decay
    betas: Annotated[list[Moment], Length(2, 2)]
    eps: Decay
    grad_norm: Positive | None
    warmup_unit: WarmupUnit = field(default=WarmupUnit.batch, kw_only=True)
    milestones: Annotated[list[Epochs], Length(least=0), Distinct()] = field(default_factory=list, kw_only=True)
    milestone_factor: Fraction = field(default=1.0, kw_only=True)


@dataclass
class ProtocolConfig(OptimisationConfig):
    """Defaults that a model sets for ``train``, ``eval``, ``dataset``, ``backbone`` and ``altub``."""

    first_epoch: Epochs
    psi_clip: Clip
    psi_loss: PsiLoss
    levels: Levels
    image_sizes: dict[str, dict[str, Pixels]]
    interpolation: Interpolation
    rotation: Angle


@dataclass
class ModelConfig:
    """The flow, or a rival. Each ``conf/model/*.yaml`` has its own dataclass that extends this one."""

    name: Name
    feature_norm: FeatureNorm
    protocol: ProtocolConfig


@dataclass
class FastFlowConfig(ModelConfig):
    """FastFlow: one sequence of coupling blocks with convolutional subnets per scale."""

    steps: Steps
    conv3x3_only: bool
    hidden_ratio: Ratio
    affine_clamping: Clamping
    output_norm: OutputNorm


@dataclass
class CFlowConfig(ModelConfig):
    """CFLOW-AD: one decoder per scale for the vectors of single positions, conditioned on the position."""

    steps: Steps
    condition_channels: Annotated[int, Range(least=4, most=65_536, multiple_of=4)]
    hidden_ratio: Ratio
    affine_clamping: Clamping
    permute_soft: bool
    fibre_batch: Count
    optimizers: Optimizers
    score_reference: ScoreReference


@dataclass
class CSFlowConfig(ModelConfig):
    """CS-Flow: coupling blocks over all scales at once, whose subnets also read the neighbouring scales."""

    steps: Steps
    hidden_channels: Channels
    kernel_size: KernelSize
    last_kernel_size: KernelSize
    affine_clamping: Clamping


@dataclass
class DifferNetConfig(ModelConfig):
    """DifferNet: coupling blocks over the pooled features of a whole image, of several rotations of it."""

    steps: Steps
    hidden_features: Channels
    affine_clamping: Clamping
    rotations: Rotations
    train_rotations: Rotations


@dataclass
class MSFlowConfig(ModelConfig):
    """MSFlow: a sequence of conditional coupling blocks per scale, then one coupling block over all scales."""

    steps: Steps
    asymmetry: Annotated[int, Range(least=-1000, most=1000)]
    condition_channels: Annotated[int, Range(least=4, most=65_536, multiple_of=4)]
    hidden_ratio: Ratio
    fusion_ratio: Ratio
    affine_clamping: Clamping
    top_share: Annotated[float, Range(above=0, most=1)]


@dataclass
class RivalConfig(ModelConfig):
    """A rival: no flow, but a system that anomalib trains and applies in an environment of its own (``python``)."""

    python: FilePath
    timed_images: CountOrNone


@dataclass
class PatchCoreConfig(RivalConfig):
    """PatchCore: distances of patch features to the nearest ones of normal images."""

    coreset_ratio: Fraction
    neighbours: Count


@dataclass
class DraemConfig(RivalConfig):
    """DRAEM: a reconstructing and a segmenting network, trained on simulated defects."""

    sspcab: bool
    textures: FilePath | None


@dataclass
class FastFlowRow:
    """Defaults that a backbone sets for FastFlow, see ``conf/backbone/``."""

    steps: Steps
    conv3x3_only: bool
    hidden_ratio: Ratio
    feature_norm: FeatureNorm


@dataclass
class LevelsTable:
    """A backbone's stages for each choice of levels."""

    early: Stages
    late: Stages


@dataclass
class BackboneConfig:
    """The frozen timm feature extractor; values here are those of files of backbones that lack the key."""

    key: Name
    name: Name
    stages: Stages
    levels: LevelsTable
    image_size: Pixels
    weights: FilePath
    fastflow: FastFlowRow
    extra_blocks: bool = False
    input_divisors: Divisors = field(default_factory=lambda: [1])


@dataclass
class DatasetConfig:
    """The images. Each layout has its own dataclass that extends this one."""

    name: Name
    layout: Layout
    root: FilePath
    category: Name
    categories: Annotated[list[Name], Length(), Distinct()] | None
    image_size: Pixels
    tiles: Annotated[str, Grid()]
    tile_overlap: Annotated[float, Range(least=0, most=0.5)]
    keep_aspect: bool
    interpolation: Interpolation
    bit_depth: Annotated[int, Range(least=8, most=16)] | None
    rotation: Angle


@dataclass
class FolderConfig(DatasetConfig):
    """Your own images: the names of their folders below ``root/category``."""

    train_dir: FilePath
    normal_dir: FilePath | None
    defect_dir: FilePath | None
    mask_dir: FilePath | None


@dataclass
class ElpvConfig(DatasetConfig):
    """Images of solar cells: the defect probabilities in percent of the defective test images."""

    probabilities: Annotated[list[Annotated[int, Range(least=1, most=100)]], Length(1, 3), Distinct()]


@dataclass
class RealIadConfig(DatasetConfig):
    """Real-IAD: the folders below the root of its images, in one of the published sizes, and of its split files."""

    image_dir: FilePath
    split_dir: FilePath


@dataclass
class SyntheticConfig(DatasetConfig):
    """The built-in images: their number, size and seed."""

    size: Annotated[int, Range(least=32, most=16_384)]
    train_images: Count
    good_images: Count
    defect_images: Count
    seed: Annotated[int, Range(least=0, most=2**63 - 1)]


@dataclass
class AltubConfig:
    """The base distribution and the alternating schedule (Algorithm 1, section 5.6 of arXiv 2210.14913)."""

    name: Name
    base: Name
    alternating: bool
    learned_by: LearnedBy
    idle_epochs: CountOrNone
    idle: Idle
    freezing_interval: Annotated[int, Range(least=2, most=1_000_000)]
    freezing_unit: FreezingUnit
    count_from: Annotated[int, Range(least=0, most=1, otherwise=", since epochs are counted from 1 or 0")]
    psi_loss: PsiLoss
    max_lr: LearningRate
    momentum: Moment
    clip: Clip
    clip_value: Positive
    clip_phase: ClipPhase
    psi_weight_decay: Decay


@dataclass
class TrainConfig(OptimisationConfig):
    """The optimisation of a run; its defaults are those of the model's protocol."""


@dataclass
class EvalConfig:
    """The evaluated epochs and the window of the stability statistics; epochs count from 1."""

    first_epoch: Epochs
    last_epoch: Epochs
    every: Epochs
    ks_every: CountOrNone
    fitted: bool


@dataclass
class TrackingConfig:
    """MLflow's store and experiment; the sweep that a run belongs to, and the code that the sweep was started with."""

    uri: Annotated[str, Text(), Secret()]
    experiment: Label
    sweep: Label | None
    code: Label | None


@dataclass
class CacheConfig:
    """Folder and size in GiB of the feature cache that all runs share; without a folder nothing is cached."""

    dir: Annotated[str, NO_CACHE] | None
    max_gb: Annotated[float, Range(above=0, most=1e9, otherwise=", or cache.dir=null")]


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
    train: TrainConfig  # before altub, which takes defaults from it: the first wrong key is reported
    altub: AltubConfig
    eval: EvalConfig
    tracking: TrackingConfig
    sweep: SweepConfig
    cache: CacheConfig
    seed: Seed
    device: Device
    precision: Precision
    cuda_graphs: bool
    resume: Resume
    runs_dir: Annotated[str, PathName(home=False)]
    threads: Annotated[int, Range(least=1, most=1024)] | None
    feature_memory_gb: NotNegative
    latent_memory_gb: Annotated[float, Range(above=0, finite=False)]
    checkpoint_seconds: Annotated[float, Range(least=0, finite=False)]


MODELS: dict[str, type[ModelConfig]] = {
    "fastflow": FastFlowConfig,
    "cflow": CFlowConfig,
    "csflow": CSFlowConfig,
    "differnet": DifferNetConfig,
    "msflow": MSFlowConfig,
    "patchcore": PatchCoreConfig,
    "draem": DraemConfig,
}
DATASETS: dict[str, type[DatasetConfig]] = {
    "dataset": DatasetConfig,
    "elpv": ElpvConfig,
    "folder": FolderConfig,
    "realiad": RealIadConfig,
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
    "model.python",
    "model.timed_images",
)
"""Keys and groups of keys that change no result of a run, only the place, time and speed of its computation."""

LATER: dict[str, Any] = {
    "precision": Precision.float32,
    "dataset.bit_depth": None,
    "dataset.tiles": "1x1",
    "dataset.tile_overlap": 0.125,
    "dataset.keep_aspect": False,
    "backbone.extra_blocks": False,
    "backbone.input_divisors": [1],
} | {
    f"{group}.{key}": value
    for group in ("train", "model.protocol")
    for key, value in {"warmup_unit": WarmupUnit.batch, "milestones": [], "milestone_factor": 1.0}.items()
}
"""Keys that runs of earlier versions do not have, with the value of these runs: a run with it keeps its identity, and
the configuration of an earlier run is completed by it."""
