"""The analysis of as many runs as the paper's grid with two seeds has; how long it takes: `python -m bench.tables`."""

from __future__ import annotations

import pytest

from tests.analysis.conftest import TABLES
from tests.analysis.filler import grid_of_240_runs, write
from tests.commandline import run


@pytest.mark.slow
def test_240_runs_of_300_epochs_give_every_cell(tmp_path):
    uri = write(grid_of_240_runs(), tmp_path)
    stdout, _ = run(tmp_path, "all", "--tracking-uri", uri, module=TABLES)
    assert "table_a1   120 of 120 cells" in stdout
