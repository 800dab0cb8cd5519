"""The device that a run computes on, and the random generators that it seeds."""

from __future__ import annotations

import numpy as np
import torch

from altub_exp.config.schema import Device, Precision
from altub_exp.errors import UserError
from altub_exp.machine.memory import keep_freed_memory
from altub_exp.machine.precision import allow_tf32


def prepare_device(
    wanted: Device, threads: int | None = None, precision: Precision = Precision.float32
) -> torch.device:
    """Set PyTorch's number of threads and its use of TF32, and return the device.

    Raises:
        UserError: there is no CUDA device for ``device=cuda``, or TF32 is asked for on a CPU.
    """
    available = torch.cuda.is_available()
    if wanted is Device.cuda and not available:
        raise UserError("device=cuda was asked for, but PyTorch finds no CUDA device here: set device=cpu or auto.")
    if threads is not None:
        torch.set_num_threads(threads)
    device = torch.device("cuda" if available and wanted is not Device.cpu else "cpu")
    if precision is Precision.tf32 and device.type != "cuda":
        raise UserError(
            "precision=tf32 has no effect on a CPU: set precision=float32, or device=cuda if there is a GPU."
        )
    allow_tf32(precision is Precision.tf32)
    if device.type == "cpu":
        keep_freed_memory()
    return device


def seed_everything(seed: int) -> None:
    """Seed PyTorch and numpy's global generator; from the latter the coupling blocks draw their permutations."""
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002
