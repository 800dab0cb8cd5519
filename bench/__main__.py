"""Print a table of ratios; each pair is measured alternately in this process, and the median of several rounds taken.

make bench
python -m bench --threads 1 --rounds 7 --only AUROC
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from unittest import mock

import numpy as np
import torch
from FrEIA.modules import AllInOneBlock
from rich import box
from rich.console import Console
from rich.table import Table
from scipy.stats import special_ortho_group

from altub_exp.config.schema import Device
from altub_exp.features.backbone import Backbone
from altub_exp.features.maps import FeatureMaps
from altub_exp.flows import fastflow
from altub_exp.flows.cflow import CFlow
from altub_exp.flows.coupling import random_orthogonal
from altub_exp.machine.device import prepare_device
from altub_exp.method.base import BASES
from altub_exp.method.density import Density
from altub_exp.method.learner import FibreLearner, ImageLearner
from altub_exp.method.learning_rate import LearningRate, TrainingStep
from altub_exp.method.optimizer import AlternatingOptimizer, parts_of
from altub_exp.method.schedule import Alternation
from altub_exp.metrics.auroc import auroc
from altub_exp.metrics.kolmogorov import ks_p_value, ks_statistic
from altub_exp.metrics.shapiro import shapiro_wilk
from bench.own import made_of

Work = Callable[[], object]


def paired(ours: Work, other: Work, rounds: int) -> tuple[float, float]:
    """Return the median seconds of both, measured alternately after one warm-up of each."""
    ours(), other()
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for work, seconds in zip((ours, other), times, strict=True):
            start = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - start)
    return statistics.median(times[0]), statistics.median(times[1])


def exact_auroc() -> tuple[Work, Work, Work]:
    """Return the AUROC of 5 million pixels, 2 % defective, with many ties: ours, scikit-learn's, torchmetrics'."""
    from sklearn.metrics import roc_auc_score
    from torchmetrics.functional.classification import binary_auroc

    random = np.random.default_rng(0)
    labels = random.random(5_000_000) < 0.02
    scores = (random.normal(size=labels.size) + 1.5 * labels).astype(np.float32)
    threads = torch.get_num_threads()
    chances = torch.from_numpy(scores).sigmoid()  # torchmetrics would apply it itself
    truth = torch.from_numpy(labels).long()
    return (
        lambda: auroc(scores, labels, threads=threads),
        lambda: roc_auc_score(labels, scores),
        lambda: binary_auroc(chances, truth, thresholds=None),
    )


def unit_normality() -> tuple[Work, Work]:
    """Return the p-values of 5,000 units over 219 images: ours, and scipy's on all rows in one call."""
    from scipy.stats import kstest, shapiro

    q = np.random.default_rng(0).normal(0.3, 0.8, size=(5_000, 219)).astype(np.float32)
    return (
        lambda: (shapiro_wilk(q), ks_p_value(ks_statistic(q), 219)),
        lambda: (shapiro(q, axis=1), kstest(q, "norm", axis=1)),
    )


def fastflow_learner(features: FeatureMaps, *, conv3x3_only: bool = True) -> ImageLearner:
    """Return FastFlow as for r18."""
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    flow = fastflow.FastFlow(features.shapes, steps=8, conv3x3_only=conv3x3_only, hidden_ratio=1.0, affine_clamping=2.0)
    density = Density(flow, [BASES["learned"](shape) for shape in features.shapes])
    optimizer = AlternatingOptimizer(
        parts_of(density), lr=1e-3, weight_decay=1e-5, psi_weight_decay=1e-5, alternation=Alternation(5)
    )
    return ImageLearner(density, optimizer, LearningRate(1e-3))


def cflow_steps(joint: bool, *, deferred: bool = True) -> Work:
    """Return ten fibre steps of CFLOW-AD on r18's layers 2 to 4 of two images of 256 px.

    Args:
        joint: True for one Adam for all decoders, False for one for each.
        deferred: False takes its steps with zero gradients at once.
    """
    torch.manual_seed(0)
    shapes = [(128, 32, 32), (256, 16, 16), (512, 8, 8)]
    options = {"steps": 8, "condition_channels": 128, "hidden_ratio": 2.0, "affine_clamping": 1.9}
    flow = CFlow(shapes, permute_soft=False, **options)  # type: ignore[arg-type]
    density = Density(flow, [BASES["learned"](shape) for shape in shapes])
    optimizer = AlternatingOptimizer(
        parts_of(density, per_scale=deferred),
        lr=2e-4,
        weight_decay=0.0,
        psi_weight_decay=0.0,
        alternation=Alternation(5),
        keep_gradients=joint,
    )
    learner = FibreLearner(density, optimizer, LearningRate(2e-4), fibre_batch=256)
    features = [torch.randn(2, *shape) for shape in shapes]
    return lambda: learner.learn(features, TrainingStep(1, 0, 1), torch.Generator())


