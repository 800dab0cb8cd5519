"""The time to make all tables of 240 runs of 300 epochs and four metrics from SQLite.   python -m bench.tables"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.analysis.filler import grid_of_240_runs, write


def main() -> None:
    """Print the seconds that all tables take."""
    parser = argparse.ArgumentParser(prog="python -m bench.tables", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="rounds to measure (default: %(default)s)")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        specs = grid_of_240_runs()
        uri = write(specs, Path(folder))
        points = sum(len(series) for spec in specs for series in spec.series.values())
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}
        command = [sys.executable, "-m", "analysis.tables", "all", "--tracking-uri", uri]
        for _ in range(rounds):
            start = time.perf_counter()
            subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
            print(f"{len(specs)} runs, {points:,} points: all tables in {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
