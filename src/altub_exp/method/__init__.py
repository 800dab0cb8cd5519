"""AltUB itself: the density, its base distributions, the alternating schedule, learning and scoring."""
