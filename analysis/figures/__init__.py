"""Figures: the paper's from our runs, the curves and anomaly maps of every run, and a heat map of differences."""
