"""From what MLflow holds to tables; reads nothing else."""
