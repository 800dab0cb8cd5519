"""The analysis of as many runs as the paper's grid with two seeds has; how long it takes: `python -m bench.tables`."""

from __future__ import annotations

import pytest

from tests.analysis.conftest import TABLES
from tests.analysis.filler import Filler, write
from tests.commandline import run


def grid_of_240_runs():
    """240 runs × 300 epochs × 4 metrics, and the statistics of every tenth epoch."""
    filler = Filler(
        only=lambda spot: (spot.dataset, spot.model) == ("mvtec", "fastflow") and spot.altub in ("none", "alternating"),
        seeds=lambda spot: (25, 26),
    )
    specs = filler.specs()
    for spec in specs:
        spec.series["mean_square"] = dict.fromkeys(range(1, 301), 1.0)
    assert len(specs) == 240
    return specs


@pytest.mark.slow
def test_240_runs_of_300_epochs_give_every_cell(tmp_path):
    uri = write(grid_of_240_runs(), tmp_path)
    stdout, _ = run(tmp_path, "all", "--tracking-uri", uri, module=TABLES)
    assert "table_a1   120 of 120 cells" in stdout
