"""The machine that a run uses: device, precision, memory, disk and terminal."""
