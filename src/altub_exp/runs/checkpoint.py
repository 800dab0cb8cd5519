"""A run's checkpoint: everything that the rest of the training depends on, including the random states."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from altub_exp.errors import UserError
from altub_exp.flows.flow import Shape
from altub_exp.machine.disk import replacing
from altub_exp.method.density import Density
from altub_exp.method.optimizer import AlternatingOptimizer
from altub_exp.runs.seal import ANEW, seal_archive


def save_checkpoint(
    path: Path, epoch: int, density: Density, optimizer: AlternatingOptimizer, facts: Mapping[str, Any]
) -> None:
    """Write the state after ``epoch``; a process that is killed while writing leaves the previous checkpoint.

    The file is sealed with the facts, see :func:`altub_exp.runs.integrity.facts`.
    """
    state = {
        "epoch": epoch,
        "density": density.state_dict(),
        "optimizer": optimizer.state_dict(),
        "random": _random_states(),
    }
    _write(path, state, facts)


def load_checkpoint(path: Path, density: Density, optimizer: AlternatingOptimizer) -> int:
    """Restore the state of the checkpoint, if there is one.

    Returns:
        The epoch after which the checkpoint was written; 0 if there is none.

    Raises:
        UserError: the file is damaged.
    """
    if not path.exists():
        return 0
    state = _read(path)
    density.load_state_dict(state["density"])
    if "optimizer" in state:  # otherwise all epochs are done, and only the end of the run is repeated
        optimizer.load_state_dict(state["optimizer"])
        _set_random_states(state["random"])
    return int(state["epoch"])


class ImageScores(NamedTuple):
    """The image scores at the last evaluation of a run, from which thresholds are derived.

    Attributes:
        scores: one per image, [N].
        defective: True for defective images, bool [N].
        split: ``test``; ``train`` if the run has no test images, so that these are its training images.
    """

    scores: Tensor
    defective: Tensor
    split: str


class Trained(NamedTuple):
    """The part of a finished run that scores new images.

    Attributes:
        density: parameters of the density.
        shapes: (C, H, W) of the feature maps of each scale.
        extremes: reference values of the anomaly maps, see :class:`~altub_exp.method.scoring.Scoring`.
        limits: smallest and largest value of the anomaly maps of the test images; of the training images if there are
            no others.
        images: the image scores; None if an earlier version has recorded the run.
    """

    density: dict[str, Tensor]
    shapes: list[Shape]
    extremes: list[float]
    limits: tuple[float, float]
    images: ImageScores | None


def save_trained(path: Path, epoch: int, trained: Trained, facts: Mapping[str, Any]) -> None:
    """Replace the checkpoint by the third of it that a finished run needs, without the optimizers' states."""
    images = None if trained.images is None else trained.images._asdict()
    _write(path, {"epoch": epoch} | trained._asdict() | {"images": images}, facts)


def load_trained(path: Path) -> Trained:
    """Read the file of :func:`save_trained`.

    Raises:
        UserError: the file is missing or damaged.
    """
    if not path.exists():
        raise UserError(f"{path} is missing: the run can only be used with its checkpoint.")
    state = _read(path)
    shapes = [(c, h, w) for c, h, w in state["shapes"]]
    images = state.get("images")
    return Trained(
        state["density"],
        shapes,
        state["extremes"],
        tuple(state["limits"]),
        None if images is None else ImageScores(**images),
    )


def _write(path: Path, state: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    with replacing(path, exclusive=True) as unfinished:
        with unfinished.open("wb") as file:  # PyTorch's own files do not say that the disk is full
            torch.save(state, file)
        seal_archive(unfinished, facts)


def _read(path: Path) -> dict[str, Any]:
    """Read a checkpoint whose seal has been verified, see :func:`altub_exp.runs.integrity.require_intact`."""
    try:
        return cast("dict[str, Any]", torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path} is damaged ({reason}): {ANEW}.") from error


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
