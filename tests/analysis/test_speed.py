"""How long the analysis takes with many runs."""

from __future__ import annotations

import time

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
def test_240_runs_of_300_epochs_take_less_than_a_minute(tmp_path):
    uri = write(grid_of_240_runs(), tmp_path)
    began = time.monotonic()
    stdout, _ = run(tmp_path, "all", "--tracking-uri", uri, module=TABLES)
    took = time.monotonic() - began
    assert "table_a1   120 of 120 cells" in stdout
    assert took < 60, took
