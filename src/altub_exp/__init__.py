"""Experiments with AltUB (arXiv 2210.14913): learned base distributions for normalizing-flow anomaly detectors."""

import sys

__version__ = "0.1.0"

if sys.argv[:1] == ["-m"]:  # python -m is looking for a command of this package, or of one that imports it
    from altub_exp.machine.command_line import take_interrupts

    take_interrupts()
