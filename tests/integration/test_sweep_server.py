"""Sweeps through the command line while the MLflow server is killed and comes back, or comes too late."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from tests.commandline import command, environment, folders, run
from tests.disturbance import (  # noqa: F401  # the fixture is found here by its name
    IN_A_POOL,
    Caller,
    assert_as_undisturbed,
    no_caller_stays,
    one_computing,
    sweep,
    wait_for,
)

AWAY_SECONDS = 30
SEEDS = 2  # four runs


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    cwd = tmp_path_factory.mktemp("undisturbed")
    run(cwd, *sweep(SEEDS), seconds=900)
    return cwd


def kill_in_mid_sweep(server, undisturbed: Path, cwd: Path, experiment: str, *launcher: str) -> None:
    place = [f"tracking.uri={server.uri}", f"tracking.experiment={experiment}"]
    caller = Caller(cwd, *sweep(SEEDS, *launcher, *place))
    try:
        one_computing(cwd, set())
        server.kill()
        time.sleep(AWAY_SECONDS)
    finally:
        server.start()
    said = caller.end(0)
    assert "4 runs: 4 finished." in said
    logs = [(folder / "train.log").read_text() for folder in folders(cwd)]
    assert any("does not record" in log for log in logs), "the fault was felt"
    assert not any("Traceback" in log for log in logs)
    if launcher:  # where the runs' own words do not reach the caller's terminal
        assert said.count("does not record") <= 1, said
    assert_as_undisturbed(cwd, undisturbed, server.uri, experiment, sync=False)
    told, _ = run(cwd, module="altub_exp.sync")
    assert told.splitlines() == [f"{folder.relative_to(cwd)}: nothing missing" for folder in folders(cwd)]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [IN_A_POOL, []], ids=["pool", "basic"])
def test_server_killed_in_mid_sweep_and_away_for_half_a_minute(server, undisturbed, tmp_path, launcher):
    kill_in_mid_sweep(server, undisturbed, tmp_path, f"killed {len(launcher)}", *launcher)


@pytest.mark.server
def test_server_over_postgresql_killed_in_mid_sweep(postgresql_server, undisturbed, tmp_path):
    kill_in_mid_sweep(postgresql_server, undisturbed, tmp_path, "killed", *IN_A_POOL)


@pytest.mark.slow
def test_server_that_is_back_only_after_the_sweep(server, undisturbed, tmp_path):
    """The sweep waits in vain and names the remedy, which also sends the sweep's own run."""
    place = [f"tracking.uri={server.uri}", "tracking.experiment=late"]
    server.kill()
    try:
        said = Caller(tmp_path, *sweep(SEEDS, *IN_A_POOL, *place)).end(0)
        away = subprocess.run(
            command(module="altub_exp.sync"), cwd=tmp_path, env=environment(), capture_output=True, text=True
        )
    finally:
        server.start()
    assert "4 runs: 4 finished." in said
    assert said.count("Waiting up to 2 min") == 1
    assert said.count("Nothing is lost: `python -m altub_exp.sync runs` sends it later.") == 1
    assert (away.returncode, away.stderr) == (1, f"error: MLflow at {server.uri} does not record (no connection).\n")
    told, _ = run(tmp_path, module="altub_exp.sync")
    assert told.count("points sent") == 4
    assert told.splitlines()[-1] == "sweep night: none of its runs is still being computed; marked as ended"
    assert_as_undisturbed(tmp_path, undisturbed, server.uri, "late", sync=False)


@pytest.mark.slow
def test_the_same_command_brings_what_an_absent_server_lacks(server, undisturbed, tmp_path):
    """The caller of the sweep ended during the outage; no run has to be computed any more."""
    place = [f"tracking.uri={server.uri}", "tracking.experiment=again"]
    server.kill()
    try:
        caller = Caller(tmp_path, *sweep(SEEDS, *IN_A_POOL, *place))
        wait_for(lambda: "Waiting up to" in caller.log.read_text(), 600)
        caller.kill()
    finally:
        server.start()
    said = Caller(tmp_path, *sweep(SEEDS, *IN_A_POOL, *place)).end(0)
    assert "4 runs: 4 finished; 0 to compute." in said
    assert "has received the missing parts of 4 runs" in said
    assert_as_undisturbed(tmp_path, undisturbed, server.uri, "again", sync=False)
