"""Two programs that are measured alternately: each is a process that trains and evaluates one epoch on request.

This module does not import altub-exp: a peer's environment does not have it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

STEPS = ("train", "maps", "auroc")
"""The parts of an epoch: training, anomaly maps of the test images, exact pixel AUROC."""

WORK = {
    "fastflow-r18": ("fastflow", "r18", 256, 32, 32, 32),
    "fastflow-wrn50": ("fastflow", "wrn50", 256, 16, 16, 16),
    "fastflow-deit": ("fastflow", "deit", 384, 16, 16, 16),
    "fastflow-cait": ("fastflow", "cait", 448, 8, 8, 8),
    "cflow-r18": ("cflow", "r18", 128, 8, 8, 8),
}
"""Name: model, backbone, image size, training images, test images, batch."""
OWN = [sys.executable, "-m", "bench.own"]
"""The command of altub-exp's side."""


@dataclass(frozen=True)
class Work:
    """The amount of work to compute.

    Attributes:
        model: ``fastflow`` or ``cflow``.
        backbone: the key of its file in ``conf/backbone``.
        size: side of the images in pixels.
        train: number of training images.
        test: number of test images.
        batch: images per batch.
        threads: threads of PyTorch.
    """

    model: str
    backbone: str
    size: int
    train: int
    test: int
    batch: int
    threads: int

    def arguments(self) -> list[str]:
        """Return the command line that :func:`work_from` reads."""
        return [f"--{name}={value}" for name, value in vars(self).items()]


def work_from(arguments: Sequence[str] | None = None) -> tuple[Work, list[str]]:
    """Return the work that a command line names, and its other arguments."""
    parser = argparse.ArgumentParser()
    for name, kind in Work.__annotations__.items():
        parser.add_argument(f"--{name}", required=True, type=int if kind == "int" else str)
    known, rest = parser.parse_known_args(arguments)
    return Work(**vars(known)), rest


def line(name: str, cells: Iterable[str]) -> str:
    """Return a row of the table."""
    return f"{name:28}" + "".join(f"{cell:>10}" for cell in cells)


def images(count: int, size: int, seed: int) -> Tensor:
    """Return noise, uint8 [N, 3, S, S]: neither time nor memory depends on the content of images."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, 3, size, size), dtype=torch.uint8, generator=generator)


def masks(count: int, size: int) -> Tensor:
    """Return a square defect in every second image, bool [N, S, S]."""
    defective = torch.zeros(count, size, size, dtype=torch.bool)
    defective[1::2, : size // 8, : size // 8] = True
    return defective


def now() -> float:
    """Return the seconds on a clock, after all work on a GPU has ended."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
    return time.perf_counter()


def peak_memory() -> float:
    """Return this process's peak memory in GiB: of the GPU if it uses one, otherwise of the machine."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return torch.cuda.max_memory_reserved() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def serve(
    train: Callable[[], object],
    maps: Callable[[], Any],
    auroc: Callable[[Any], object],
    *,
    image: Callable[[], object] | None = None,
    during: Callable[[], dict[str, float]] = dict,
    **known: float,
) -> None:
    """Compute an epoch for every line on stdin, and answer with its seconds and the process's peak memory in GiB.

    A line may contain the number of threads that PyTorch uses from then on.

    Args:
        train: trains one epoch.
        maps: computes the anomaly maps.
        auroc: computes the AUROC of the result of ``maps``.
        image: infers a single image, which is timed after the epoch.
        during: returns further values of the epoch.
        **known: values that are sent once, when the process is ready.
    """
    print(json.dumps(known), flush=True)
    for line in sys.stdin:
        if line.strip():
            torch.set_num_threads(int(line))
        start = now()
        train()
        trained = now()
        found = maps()
        mapped = now()
        auroc(found)
        ended = now()
        answer = dict(zip(STEPS, (trained - start, mapped - trained, ended - mapped), strict=True))
        answer |= {"peak": peak_memory()} | during()
        if image is not None:
            start = now()
            image()
            answer["image"] = now() - start
        print(json.dumps(answer), flush=True)


class Side:
    """A process that runs :func:`serve`; use it as a context.

    Args:
        command: its command line.
        work: the work that it computes.

    Attributes:
        known: the values that it sent when it was ready.
    """

    known: dict[str, float]

    def __init__(self, command: Sequence[str], work: Work) -> None:
        self._command = [*command, *work.arguments()]

    def __enter__(self) -> Side:
        """Start the process and wait until it is ready."""
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.known = self._answer()
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def epoch(self, threads: int | None = None) -> dict[str, float]:
        """Compute one more epoch, with that many threads, or as many as before.

        Returns:
            Seconds of each of :data:`STEPS`, and ``peak`` in GiB.

        Raises:
            RuntimeError: the process has ended.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(f"{threads or ''}\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, float]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{' '.join(self._command)} ended with exit status {self._process.wait()}")
        answer: dict[str, float] = json.loads(line)
        return answer


def by_turns(commands: Sequence[Sequence[str]], work: Work, rounds: int) -> list[dict[str, float]]:
    """Measure epochs of several sides alternately, after one to warm up.

    Returns:
        For each the medians of all values and of the sum of :data:`STEPS`, ``epoch``; the highest ``peak``; and its
        known values.
    """
    with ExitStack() as stack:
        sides = [stack.enter_context(Side(command, work)) for command in commands]
        for side in sides:
            side.epoch()
        found = [[side.epoch() for side in sides] for _ in range(rounds)]
        return [side.known | _medians(epochs) for side, epochs in zip(sides, zip(*found, strict=True), strict=True)]


def _medians(epochs: Sequence[dict[str, float]]) -> dict[str, float]:
    sums = [epoch | {"epoch": sum(epoch[step] for step in STEPS)} for epoch in epochs]
    medians = {key: statistics.median(epoch[key] for epoch in sums) for key in sums[0]}
    return medians | {"peak": epochs[-1]["peak"]}
