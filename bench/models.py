"""The duration of each flow on each backbone on this machine, beside the machine's peaks: ``python -m bench.models``.

Printed line by line, per image: training; evaluation, and the part of it that is not the flow but the scores (map and
exact pixel AUROC); inference; peak memory and start; the share of the peak of convolutions (matrix products for
CFLOW-AD) that the flow's training reaches, if its backward pass counts as two forward ones. Measured alternately with
it, the ratio by which an epoch is longer: ``cache``, if the features are recomputed; ``block``, with FrEIA's block and
its dense permutation in place of ours; with ``--compiled`` also if ``torch.compile`` fuses FrEIA's operations instead,
without the time to compile. Weights are untrained and images are noise, which take the same time; epochs are joint.

python -m bench.models --only fastflow-r18 --rounds 5
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import torch

from altub_exp.config.schema import Device, Precision
from altub_exp.machine.device import prepare_device
from bench.cost import steps
from bench.own import configuration
from bench.turns import OWN, WORK, Work, by_turns, line, now

COLUMNS = ("train ms", "eval ms", "scores ms", "infer ms", "peak GiB", "start s", "of peak")
VARIANTS = {"cache": "--recompute", "block": "--dense"}
"""Switches of the variants that ours is compared with, by column."""


@dataclass(frozen=True)
class Peaks:
    """The measured peaks of the machine: GFLOP/s of a matrix product and of a convolution, GB/s of a copy."""

    product: float
    convolution: float
    copy: float

    @classmethod
    def measured(cls, precision: Precision = Precision.float32) -> Peaks:
        """Measure the best of several rounds; the convolution forward and backward, the copy read and written."""
        device = prepare_device(Device.auto, precision=precision)
        side, images = (8192, 128) if device.type == "cuda" else (2048, 16)
        dtype = torch.bfloat16 if precision is Precision.bf16 else torch.float32
        with device:
            a, b = torch.randn(2, side, side, dtype=dtype)
            conv = torch.nn.Conv2d(256, 512, 3, padding=1, dtype=dtype)
            x = torch.randn(images, 256, 32, 32, dtype=dtype)
            gradient = torch.randn(images, 512, 32, 32, dtype=dtype)
            source, target = torch.randn(2, 2**26)
        if device.type == "cuda":
            conv = conv.to(memory_format=torch.channels_last)
            x, gradient = (maps.to(memory_format=torch.channels_last) for maps in (x, gradient))
        x.requires_grad_()
        product = best(lambda: a @ b)
        convolution = best(lambda: conv(x).backward(gradient))
        copied = best(lambda: target.copy_(source))
        return cls(
            2 * side**3 / product / 1e9,
            3 * 2 * gradient.numel() * 256 * 9 / convolution / 1e9,
            2 * source.nbytes / copied / 1e9,
        )


def best(work: Callable[[], object], rounds: int = 8) -> float:
    """Return the seconds of the fastest round, without the first."""
    work()
    seconds = []
    for _ in range(rounds):
        start = now()
        work()
        seconds.append(now() - start)
    return min(seconds)


def main() -> None:
    """Print the time of each flow on each backbone, and the machine's peaks."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.models", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=WORK, nargs="+", default=list(WORK))
    parser.add_argument("--rounds", type=int, default=2, help="rounds to measure (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads (default: %(default)s)")
    parser.add_argument("--compiled", action="store_true", help="compare with torch.compile too; needs a C++ compiler")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    variants = VARIANTS | ({"compiled": "--compiled"} if chosen.compiled else {})
    print(line("per image; ratios of epochs", (*COLUMNS, *variants)))
    peaks = Peaks.measured()
    for name in chosen.only:
        work = Work(*WORK[name], threads=chosen.threads)
        pairs = [by_turns([OWN, [*OWN, switch]], work, chosen.rounds) for switch in variants.values()]
        ours = pairs[0][0]
        forward = steps(configuration(work)).gigaflops[1]
        peak = peaks.product if work.model == "cflow" else peaks.convolution
        values = (
            f"{1000 * ours['train'] / work.train:.1f}",
            f"{1000 * (ours['maps'] + ours['auroc']) / work.test:.1f}",
            f"{1000 * (ours['maps'] - ours['flow'] + ours['auroc']) / work.test:.1f}",
            f"{1000 * ours['image']:.1f}",
            f"{ours['peak']:.2f}",
            f"{ours['start']:.1f}",
            f"{3 * forward * work.train / ours['train'] / peak:.0%}",
            *(f"{other['epoch'] / beside['epoch']:.2f}" for beside, other in pairs),
        )
        print(line(f"{name} {work.size} px", values), flush=True)
    print(
        f"Peaks: {peaks.product:.0f} GFLOP/s matrix product, {peaks.convolution:.0f} GFLOP/s 3×3 convolution, "
        f"{peaks.copy:.1f} GB/s copy. Median of {chosen.rounds} alternating rounds; "
        f"torch {torch.__version__}, {chosen.threads} threads"
    )


if __name__ == "__main__":
    main()
