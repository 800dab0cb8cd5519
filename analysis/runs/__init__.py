"""The runs of this program that MLflow holds: read in bulk, sorted into conditions, with their files and origin."""