def main() -> None:
    """Print the table of ratios."""
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each pair (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="default: %(default)s")
    parser.add_argument("--only", default="", help="only the rows whose names contain this text")
    chosen = parser.parse_args()
    device = prepare_device(Device.cpu, chosen.threads)

    backbone = Backbone("resnet18.tv_in1k", [1, 2, 3], weights="random")
    images = torch.randint(0, 256, (16, 3, 256, 256), dtype=torch.uint8)
    kept = FeatureMaps(backbone, images, batch_size=16, device=device, memory_gb=8)
    recomputed = FeatureMaps(backbone, images, batch_size=16, device=device, memory_gb=0)
    rows = torch.arange(16)
    index = fastflow_learner(kept)
    with made_of(AllInOneBlock, fastflow):
        dense = fastflow_learner(kept)
    narrow = Backbone("tf_efficientnet_lite0.in1k", [1, 2, 3], weights="random")
    small = FeatureMaps(narrow, images[:, :, :128, :128], batch_size=16, device=device, memory_gb=8)
    lite0, lite0_batch = fastflow_learner(small, conv3x3_only=False), small.batch(rows)
    batch = kept.batch(rows)
    exact, sklearns, torchmetrics = exact_auroc()

    def step(learner: ImageLearner, features: list[torch.Tensor], epoch: int = 1) -> object:
        return learner.learn(features, TrainingStep(epoch, 0, 1), torch.Generator())

    def in_layout_of_pytorch() -> object:
        with mock.patch.object(fastflow, "NARROW", 0):
            return step(lite0, lite0_batch)

    table = Table("work", "ours (s)", "other (s)", "times faster", box=box.SIMPLE_HEAD)
    pairs: dict[str, tuple[Work, Work]] = {
        "exact pixel AUROC, 5 M pixels: ours / scikit-learn": (exact, sklearns),
        "exact pixel AUROC: ours / torchmetrics": (exact, torchmetrics),
        "Shapiro-Wilk and KS p-values, 5,000 units × 219 images: ours / scipy": unit_normality(),
        "r18 training step, batch 16 at 256 px: index / dense permutation": (
            lambda: step(index, batch),
            lambda: step(dense, batch),
        ),
        "r18 training step with its features: kept / recomputed": (
            lambda: step(index, kept.batch(rows)),
            lambda: step(index, recomputed.batch(rows)),
        ),
        "lite0 training step, batch 16 at 128 px: narrow maps channels last / as by default": (
            lambda: step(lite0, lite0_batch),
            in_layout_of_pytorch,
        ),
        "CFLOW-AD's steps, r18, 2 images: Adam per decoder / joint": (
            cflow_steps(joint=False),
            cflow_steps(joint=True),
        ),
        "CFLOW-AD's steps, joint Adam: steps with zero gradients deferred / at once": (
            cflow_steps(joint=True),
            cflow_steps(joint=True, deferred=False),
        ),
        "orthogonal 2048 × 2048 matrix: ours / scipy's, which FrEIA uses": (
            lambda: random_orthogonal(2048),
            lambda: special_ortho_group.rvs(2048),
        ),
        "r18 step: ψ-only / joint": (lambda: step(index, batch, 5), lambda: step(index, batch)),
    }
    for name, (ours, other) in pairs.items():
        if chosen.only not in name:
            continue
        a, b = paired(ours, other, chosen.rounds)
        table.add_row(name, f"{a:.3f}", f"{b:.3f}", f"{b / a:.2f}")
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "altub_exp.train", "--help"], check=True, stdout=subprocess.DEVNULL)
    table.add_row("python -m altub_exp.train --help", f"{time.perf_counter() - start:.3f}", "", "")
    console = Console()
    console.width = max(console.width, 110)
    console.print(table)
    console.print(f"torch {torch.__version__}, {chosen.threads} threads, median of {chosen.rounds} alternating rounds")


if __name__ == "__main__":
    main()
