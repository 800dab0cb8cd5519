"""Sweeps: many runs from one command, which computes only the missing ones."""
