"""Several runs at once on one device: runs per hour, and the hours of Table A1: ``python -m bench.throughput``.

Each run is a process with features (noise), flow and evaluation of its own, as the grid's launchers start it, on an
equal share of the cores. All train and evaluate five epochs at once, one of which is ψ-only with AltUB; the time before
a run's first epoch and its first five epochs are not counted. Table A1 has 300 epochs on MVTec AD's 15 categories; one
backbone's part of it follows from the seconds per image in training and test.

python -m bench.throughput --only fastflow-r18 --runs 1 2
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import psutil
import torch

from altub_exp.config.schema import Precision
from altub_exp.data.mvtec import COUNTS
from bench.turns import OWN, WORK, Side, Work, line

EPOCHS, CYCLE = 300, 5
LEAST_SECONDS = 2.5  # least duration of a measurement
IMAGES = [242, 115]
"""Numbers of training and test images of a run on a GPU: the means of MVTec AD's categories."""
BASES = ("none", "alternating")
COLUMNS = ("at once", "train ms", "test ms", "epoch s", "% in use", "peak GiB", "A1 hours", "runs/h")


def table_a1_hours(train: float, test: float) -> float:
    """Return the hours of all categories, with one base distribution and one backbone, from the seconds per image.

    >>> round(table_a1_hours(train=0.001, test=0.0), 3)  # 3,629 training images
    0.302
    """
    images = [sum(count) for count in zip(*((n, good + bad) for n, good, bad in COUNTS.values()), strict=True)]
    hours: float = EPOCHS * (images[0] * train + images[1] * test) / 3600
    return hours


@contextmanager
def device_use() -> Iterator[list[float]]:
    """Measure the percent of the first GPU (by nvidia-smi) or of the processor in use; filled after the context."""
    found: list[float] = []
    if not torch.cuda.is_available():
        psutil.cpu_percent()  # counts from here
        yield found
        found.append(psutil.cpu_percent())
        return
    command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--id=0", "-lms", "200"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watcher:
        try:
            yield found
        finally:
            watcher.terminate()
        found += map(float, watcher.communicate()[0].split()[1:])  # the first covers the time before


@contextmanager
def started(work: Work, altub: str, precision: str, runs: int) -> Iterator[list[Side]]:
    """Start that many runs and train each for one cycle of epochs, after which all preparations are done."""
    command = [*OWN, "--scheduled", "--noise", f"--override=altub={altub}", f"--override=precision={precision}"]
    with ExitStack() as stack, ThreadPoolExecutor(runs) as pool:
        starting = [pool.submit(Side(command, work).__enter__) for _ in range(runs)]
        sides = [side.result() for side in starting]
        for side in sides:
            stack.push(side)
        list(pool.map(lambda side: [side.epoch() for _ in range(CYCLE)], sides))
        yield sides


def together(sides: list[Side], work: Work) -> dict[str, float]:
    """Train cycles of epochs of these runs at once, on equal shares of the cores.

    Returns:
        ``train`` and ``test``, seconds per image of one run while all others run; ``epoch``, mean seconds of one;
        ``busy``, percent of the device in use; ``peak``, GiB of one run.
    """
    threads = max(1, (os.cpu_count() or 1) // len(sides))
    epochs: list[dict[str, float]] = []
    with ThreadPoolExecutor(len(sides)) as pool, device_use() as busy:
        start, cycles = time.perf_counter(), 0
        while (seconds := time.perf_counter() - start) < LEAST_SECONDS:
            for of_run in pool.map(lambda side: [side.epoch(threads) for _ in range(CYCLE)], sides):
                epochs += of_run
            cycles += 1
    return {
        "train": statistics.fmean(epoch["train"] for epoch in epochs) / work.train,
        "test": statistics.fmean(epoch["maps"] + epoch["auroc"] for epoch in epochs) / work.test,
        "epoch": seconds / cycles / CYCLE,
        "busy": statistics.fmean(busy) if busy else float("nan"),
        "peak": max(epoch["peak"] for epoch in epochs),
    }


def main() -> None:
    """Print runs per hour for several numbers of runs at once."""
    names = [name for name in WORK if name.startswith("fastflow-")]
    on_gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(
        prog="python -m bench.throughput", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=names, nargs="+", default=names)
    parser.add_argument("--runs", type=int, nargs="+", default=[1, 4, 8] if on_gpu else [1, 2], help="runs at once")
    parser.add_argument("--precision", choices=list(Precision), default="float32", help="default: %(default)s")
    parser.add_argument("--images", type=int, nargs=2, default=IMAGES, help="images of a run on a GPU (%(default)s)")
    chosen = parser.parse_args()
    print(line("", COLUMNS))
    total: dict[int, float] = dict.fromkeys(chosen.runs, 0.0)
    for name in chosen.only:
        work = Work(*WORK[name], threads=1)
        if on_gpu:
            work = replace(work, train=chosen.images[0], test=chosen.images[1], batch=32)
        for altub in BASES:
            with started(work, altub, chosen.precision, max(chosen.runs)) as sides:
                for runs in chosen.runs:
                    found = together(sides[:runs], work)
                    hours = table_a1_hours(found["train"], found["test"]) / runs
                    total[runs] += hours
                    values = (1000 * found["train"], 1000 * found["test"], found["epoch"], found["busy"], found["peak"])
                    cells = [f"{value:.{digits}f}" for value, digits in zip(values, (1, 1, 2, 0, 2), strict=True)]
                    cells = [*cells, f"{hours:.2f}", f"{len(COUNTS) / hours:.2f}"]
                    print(line(f"{name} {altub}", [str(runs), *cells]), flush=True)
    for runs, hours in total.items():
        print(line("all of these", [str(runs), *[""] * 5, f"{hours:.2f}"]))
    device = torch.cuda.get_device_name() if on_gpu else f"{os.cpu_count()} cores"
    print(
        f"{device}, {chosen.precision}; torch {torch.__version__}. Runs per hour: of 300 epochs of a category, the "
        "mean of all 15."
    )


if __name__ == "__main__":
    main()
