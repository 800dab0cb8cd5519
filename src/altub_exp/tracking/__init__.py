"""Tracking with MLflow: the record of a run, the run of a sweep, the store, and later synchronisation."""
