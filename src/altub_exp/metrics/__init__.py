"""Exact AUROC, normality of the latent units, stability over an epoch window."""
