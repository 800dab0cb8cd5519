"""Metrics: the exact AUROC, normality of the latent units, stability over a window of epochs."""
