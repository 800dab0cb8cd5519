"""The cost of a detector that scores single images: time and memory.

It needs PyTorch alone: a rival's worker, whose environment lacks this program, reads this file too.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, chain

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

WARM_UP = 10  # untimed images, which fill caches and on CUDA choose kernels
MEGABYTE = 1e6


def cost_of_single_images(score: Callable[[], object], modules: Sequence[nn.Module], count: int) -> dict[str, float]:
    """Measure the time and memory in which images are scored one by one.

    The time is that of ``count`` calls after :data:`WARM_UP` others. The memory is that of all parameters and buffers,
    and the peak of the tensors that one further call makes. Libraries and their own workspaces are not counted, nor is
    what else the process holds.

    Args:
        score: scores one image, from its pixels in memory to its map on the CPU.
        modules: all that it computes with; they share no parameter.
        count: number of images to time, at least 1.

    Returns:
        ``inference_ms``, the mean in milliseconds; ``inference_ms_std``, the standard deviation over the images;
        ``inference_mb``, the memory in megabytes of 10⁶ bytes.

    >>> layer = nn.Embedding(10, 25)  # 1,000 bytes
    >>> pixels = torch.zeros(1000, dtype=torch.int)
    >>> cost_of_single_images(lambda: layer(pixels), [layer], 1)["inference_mb"]  # 100,000 bytes of values
    0.101
    """
    milliseconds = []
    for _ in range(WARM_UP + count):
        began = time.perf_counter()
        score()
        milliseconds.append(1000 * (time.perf_counter() - began))
    timed = milliseconds[WARM_UP:]
    kept = sum(tensor.nbytes for tensor in _tensors(modules))
    on_cuda = any(tensor.is_cuda for tensor in _tensors(modules))
    peak = _peak_on_cuda(score) if on_cuda else _peak_on_cpu(score)
    return {
        "inference_ms": statistics.fmean(timed),
        "inference_ms_std": statistics.stdev(timed) if len(timed) > 1 else 0.0,
        "inference_mb": (kept + peak) / MEGABYTE,
    }


def _tensors(modules: Sequence[nn.Module]) -> Iterator[Tensor]:
    return chain.from_iterable(chain(module.parameters(), module.buffers()) for module in modules)


def _peak_on_cuda(work: Callable[[], object]) -> int:
    """Return the largest number of bytes that PyTorch held on the GPU during the work beyond those before it."""
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    work()
    return torch.cuda.max_memory_allocated() - before


def _peak_on_cpu(work: Callable[[], object]) -> int:
    """Return the largest sum of bytes of the tensors that the work made and had not yet freed."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # otherwise the profiler tells of its start, and of a missing GPU
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        work()
    records = [record for record in profiled.profiler.kineto_results.events() if record.name() == "[memory]"]
    records.sort(key=lambda record: record.start_ns())  # stable: of equal times, as they were recorded
    changes: list[int] = [record.nbytes() for record in records]
    return max(accumulate(changes, initial=0))
