"""Estimate the cost of the sweeps on an H200 in float32, without having one: ``python -m bench.cost``.

All numbers are estimates. Each kind of step (features of a batch, training step, ψ-only step, evaluation) runs on
PyTorch's meta device, which computes shapes but no numbers, and every operation is charged the longest of its
multiply-adds at ``FLOPS``, its bytes at ``BANDWIDTH`` and ``LAUNCH``. These three were chosen so that joint steps agree
to 14 % with the measurements of ``python -m bench.steps``. Added are the sorting of pixels for the AUROC and of latents
for Kolmogorov-Smirnov statistics, reading features from the GPU's memory, and the work of the processor: rotating
images, tests of single units, start. The number of times that each happens follows from the composed configuration and
the published numbers of images.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from altub_exp.config.schema import CFlowConfig, Config, LearnedBy, Optimizers
from altub_exp.data import btad, mvtec
from altub_exp.detector.assembly import alternation, build_backbone
from altub_exp.detector.families import base, family
from altub_exp.detector.latents import passes
from altub_exp.flows import coupling
from altub_exp.method.density import Density, log_likelihood, negative_log_likelihood
from altub_exp.method.optimizer import parts_of
from altub_exp.sweep import paper_sweeps

FLOPS = 40e12  # a step that consists of convolutions reaches it
BANDWIDTH = 1.5e12  # a third of the H200's
LAUNCH = 14e-6  # least seconds of an operation
COPY = 4e9  # bytes per second between the GPU and unpinned memory
SORT = 300  # bytes read and written on the GPU for each sorted value: several passes, with indices
TURN = 3e-3 / 512**2  # seconds per pixel of a rotated image
START = 30.0  # seconds: start, decoding, pictures, record
ADAM_BYTES = 32  # per parameter and step: its gradient twice, the parameter and two moments, read and written
# CFLOW-AD is charged for all decoders in each step, one after the other and without fused kernels, as it was measured
# on a GPU; deferred steps, decoders side by side and kernels for fibres cost less, but were not timed there

COUNTS = {"mvtec": mvtec.COUNTS, "btad": btad.COUNTS}
ORDER = ["table1", "table2", "table_a1", "table3", "table4", "table6", "table5", "fig4", "fig1", "fig3", "table7"]


class Meter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the cost of a computation, operation by operation.

    Attributes:
        flops: floating-point operations of products and convolutions, two per multiply-add.
        seconds: on the assumed GPU.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops, self.seconds = 0.0, 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Execute and charge one operation; composed ones are split into their parts first."""
        kwargs = kwargs or {}
        if func._overloadpacket not in flop_registry:
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        result = func(*args, **kwargs)
        if not func.is_view:
            count = flop_registry.get(func._overloadpacket)
            flops = count(*args, **kwargs, out_val=result) if count else 0
            moved = sum(leaf.nbytes for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor))
            self.flops += flops
            self.seconds += max(flops / FLOPS, moved / BANDWIDTH, LAUNCH)
        return result


@dataclass(frozen=True)
class Steps:
    """The duration of one run's parts in seconds on the GPU.

    Attributes:
        features: per image through the backbone.
        joint: training per image.
        psi_only: training per image in a ψ-only epoch.
        forward: per image through the flow, without gradients.
        gigaflops: per image, of the backbone and of the flow forward.
        shapes: (C, H, W) of each scale.
    """

    features: float
    joint: float
    psi_only: float
    forward: float
    gigaflops: tuple[float, float]
    shapes: tuple[tuple[int, int, int], ...]

    @property
    def latent_bytes(self) -> int:
        """Bytes of an image's latents; its features are as large in these flows."""
        return 4 * sum(math.prod(shape) for shape in self.shapes)


@dataclass(frozen=True)
class Cost:
    """Seconds of one run, by kind of work."""

    training: float
    evaluation: float
    statistics: float
    start: float = START

    @property
    def hours(self) -> float:
        """Hours of the whole run."""
        return (self.training + self.evaluation + self.statistics + self.start) / 3600


class Kernels:
    """A substitute for the fused kernels: operations that read and write as many bytes."""

    @staticmethod
    def couple(x: Tensor, a: Tensor, *_: object) -> tuple[Tensor, Tensor]:
        """Read x and a, write z."""
        return torch.empty_like(x), a.flatten(1).sum(dim=1)

    @staticmethod
    def gradients(x: Tensor, a: Tensor, scale: Tensor, of_z: Tensor, *_: object) -> tuple[Tensor, ...]:
        """Read x, a and z's gradient, write those of x and a."""
        return x * of_z, -a, torch.empty_like(scale), torch.empty_like(scale)


