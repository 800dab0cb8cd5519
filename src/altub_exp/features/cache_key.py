"""What decides the bits of a feature map: weights, model, preprocessing, software and processor."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import nn

Facts = Mapping[str, Any]
"""Plain values, of which a digest can be taken."""

FORM = 2
"""Raise it when decoding, resizing, extraction or the files of the cache change."""


def digest(facts: Facts) -> str:
    """Sixteen hex digits over plain values, in any order of the keys."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def model_facts(name: str, stages: Sequence[int], final_norm: bool, device: torch.device) -> dict[str, Any]:
    """Which model computes the maps, with which software, where."""
    software = {package: metadata.version(package) for package in ("torch", "timm")}
    return {
        "backbone": name,
        "stages": list(stages),
        "final_norm": final_norm,
        "processor": processor(device),
    } | software


def processor(device: torch.device) -> str:
    """What PyTorch chooses its kernels by."""
    if device.type == "cpu":
        return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    tensor_cores = f"{torch.get_float32_matmul_precision()}, cuDNN TF32 {torch.backends.cudnn.allow_tf32}"
    return f"{torch.cuda.get_device_name(device)}, {tensor_cores}"


def image_facts(size: int, interpolation: str) -> dict[str, Any]:
    """How a file becomes the image that enters the model."""
    return {"image_size": size, "interpolation": str(interpolation), "pillow": metadata.version("pillow"), "form": FORM}


@dataclass(frozen=True)
class WeightsSource:
    """Where a backbone's weights come from.

    Attributes:
        weights: ``pretrained``, ``random``, or a file.
        seed: of random weights.
        model: timm's name of the model.
        sha256: of the file.
    """

    weights: str
    seed: int
    model: str
    sha256: str | None

    def facts(self) -> dict[str, Any] | None:
        """What says which weights these are; None where only loading them tells."""
        if self.weights == "random":
            return {"random": self.seed}
        if self.weights == "pretrained":
            commit = hub_commit(self.model)
            return None if commit is None else {"pretrained": commit}
        return {"file": self.sha256}


def hub_commit(name: str) -> str | None:
    """Commit of the weights of a timm model in the Hugging Face hub's local cache; None where it holds none."""
    from huggingface_hub import constants

    try:
        return (Path(constants.HF_HUB_CACHE) / f"models--timm--{name}" / "refs" / "main").read_text().strip()
    except OSError:
        return None


def state_sha256(model: nn.Module) -> str:
    """SHA-256 over a model's structure, as it prints itself, and over its parameters and buffers, in hex digits."""
    found = hashlib.sha256(repr(model).encode())
    for key, value in sorted(model.state_dict().items()):
        found.update(f"{key} {value.dtype} {list(value.shape)}".encode())
        found.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
