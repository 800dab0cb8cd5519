"""Sweeps: many runs at once, of which only the missing ones are computed."""
