"""Experiments with AltUB (arXiv 2210.14913): learned base distributions for normalizing-flow anomaly detectors."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from altub_exp.detector.inference import Detector as Detector

__version__ = "0.1.0"

if sys.argv[:1] == ["-m"]:  # python -m is looking for a command of this package, or of one that imports it
    from altub_exp.machine.command_line import take_interrupts

    take_interrupts()


def __getattr__(name: str) -> Any:
    """Import :class:`~altub_exp.detector.inference.Detector` when it is first used: PyTorch takes seconds."""
    if name == "Detector":
        from altub_exp.detector.inference import Detector

        return Detector
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
