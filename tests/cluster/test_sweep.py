"""Sweeps on a real Slurm cluster through the disturbances of a night on a cluster, in minutes."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from tests.cluster.slurm import Slurm, wait_until
from tests.commandline import folders, run, status
from tests.disturbance import (  # noqa: F401  # the fixture is found here by its name
    Caller,
    assert_as_undisturbed,
    no_caller_stays,
    one_computing,
    sweep,
)

pytestmark = pytest.mark.slurm

ON_SLURM = [
    "hydra/launcher=slurm",
    "hydra.launcher.gpus_per_node=null",
    "hydra.launcher.cpus_per_task=2",
    "hydra.launcher.mem_gb=1",
    "hydra.launcher.timeout_min=30",
    "hydra.launcher.array_parallelism=4",
    "hydra.launcher.poll_seconds=1",
    "hydra.launcher.lost_seconds=5",
]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A sweep of 24 runs, one after the other in one process, and the first 8 of them."""
    cwd = tmp_path_factory.mktemp("undisturbed")
    run(cwd, *sweep(12), seconds=1200)
    return cwd


@pytest.fixture(scope="module")
def first_eight(undisturbed, tmp_path_factory):
    cwd = tmp_path_factory.mktemp("eight")
    for folder in folders(undisturbed):
        if int(folder.name.split("-")[0].removeprefix("seed")) <= 4:
            shutil.copytree(folder, cwd / folder.relative_to(undisturbed))
    return cwd


def test_a_night_of_faults(of_the_cluster: Slurm, undisturbed: Path, tmp_path: Path):
    """A sweep of 24 jobs, four at once: one killed, preempted, cancelled, requeued each; the controller restarted."""
    cluster = of_the_cluster
    caller = Caller(tmp_path, *sweep(12), *ON_SLURM)
    struck: set[Path] = set()
    killed = one_computing(tmp_path, struck)
    os.kill(status(killed)["pid"], signal.SIGKILL)
    preempted = one_computing(tmp_path, struck)
    cluster.signal(status(preempted)["slurm_job"], "USR2")
    cancelled = one_computing(tmp_path, struck)
    cluster.scancel(status(cancelled)["slurm_job"])
    cluster.restart(cluster.slurmctld)
    requeued = one_computing(tmp_path, struck)
    cluster.scontrol("requeue", status(requeued)["slurm_job"])
    said = caller.end(1)
    assert "24 runs: 24 new; 24 to compute." in said
    assert "24 runs: 2 failed, 22 finished." in said
    assert said.count("ended without a result") == 2
    for folder in (preempted, requeued):
        assert status(folder)["resumed"] or "from epoch" in (folder / "train.log").read_text()
    said = Caller(tmp_path, *sweep(12), *ON_SLURM).end(0)
    assert "24 runs: 2 half-done, 22 finished; 2 to compute." in said
    assert "24 runs: 24 finished." in said
    assert_as_undisturbed(tmp_path, undisturbed)


def test_the_caller_is_killed_twice(of_the_cluster: Slurm, first_eight: Path, tmp_path: Path):
    seen: set[Path] = set()
    callers = []
    for _ in range(2):
        callers.append(Caller(tmp_path, *sweep(4), *ON_SLURM))
        one_computing(tmp_path, seen)
        callers[-1].kill()
    said = Caller(tmp_path, *sweep(4), *ON_SLURM).end(0)
    assert "8 runs: 8 finished." in said
    assert "Slurm has taken 8 jobs as" in callers[0].log.read_text()
    for later in (callers[1].log.read_text(), said):
        assert "Slurm has taken" not in later, "what is in the queue is not submitted again"
    wait_until(lambda: not of_the_cluster.squeue(), 300, "the jobs of the callers that were killed")
    assert_as_undisturbed(tmp_path, first_eight)


def test_two_callers_at_once(of_the_cluster: Slurm, first_eight: Path, tmp_path: Path):
    callers = [Caller(tmp_path, *sweep(4), *ON_SLURM) for _ in range(2)]
    for caller in callers:
        assert "8 runs: 8 finished." in caller.end(0)
    assert_as_undisturbed(tmp_path, first_eight)


def test_without_accounting_a_killed_job_is_noticed(without_accounting: Slurm, tmp_path: Path):
    caller = Caller(tmp_path, *sweep(1), *ON_SLURM)
    killed = one_computing(tmp_path, set())
    os.kill(status(killed)["pid"], signal.SIGKILL)
    said = caller.end(1, seconds=240)
    assert "2 runs: 1 failed, 1 finished." in said
    assert "ended without a result" in said
    assert "2 runs: 2 finished." in Caller(tmp_path, *sweep(1), *ON_SLURM).end(0)


def test_a_cluster_that_refuses_the_jobs_is_one_sentence(of_the_cluster: Slurm, tmp_path: Path):
    said = Caller(tmp_path, *sweep(1), *ON_SLURM, "hydra.launcher.partition=nowhere").end(1, seconds=240)
    (error,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert "Slurm rejects the jobs" in error
    assert "partition" in error
    assert not list(tmp_path.glob("runs/synthetic"))
