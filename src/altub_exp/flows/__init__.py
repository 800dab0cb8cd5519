"""The normalizing flows."""
