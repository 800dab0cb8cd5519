"""Python's garbage collector, out of the way where large libraries are imported."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


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