@contextmanager
def on_meta() -> Iterator[None]:
    """Make tensors without numbers in this context, and draw no orthogonal matrices."""
    names = ("random_orthogonal", "kernels_for")
    originals = [getattr(coupling, name) for name in names]
    coupling.random_orthogonal = lambda size: torch.eye(size, device="cpu")
    coupling.kernels_for = lambda x: Kernels if x.dim() > 2 else None  # type: ignore[assignment,return-value]
    try:
        with torch.device("meta"):
            yield
    finally:
        for name, original in zip(names, originals, strict=True):
            setattr(coupling, name, original)


def metered(work: Callable[[], object]) -> Meter:
    """Return the cost of some work."""
    meter = Meter()
    with meter:
        work()
    return meter


def steps(config: Config) -> Steps:
    """Return the parts of a run, computed once for all runs that differ only in images and schedule."""
    parts = (config.model, config.backbone, config.altub)
    key = (config.dataset.image_size, config.train.batch_size, repr(parts))
    if key not in _steps:
        _steps[key] = _metered_steps(config)
    return _steps[key]


_steps: dict[Any, Steps] = {}


def _metered_steps(config: Config) -> Steps:
    size, batch = config.dataset.image_size, config.train.batch_size
    with on_meta():
        untrained = replace(config, backbone=replace(config.backbone, weights="random"))
        backbone = build_backbone(untrained).to("meta")
        images = torch.empty(batch, 3, size, size, dtype=torch.uint8)
        maps = [m.shape for m in backbone(images)]
        through_backbone = metered(lambda: backbone(images))
        shapes = tuple((m[1], m[2], m[3]) for m in maps)
        flow = family(config.model.name).flow(config.model, shapes)
        density = Density(flow, [base(config.altub.base)(shape) for shape in shapes]).to("meta")
        features = [torch.empty(m) for m in maps]

        def evaluate() -> None:
            with torch.no_grad():
                density(features)

        learn = _fibre_seconds if isinstance(config.model, CFlowConfig) else _image_seconds
        joint = learn(config, density, features, False)
        psi_only = learn(config, density, features, True) if config.altub.alternating else joint
        forward = metered(evaluate)
    return Steps(
        through_backbone.seconds / batch,
        joint / batch,
        psi_only / batch,
        forward.seconds / batch,
        (through_backbone.flops / batch / 1e9, forward.flops / batch / 1e9),
        shapes,
    )


def _image_seconds(config: Config, density: Density, features: list[Tensor], psi_only: bool) -> float:
    """Return the seconds of one step on a batch of images."""
    learned = metered(lambda: negative_log_likelihood(density(features, freeze_flow=psi_only)).backward())  # type: ignore[no-untyped-call]
    return learned.seconds + (0 if psi_only else _adam(density, list(density.parameters())))


