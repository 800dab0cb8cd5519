"""Python's garbage collector, out of the way where large libraries are imported."""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager

atexit.register(gc.unfreeze)  # libraries that count what they have at the end would complain of leaks


@contextmanager
def collection_paused() -> Iterator[None]:
    """Import without looking for garbage: PyTorch, timm and MLflow make a million objects, nearly all of which stay.

    What is there at the end is not looked through in later collections either (``gc.freeze``), until the program ends.
    As a decorator, for the whole of a function that imports on its way.
    """
    if not gc.isenabled():  # within another pause, or as the caller wants it
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
