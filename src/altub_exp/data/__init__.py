"""Images, masks and labels: one module per layout, one for the built-in images."""
