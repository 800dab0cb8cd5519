"""What MLflow is told: a run's record, a sweep's own run, the store behind an address, and what is sent later."""
