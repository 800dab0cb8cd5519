"""What each flow on each backbone takes on this machine, beside the machine's own peaks: ``python -m bench.models``.

Per image, a line as soon as it is known: training, evaluation (map and exact pixel AUROC) and inference alone; peak
memory and start; the share of the peak of convolutions (matrix products for CFLOW-AD) that the flow's training reaches,
if its backward pass counts as two forward ones. By turns with it, how many times longer an epoch takes: ``cache``, if
the features are recomputed; ``block``, with FrEIA's block and its dense permutation in place of ours. Untrained weights
and noise, which take the same time; joint epochs alone.

python -m bench.models --only fastflow-r18 --rounds 5
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch

from bench.cost import steps
from bench.own import configuration
from bench.turns import STEPS, Side, Work

WORK = {
    "fastflow-r18": ("fastflow", "r18", 256, 32, 32, 32),
    "fastflow-wrn50": ("fastflow", "wrn50", 256, 16, 16, 16),
    "fastflow-deit": ("fastflow", "deit", 384, 16, 16, 16),
    "fastflow-cait": ("fastflow", "cait", 448, 8, 8, 8),
    "cflow-r18": ("cflow", "r18", 128, 8, 8, 8),
}
"""Name: model, backbone, image size, training images, test images, batch."""
HEADS = f"{'per image; ratios of epochs':23}" + "".join(
    f"{head:>10}" for head in ("train ms", "eval ms", "infer ms", "peak GiB", "start s", "of peak", "cache", "block")
)
OWN = [sys.executable, "-m", "bench.own"]


@dataclass(frozen=True)
class Peaks:
    """The machine's own, measured: GFLOP/s of a matrix product and of a convolution, GB/s of a copy."""

    product: float
    convolution: float
    copy: float

    @classmethod
    def measured(cls) -> Peaks:
        """The best of several rounds; the convolution forward and backward, the copy read and written."""
        a, b = torch.randn(2, 2048, 2048)
        conv = torch.nn.Conv2d(256, 512, 3, padding=1)
        x = torch.randn(16, 256, 32, 32, requires_grad=True)
        gradient = torch.ones(16, 512, 32, 32)
        source, target = torch.randn(2, 2**26)
        product = best(lambda: a @ b)
        convolution = best(lambda: conv(x).backward(gradient))
        copied = best(lambda: target.copy_(source))
        return cls(
            2 * 2048**3 / product / 1e9,
            3 * 2 * gradient.numel() * 256 * 9 / convolution / 1e9,
            2 * source.nbytes / copied / 1e9,
        )


def best(work: Callable[[], object], rounds: int = 8) -> float:
    """Seconds of the fastest round but the first."""
    work()
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def median(epochs: list[dict[str, float]]) -> dict[str, float]:
    """Of every value, and of the sum of all steps as ``epoch``."""
    epochs = [one | {"epoch": sum(one[step] for step in STEPS)} for one in epochs]
    return {key: statistics.median(one[key] for one in epochs) for key in epochs[0]}


def by_turns(work: Work, flag: str, rounds: int) -> tuple[dict[str, float], dict[str, float], float]:
    """Medians of ours and of ours with the flag, and how long ours took to start, in seconds."""
    with ExitStack() as stack:
        sides = [stack.enter_context(Side([*OWN, *flags], work)) for flags in ([], [flag])]
        for side in sides:
            side.epoch()  # warm-up
        found = [[side.epoch() for side in sides] for _ in range(rounds)]
        ours, other = (median(list(epochs)) for epochs in zip(*found, strict=True))
        return ours, other, sides[0].known["start"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.models", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=WORK, nargs="+", default=list(WORK))
    parser.add_argument("--rounds", type=int, default=2, help="(default: %(default)s)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="(default: %(default)s)")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])
    print(HEADS)
    peaks = Peaks.measured()
    for name in chosen.only:
        work = Work(*WORK[name], threads=chosen.threads)
        ours, recomputed, start = by_turns(work, "--recompute", chosen.rounds)
        beside, dense, _ = by_turns(work, "--dense", chosen.rounds)
        forward = steps(configuration(work)).gigaflops[1]
        peak = peaks.product if work.model == "cflow" else peaks.convolution
        values = (
            f"{1000 * ours['train'] / work.train:.1f}",
            f"{1000 * (ours['maps'] + ours['auroc']) / work.test:.1f}",
            f"{1000 * ours['image']:.1f}",
            f"{ours['peak']:.2f}",
            f"{start:.1f}",
            f"{3 * forward * work.train / ours['train'] / peak:.0%}",
            f"{recomputed['epoch'] / ours['epoch']:.2f}",
            f"{dense['epoch'] / beside['epoch']:.2f}",
        )
        print(f"{f'{name} {work.size} px':23}" + "".join(f"{value:>10}" for value in values), flush=True)
    print(
        f"Peaks: {peaks.product:.0f} GFLOP/s matrix product, {peaks.convolution:.0f} GFLOP/s 3×3 convolution, "
        f"{peaks.copy:.1f} GB/s copy. Median of {chosen.rounds} rounds by turns; "
        f"torch {torch.__version__}, {chosen.threads} threads"
    )


if __name__ == "__main__":
    main()
