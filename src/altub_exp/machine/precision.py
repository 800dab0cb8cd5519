"""The precision of the flow's convolutions and matrix products; everything else is computed in float32."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


def allow_tf32(allowed: bool) -> None:
    """Allow or forbid CUDA to round the factors of float32 convolutions and matrix products to TF32's 10 bits."""
    torch.backends.cudnn.allow_tf32 = allowed
    torch.backends.cuda.matmul.allow_tf32 = allowed


@contextlib.contextmanager
def without_tf32() -> Iterator[None]:
    """Forbid TF32, so that the backbone's features do not depend on the flow's precision."""
    before = torch.backends.cudnn.allow_tf32
    allow_tf32(False)
    try:
        yield
    finally:
        allow_tf32(before)


def uncast(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Disable a surrounding autocast; on a device without autocast, do nothing."""
    available = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if available else contextlib.nullcontext()
