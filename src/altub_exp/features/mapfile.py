"""The feature maps of one image as a file: safetensors with a checksum, mapped into memory when it is read."""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

MAPS = ".safetensors"


def read_maps(file: Path) -> list[Tensor] | None:
    """Maps whose checksum is right; None where there is no file, [] where it is damaged."""
    try:
        maps, checksum = map_file(file)
    except FileNotFoundError:
        return None
    except (SafetensorError, OSError):
        return []
    if checksum != _checksum(maps):
        return []
    with contextlib.suppress(PermissionError):  # another user's; it is that one's to keep
        os.utime(file)
    return maps


def map_file(file: Path) -> tuple[list[Tensor], str | None]:
    """The maps, and the checksum they had when they were written."""
    with safe_open(str(file), "pt") as opened:
        maps = [opened.get_tensor(str(scale)) for scale in range(len(opened.keys()))]
        return maps, (opened.metadata() or {}).get("crc32")


def serialized(maps: Sequence[Tensor]) -> bytes:
    """The content of the file of these maps."""
    tensors = {str(scale): one.contiguous() for scale, one in enumerate(maps)}
    content: bytes = save(tensors, {"crc32": _checksum(maps)})
    return content


def _checksum(maps: Sequence[Tensor]) -> str:
    found = 0
    for one in maps:
        found = zlib.crc32(one.contiguous().view(-1).view(torch.uint8).numpy().data, found)
    return f"{found:08x}"
