"""A store with all of the paper's numbers, and the tables that the command makes of it."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.analysis.filler import Filler
from tests.commandline import run

TABLES = "analysis.tables"


def table(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="session")
def papers_store(tmp_path_factory) -> str:
    """Tracking URI of a store that holds the paper's numbers."""
    return Filler().fill(tmp_path_factory.mktemp("papers"))


@pytest.fixture(scope="session")
def papers_tables(papers_store, tmp_path_factory) -> tuple[Path, str]:
    """The folder of all tables of that store, and what the command printed."""
    cwd = tmp_path_factory.mktemp("tables")
    stdout, stderr = run(cwd, "all", "--tracking-uri", papers_store, module=TABLES)
    assert stderr == ""
    return cwd / "results" / "tables", stdout
