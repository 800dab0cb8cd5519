"""Hydra's launcher ``gpu_pool``: a queue of jobs on the GPUs or cores of one machine."""
