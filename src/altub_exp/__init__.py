"""Experiments with AltUB (arXiv 2210.14913): learned base distributions for normalizing-flow anomaly detectors."""

__version__ = "0.1.0"
