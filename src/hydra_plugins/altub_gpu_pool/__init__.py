"""Hydra's launcher ``gpu_pool``: a queue of jobs on the GPUs, or the cores, of one machine."""
