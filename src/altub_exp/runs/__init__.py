"""Runs on disk: folder, journal, checkpoint, identity, provenance, overview and pictures."""
