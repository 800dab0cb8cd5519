"""In what precision the flow's convolutions and matrix products are computed; all else is float32."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


def allow_tf32(allowed: bool) -> None:
    """Let CUDA round the factors of float32 convolutions and matrix products to TF32's 10 bits, or not."""
    torch.backends.cudnn.allow_tf32 = allowed
    torch.backends.cuda.matmul.allow_tf32 = allowed


@contextlib.contextmanager
def without_tf32() -> Iterator[None]:
    """Compute in float32 proper: the backbone's features are the same whatever the flow's precision is."""
    before = torch.backends.cudnn.allow_tf32
    allow_tf32(False)
    try:
        yield
    finally:
        allow_tf32(before)


def uncast(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Inside, nothing is rounded that an autocast around it would; also on devices that have no autocast."""
    known = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if known else contextlib.nullcontext()