def _fibre_seconds(config: Config, density: Density, features: list[Tensor], psi_only: bool) -> float:
    """Return the seconds of all steps on the fibres of a batch of images."""
    model = config.model
    assert isinstance(model, CFlowConfig)
    joint = model.optimizers is Optimizers.joint
    total = 0.0
    for scale, maps in enumerate(features):
        rows = torch.empty(model.fibre_batch, dtype=torch.int64)

        def learn(scale: int = scale, maps: Tensor = maps, rows: Tensor = rows) -> None:
            log_p = log_likelihood(density.fibres(scale, maps, rows, freeze_flow=psi_only)) / maps.shape[1]
            (-torch.nn.functional.logsigmoid(log_p).mean()).backward()  # type: ignore[no-untyped-call]

        theta, psi = parts_of(density, per_scale=not joint)[0 if joint else scale]
        adam = 0 if psi_only else _adam(density, theta + psi)
        total += (maps.numel() // maps.shape[1] // model.fibre_batch) * (metered(learn).seconds + adam)
    return total


def _adam(density: Density, parameters: list[torch.nn.Parameter]) -> float:
    moving = sum(p.numel() for p in parameters if p.requires_grad)
    return moving * ADAM_BYTES / BANDWIDTH


def cost(config: Config) -> Cost:
    """Return the cost of one run."""
    train, good, defective = COUNTS[config.dataset.name][config.dataset.category]
    test = good + defective
    part, size, epochs = steps(config), config.dataset.image_size, config.train.epochs
    rotated = config.dataset.rotation > 0
    room = config.feature_memory_gb * 2**30 / (test if rotated else train + test)  # per image
    kept = config.cache.dir is not None or part.latent_bytes <= room
    fetch = 2 * part.latent_bytes / BANDWIDTH  # of an image's features, which stay on the GPU
    recompute = part.features + 3 * size**2 / COPY
    per_test = fetch if kept else recompute
    per_train = recompute + TURN * size**2 if rotated else per_test

    batch = config.train.batch_size
    learned = train // batch * batch if config.train.drop_last else train
    schedule = alternation(config.altub, config.train.cycle)
    psi_only = sum(schedule.psi_only(epoch) for epoch in range(1, epochs + 1))
    training = learned * (epochs * per_train + (epochs - psi_only) * part.joint + psi_only * part.psi_only)
    often = epochs // config.eval.ks_every if config.eval.ks_every else 0
    if kept and (often or not rotated):
        training += train * part.features
    scores = size**2 * (1 / COPY + SORT / BANDWIDTH)  # the mask is copied, the pixels are sorted
    evaluation = (epochs // config.eval.every) * test * (per_test + part.forward + scores)
    if config.eval.fitted or config.altub.learned_by is LearnedBy.moments:
        fitting = (epochs // config.eval.every) * train * (per_test + part.forward)
        evaluation += fitting + (evaluation if config.eval.fitted else 0)
    if kept:
        evaluation += test * part.features

    statistics = 0.0
    for count in (train, good):
        through = len(passes(part.shapes, count, config.latent_memory_gb)) * (per_test + part.forward)
        values = part.latent_bytes / 4
        statistics += count * often * (through + values * SORT / BANDWIDTH)
    return Cost(training, evaluation, statistics)


@cache
def sweep(name: str) -> dict[Any, float]:
    """Return the GPU-hours of each run of a sweep, by the run's folder."""
    return {job.folder.path: cost(job.config).hours for job in paper_sweeps.jobs(name)}


def hours(value: float) -> str:
    """Return hours with two digits: an estimate knows no more.

    >>> hours(123.4), hours(0.127), hours(4.26)
    ('120', '0.13', '4.3')
    """
    return f"{float(f'{value:.2g}'):g}"


def main() -> None:
    """Print the cost of the parts and of the sweeps."""
    parser = argparse.ArgumentParser(prog="python -m bench.cost", description=__doc__)
    parser.parse_args()
    console = Console()
    console.width = max(console.width, 130)
    console.print("Estimated, not measured: see `python -m bench.cost --help`.")
    heads = [
        "model",
        "px",
        "backbone GFLOP",
        "flow GFLOP",
        "ms joint",
        "ms ψ-only",
        "GPU-h",
        "training",
        "evaluation",
        "KS",
    ]
    parts = Table(
        *heads, title="per image, and per run of `capsule` (CFLOW-AD: `capsule`, `screw`)", box=box.SIMPLE_HEAD
    )
    shown = {"capsule", "01", "03"}
    for name in ("table1", "table3"):
        for job in paper_sweeps.jobs(name):
            c = job.config
            if c.altub.alternating and (
                c.dataset.category in shown or (c.model.name, c.dataset.category) == ("cflow", "screw")
            ):
                part, spent = steps(c), cost(c)
                label = f"{c.model.name}-{c.backbone.key} {c.dataset.name}/{c.dataset.category}"
                share = [f"{x / spent.hours / 36:.0f} %" for x in (spent.training, spent.evaluation, spent.statistics)]
                numbers = [*part.gigaflops, 1000 * part.joint, 1000 * part.psi_only, spent.hours]
                parts.add_row(label, str(c.dataset.image_size), *(f"{x:.2f}" for x in numbers), *share)
    console.print(parts)
    table = Table("sweep", "jobs", "GPU-h", "not in those above: jobs", "GPU-h", title="sweeps", box=box.SIMPLE_HEAD)
    known: dict[Any, float] = {}
    for name in ORDER:
        found = sweep(name)
        new = {run: value for run, value in found.items() if run not in known}
        known |= new
        table.add_row(name, str(len(found)), hours(sum(found.values())), str(len(new)), hours(sum(new.values())))
    table.add_row("all", "", "", str(len(known)), hours(sum(known.values())))
    console.print(table)


if __name__ == "__main__":
    main()
