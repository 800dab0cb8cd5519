"""The cache key of a feature map: all that decides its bits, from weights and preprocessing to the processor."""

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
"""Plain values that identify something, and of which a digest can be taken."""

FORM = 3
"""Must be raised when decoding, resizing, extraction or the form of the cache's files changes."""


def digest(facts: Facts) -> str:
    """Return sixteen hex digits over facts; the order of their keys does not matter."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def model_facts(
    name: str, stages: Sequence[int], final_norm: bool, device: torch.device, *, extra_blocks: bool = False
) -> dict[str, Any]:
    """Return the facts about the model, and about the software and the processor that compute its maps."""
    software = {package: metadata.version(package) for package in ("torch", "timm")}
    model = {"backbone": name, "stages": list(stages), "final_norm": final_norm, "processor": processor(device)}
    return model | ({"extra_blocks": True} if extra_blocks else {}) | software


def processor(device: torch.device) -> str:
    """Return the properties of a processor by which PyTorch chooses its kernels."""
    if device.type == "cpu":
        return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    tensor_cores = f"{torch.get_float32_matmul_precision()}, cuDNN TF32 {torch.backends.cudnn.allow_tf32}"
    return f"{torch.cuda.get_device_name(device)}, {tensor_cores}"


def image_facts(size: int, interpolation: str, bit_depth: int | None = None) -> dict[str, Any]:
    """Return the facts about the preprocessing, from a file to the image that enters the model."""
    facts = {"image_size": size, "interpolation": str(interpolation), "bit_depth": bit_depth}
    return facts | {"pillow": metadata.version("pillow"), "form": FORM}


@dataclass(frozen=True)
class WeightsSource:
    """The source of a backbone's weights.

    Attributes:
        weights: ``pretrained``, ``random``, or a file.
        seed: seed of random weights.
        model: timm's name of the model.
        sha256: SHA-256 of the file; None if there is none.
    """

    weights: str
    seed: int
    model: str
    sha256: str | None

    def facts(self) -> dict[str, Any] | None:
        """Return facts that identify the weights; None if that takes loading them."""
        if self.weights == "random":
            return {"random": self.seed}
        if self.weights == "pretrained":
            commit = hub_commit(self.model)
            return None if commit is None else {"pretrained": commit}
        return {"file": self.sha256}


def hub_commit(name: str) -> str | None:
    """Return the commit of a timm model's weights in the Hugging Face hub's local cache; None if it holds none."""
    from huggingface_hub import constants

    try:
        return (Path(constants.HF_HUB_CACHE) / f"models--timm--{name}" / "refs" / "main").read_text().strip()
    except OSError:
        return None


def state_sha256(model: nn.Module) -> str:
    """Return the SHA-256, in hex digits, of a model's structure as it is printed and of its parameters and buffers."""
    sha256 = hashlib.sha256(repr(model).encode())
    for key, value in sorted(model.state_dict().items()):
        sha256.update(f"{key} {value.dtype} {list(value.shape)}".encode())
        sha256.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return sha256.hexdigest()
