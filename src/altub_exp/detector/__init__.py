"""A detector as a whole: its parts as the configuration says, its evaluation, and its use on new images."""
