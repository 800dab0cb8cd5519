"""Faults of a sweep on one machine: callers and jobs that are killed, and a disk that is full for a while."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient

from altub_exp.machine.disk import no_space
from altub_exp.runs.checkpoint import Trained, save_trained
from altub_exp.runs.folder import DIED, RunFolder
from tests.commandline import folders, journal, run, status
from tests.disturbance import (  # noqa: F401  # the fixture is found here by its name
    IN_A_POOL,
    Caller,
    assert_as_undisturbed,
    no_caller_stays,
    one_computing,
    sweep,
    wait_for,
)

SEEDS = 2  # four runs


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    cwd = tmp_path_factory.mktemp("undisturbed")
    run(cwd, *sweep(SEEDS), seconds=900)
    return cwd


def state_in_mlflow(cwd: Path, folder: Path) -> str:
    client = MlflowClient(f"sqlite:///{cwd}/mlflow.db")
    experiment = client.get_experiment_by_name("demo").experiment_id
    (found,) = client.search_runs([experiment], f"tags.run_key = '{folder.name}'")
    return found.info.status


def finished(cwd: Path) -> int:
    return [status(folder)["state"] for folder in folders(cwd)].count("finished")


def strike(cwd: Path, number: signal.Signals, struck: set[Path]) -> Path:
    folder = one_computing(cwd, struck)
    pid = status(folder)["pid"]
    os.kill(pid, number)
    return folder


@pytest.mark.slow
def test_callers_and_jobs_of_a_pool_are_killed(undisturbed, tmp_path):
    struck: set[Path] = set()
    caller = Caller(tmp_path, *sweep(SEEDS, *IN_A_POOL))
    killed, told = (strike(tmp_path, number, struck) for number in (signal.SIGKILL, signal.SIGTERM))
    living = one_computing(tmp_path, struck)
    os.kill(status(living)["pid"], signal.SIGSTOP)  # it keeps its lock, and gives us time to look
    caller.kill()
    out, said = run(tmp_path, "--json", module="altub_exp.status")
    rows = {row["folder"]: row for row in json.loads(out)}
    for folder in (killed, told):
        row = rows[str(folder.relative_to(tmp_path))]
        assert (row["state"], row["reason"]) == ("failed", DIED)
        assert state_in_mlflow(tmp_path, folder) == "FAILED"
    assert rows[str(living.relative_to(tmp_path))]["state"] == "running"
    assert state_in_mlflow(tmp_path, living) == "RUNNING"
    assert "marked as failed; the same command completes them" in said
    os.kill(status(living)["pid"], signal.SIGCONT)
    wait_for(lambda: finished(tmp_path) == 2, 600, "the ends of the runs that outlived their caller")

    struck.clear()
    caller = Caller(tmp_path, *sweep(SEEDS, *IN_A_POOL))
    wait_for(lambda: caller.log.read_text().count("started (slot") == 2)
    strike(tmp_path, signal.SIGUSR2, struck)
    caller.kill()
    wait_for(lambda: finished(tmp_path) == 3, 600, "the end of the run that outlived its caller")

    struck.clear()
    caller = Caller(tmp_path, *sweep(SEEDS, *IN_A_POOL))
    killed = strike(tmp_path, signal.SIGKILL, struck)
    said = caller.end(1)
    assert "4 runs: 1 failed, 3 finished." in said
    assert "was ended by signal 9 (Killed), perhaps out of memory" in said
    assert "The same command resumes the stopped runs" in said
    assert (status(killed)["state"], status(killed)["reason"]) == ("failed", DIED), "the caller has seen to it"
    assert state_in_mlflow(tmp_path, killed) == "FAILED"

    said = Caller(tmp_path, *sweep(SEEDS, *IN_A_POOL)).end(0)
    assert "4 runs: 1 half-done, 3 finished; 1 to compute." in said
    out, _ = run(tmp_path, "--json", module="altub_exp.status")
    assert [row["state"] for row in json.loads(out)] == ["finished"] * 4
    assert_as_undisturbed(tmp_path, undisturbed, sync=False)


@pytest.mark.slow
def test_two_callers_of_a_pool_at_once(undisturbed, tmp_path):
    callers = [Caller(tmp_path, *sweep(SEEDS, *IN_A_POOL)) for _ in range(2)]
    for caller in callers:
        assert "4 runs: 4 finished." in caller.end(0)
    assert_as_undisturbed(tmp_path, undisturbed, sync=False)


class Disk:
    """A small disk mounted at a folder, which can be filled."""

    def __init__(self, folder: Path, megabytes: int):
        self.folder = folder
        folder.mkdir()
        if os.geteuid() != 0:
            pytest.skip("a disk of its own can only be mounted by root")
        options = ["-t", "tmpfs", "-o", f"size={megabytes}m", "altub-test", str(folder)]
        done = subprocess.run(["mount", *options], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"a disk of its own cannot be mounted here: {done.stderr.strip()}")
        self._stop, self._thread = threading.Event(), threading.Thread(target=self._keep_full)

    def fill(self) -> None:
        """Fill it; it stays full, even if files are removed, until :meth:`free`."""
        self._thread.start()
        wait_for(lambda: os.statvfs(self.folder).f_bavail == 0, 60)

    def _keep_full(self) -> None:
        with (self.folder / "filler").open("wb", buffering=0) as filler:
            size = 1 << 20
            while not self._stop.is_set():
                try:
                    filler.write(bytes(size))
                except OSError:
                    size = max(4096, size // 2)
                    if size == 4096:
                        self._stop.wait(0.005)

    def free(self) -> None:
        self._stop.set()
        if self._thread.ident:
            self._thread.join()
            (self.folder / "filler").unlink()

    def unmount(self) -> None:
        self.free() if not self._stop.is_set() else None
        subprocess.run(["umount", "-l", str(self.folder)], check=True)


@pytest.fixture
def disk(tmp_path):
    disk = Disk(tmp_path / "runs", megabytes=100)
    try:
        yield disk
    finally:
        disk.unmount()


def test_a_checkpoint_on_a_full_disk_says_that_it_is_full(disk):
    path = disk.folder / "checkpoint.pt"
    trained = Trained({"weight": torch.zeros(2**25)}, [], {}, (0.0, 1.0), None)  # 128 MiB on a disk of 100
    with pytest.raises((OSError, RuntimeError)) as caught:  # what caused it is asserted
        save_trained(path, 1, trained, {})
    assert no_space(caught.value)
    assert not list(disk.folder.iterdir())


STORES = pytest.mark.parametrize("store", ["mlflow.db", "runs/mlflow.db"], ids=["store elsewhere", "store there too"])


@pytest.mark.slow
@STORES
@pytest.mark.parametrize("launcher", [IN_A_POOL, []], ids=["pool", "basic"])
def test_a_disk_that_is_full_for_a_while(disk, undisturbed, tmp_path, store, launcher):
    command = sweep(SEEDS, *launcher, f"tracking.uri=sqlite:///{store}")
    remedy = f"free space on {disk.folder}, then give the same command again."
    caller = Caller(tmp_path, *command)
    one_computing(tmp_path, set())
    disk.fill()
    said = caller.end(1)
    assert remedy in said
    assert "The same command resumes the stopped runs" in said
    assert "retry_failed" not in said
    assert not list(disk.folder.rglob("*.part"))
    assert not list(disk.folder.rglob("*.tmp"))
    for folder in folders(tmp_path):
        recorded = RunFolder(folder)
        reference = journal(undisturbed / folder.relative_to(tmp_path))
        done = recorded.status().get("checkpoint_epoch", 0)
        rows = [{k: v for k, v in row.items() if k not in ("time", "seconds")} for row in recorded.journal.rows()]
        assert rows == reference[: len(rows)]
        assert len(rows) >= done, "what the checkpoint covers is in the journal"
        if done:
            kept = torch.load(recorded.checkpoint, weights_only=True)["epoch"]
            assert done <= kept <= len(rows)
        if recorded.config.exists():
            assert recorded.config.read_text().partition("\n")[2].startswith("model:"), "below its seal"
    disk.free()
    said = Caller(tmp_path, *command).end(0)
    assert "4 runs: 4 finished." in said
    assert_as_undisturbed(tmp_path, undisturbed, f"sqlite:///{tmp_path}/{store}", sync=False)


@pytest.mark.slow
@STORES
def test_a_disk_that_is_full_from_the_start(disk, undisturbed, tmp_path, store):
    command = sweep(SEEDS, *IN_A_POOL, f"tracking.uri=sqlite:///{store}")
    disk.fill()
    said = Caller(tmp_path, *command).end(1)
    assert f"free space on {disk.folder}, then give the same command again." in said
    assert not folders(tmp_path), "nothing was begun"
    disk.free()
    said = Caller(tmp_path, *command).end(0)
    assert "4 runs: 4 new; 4 to compute." in said
    assert_as_undisturbed(tmp_path, undisturbed, f"sqlite:///{tmp_path}/{store}", sync=False)
