"""Memory: blocks that the C library keeps for PyTorch, and a garbage collector that pauses during large imports."""

from __future__ import annotations

import ctypes
import gc
import platform
from collections.abc import Iterator
from contextlib import contextmanager

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # glibc's malloc.h


def keep_freed_memory() -> None:
    """Let glibc reuse large blocks instead of returning each to the system and asking for fresh pages in every step.

    Every training step allocates and frees maps of many MiB; glibc maps those anew each time, and the system fills the
    pages with zeros again. No number depends on it. Up to 2 GiB that are free stay with the process. Elsewhere than on
    glibc nothing is changed.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    for parameter, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 64 * 2**20)):
        libc.mallopt(parameter, value)


@contextmanager
def collection_paused() -> Iterator[None]:
    """Import without looking for garbage: PyTorch, timm and MLflow make a million objects, nearly all of which stay.

    Garbage is found afterwards: nothing is exempt from later collections (no ``gc.freeze``), since an earlier run of
    the same process may lie there with its features. As a decorator, for the whole of a function that imports on its
    way.
    """
    if not gc.isenabled():  # within another pause, or as the caller wants it
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
