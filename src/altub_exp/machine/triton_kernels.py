"""The first build of Triton kernels, which needs a C compiler."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import TypeVar

import torch

from altub_exp.machine.terminal import log

T = TypeVar("T")


def built(build: Callable[[], T], slower: str) -> T | None:
    """Return the result of ``build``, which calls kernels for the first time; if that fails, warn and return None.

    Args:
        build: imports Triton.
        slower: the part of the program that does without the kernels, as the subject of the warning.
    """
    try:
        return build()
    except torch.OutOfMemoryError:
        raise
    except (ImportError, OSError, RuntimeError, subprocess.CalledProcessError) as error:
        log.warning(
            "%s is slower than it could be on this GPU: its fused kernels cannot be built (%s). Triton needs a C "
            "compiler and Python's headers: apt-get install gcc python3-dev.",
            slower,
            error,
        )
        return None
