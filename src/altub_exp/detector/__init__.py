"""The whole detector: its parts made from the configuration, its evaluation, and its use on new images."""
