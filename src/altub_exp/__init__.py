"""Does learning the base distribution (AltUB) make normalizing-flow anomaly detectors better and steadier?"""

__version__ = "0.1.0"
