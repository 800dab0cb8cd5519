"""A run's checkpoint: everything that the rest of the training depends on, random states too."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

from altub_exp.altub import AlternatingOptimizer
from altub_exp.density import Density
from altub_exp.errors import UserError


def save_checkpoint(path: Path, epoch: int, density: Density, optimizer: AlternatingOptimizer) -> None:
    """Write the state after ``epoch``; a kill in the middle leaves the previous checkpoint."""
    _write(
        path,
        {
            "epoch": epoch,
            "density": density.state_dict(),
            "optimizer": optimizer.state_dict(),
            "random": _random_states(),
        },
    )


def load_checkpoint(path: Path, density: Density, optimizer: AlternatingOptimizer) -> int:
    """Take up the state of the checkpoint, where there is one.

    Returns:
        The epoch after which it was written; 0 without a checkpoint.

    Raises:
        UserError: the file is damaged.
    """
    if not path.exists():
        return 0
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(
            f"{path} is damaged ({error}): set resume=never to put the run aside and start over."
        ) from error
    density.load_state_dict(state["density"])
    optimizer.load_state_dict(state["optimizer"])
    _set_random_states(state["random"])
    return int(state["epoch"])


def strip_checkpoint(path: Path) -> None:
    """Drop the optimizers' states of a finished run, two thirds of the file; the model stays."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    _write(path, {"epoch": state["epoch"], "density": state["density"]})


def _write(path: Path, state: dict[str, Any]) -> None:
    temporary = path.with_name(path.name + ".part")
    with temporary.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _random_states() -> dict[str, Any]:
    kind, keys, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, gauss],
        "python": random.getstate(),
    }


def _set_random_states(states: dict[str, Any]) -> None:
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_available() and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])
    kind, keys, position, has_gauss, gauss = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, gauss))  # noqa: NPY002
    random.setstate(states["python"])
