"""Memory management: the C library keeps freed blocks, and the garbage collector pauses during large imports."""

from __future__ import annotations

import ctypes
import gc
import platform
from collections.abc import Iterator
from contextlib import contextmanager

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # glibc's malloc.h


def keep_freed_memory() -> None:
    """Let glibc reuse large freed blocks instead of returning them to the system.

    Every training step allocates and frees maps of many MiB; by default glibc maps each again, and the system fills its
    pages with zeros. The process keeps up to 2 GiB of free memory. Other C libraries stay unchanged.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    for parameter, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 64 * 2**20)):
        libc.mallopt(parameter, value)


@contextmanager
def collection_paused() -> Iterator[None]:
    """Pause the garbage collector during imports: PyTorch, timm and MLflow make a million lasting objects.

    There is no ``gc.freeze``, since it would also keep the features of an earlier run of the same process. It is
    also a decorator, for a function that imports.
    """
    if not gc.isenabled():  # within another pause, or as the caller wants it
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
