"""Hydra's launcher ``slurm``: a sweep as an array of jobs on a cluster."""
