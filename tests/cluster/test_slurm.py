"""The test cluster itself, through Slurm's own commands and through submitit."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
import submitit

from tests.cluster.slurm import Slurm, missing, wait_until

pytestmark = pytest.mark.slurm


def running(cluster: Slurm, job: str) -> bool:
    return "RUNNING" in cluster.squeue(job).values()


def until(gate: Path) -> str:
    """Return the shell's statement that waits for a file, so that jobs end when the test lets them, under any load."""
    return f"until [ -e {gate} ]; do sleep 0.1; done"


def executor(folder: Path, **parameters: object) -> submitit.SlurmExecutor:
    executor = submitit.SlurmExecutor(folder, max_num_timeout=0)
    executor.update_parameters(time=5, cpus_per_task=1, **parameters)
    return executor


def test_srun(cluster: Slurm):
    assert cluster.run("srun", "hostname") == cluster.host
    assert cluster.run("srun", "--ntasks=8", "hostname").split() == [cluster.host] * 8


def test_client_that_hangs_or_fails_is_an_error(cluster: Slurm):
    with pytest.raises(RuntimeError, match="exit status 124"):
        cluster.run("srun", "sleep", "60", seconds=2)
    with pytest.raises(RuntimeError, match="Invalid job id"):
        cluster.scontrol("show", "job", "999999")


def test_array_of_two_at_a_time(cluster: Slurm, tmp_path: Path):
    gate = tmp_path / "gate"
    job = cluster.sbatch(f"{until(gate)}; sleep 1; echo $SLURM_ARRAY_TASK_ID", "--array=0-4%2")
    names = [f"{job}_{task}" for task in range(5)]
    wait_until(lambda: list(cluster.squeue(job).values()).count("RUNNING") == 2)
    gate.touch()
    while states := cluster.squeue(job):
        assert set(states) <= set(names)
        assert list(states.values()).count("RUNNING") <= 2
    assert [cluster.output(name) for name in names] == [f"{task}\n" for task in range(5)]
    wait_until(lambda: cluster.sacct(job) == dict.fromkeys(names, "COMPLETED"), 60, "all tasks in sacct")


def test_memory_and_cpus_are_allotted(cluster: Slurm):
    both = [cluster.sbatch("sleep 60", "--cpus-per-task=5") for _ in range(2)]
    wait_until(lambda: running(cluster, both[0]))
    wait_until(lambda: cluster.show(both[1])["Reason"] == "Resources")
    cluster.scancel(*both)
    refused = cluster.client("sbatch", "--mem=9G", "--wrap=true")
    assert "Memory specification can not be satisfied" in refused.stderr


def test_each_task_of_an_array_has_its_own_gpu(cluster: Slurm, tmp_path: Path):
    gate = tmp_path / "gate"
    job = cluster.sbatch(f"{until(gate)}; echo $CUDA_VISIBLE_DEVICES", "--array=0-2", "--gpus-per-node=1")
    wait_until(lambda: list(cluster.squeue(job).values()).count("RUNNING") == 2)
    assert "PENDING" in cluster.squeue(job).values(), "there are two GPUs"
    gate.touch()
    cluster.wait(job)
    devices = [cluster.output(f"{job}_{task}").strip() for task in range(3)]
    assert set(devices[:2]) == {"0", "1"}
    assert devices[2] in ("0", "1")
    none = cluster.sbatch('echo "${CUDA_VISIBLE_DEVICES-none}"')
    cluster.wait(none)
    assert cluster.output(none).strip() in ("none", "NoDevFiles")


def test_scancel(cluster: Slurm):
    job = cluster.sbatch("trap '' TERM; sleep 60 & wait; wait")
    wait_until(lambda: running(cluster, job))
    cluster.scancel(job)
    cluster.wait(job)
    wait_until(lambda: cluster.sacct(job) == {job: "CANCELLED"}, 60, "the cancelled job in sacct")


def test_failure(cluster: Slurm):
    failing = cluster.sbatch("exit 3")
    cluster.wait(failing)
    assert cluster.show(failing)["ExitCode"] == "3:0"
    wait_until(lambda: cluster.sacct(failing) == {failing: "FAILED"}, 60, "the failed job in sacct")


def test_requeue_runs_it_again(cluster: Slurm):
    job = cluster.sbatch(
        'echo run $SLURM_RESTART_COUNT; [ -n "$SLURM_RESTART_COUNT" ] || sleep 60', "--open-mode=append"
    )
    wait_until(lambda: "run" in cluster.output(job))
    cluster.scontrol("requeue", job)
    cluster.wait(job)
    printed = cluster.output(job).splitlines()
    assert (printed[0], printed[-1]) == ("run", "run 1")
    assert cluster.show(job)["Restarts"] == "1"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("daemon", ["slurmctld", "slurmd", "slurmdbd"])
def test_a_daemon_that_comes_back_has_lost_nothing(cluster: Slurm, daemon: str, number: signal.Signals, tmp_path: Path):
    gate = tmp_path / "gate"
    job = cluster.sbatch(f"{until(gate)}; echo done", "--array=0-4%3")
    names = [f"{job}_{task}" for task in range(5)]
    wait_until(lambda: list(cluster.squeue(job).values()).count("RUNNING") == 3)
    cluster.wait_saved(job)
    cluster.restart(getattr(cluster, daemon), number)
    assert set(cluster.squeue(job)) == set(names), "all known again"
    gate.touch()
    cluster.wait(job)
    assert [cluster.output(name) for name in names] == ["done\n"] * 5, "each ran once"
    wait_until(lambda: cluster.sacct(job) == dict.fromkeys(names, "COMPLETED"), 60, "all tasks in sacct")


def test_without_accounting_only_the_controller_knows(cluster_without_accounting: Slurm):
    cluster = cluster_without_accounting
    job = cluster.sbatch("echo $CUDA_VISIBLE_DEVICES", "--gpus-per-node=2")
    cluster.wait(job)
    assert cluster.output(job) == "0,1\n"
    assert cluster.show(job)["JobState"] == "COMPLETED"
    with pytest.raises(RuntimeError, match="accounting storage is disabled"):
        cluster.sacct(job)


def test_submitit_returns_a_value(of_the_cluster: Slurm, tmp_path: Path):
    assert executor(tmp_path).submit(math.factorial, 20).result() == math.factorial(20)


def test_submitit_array(of_the_cluster: Slurm, tmp_path: Path):
    array = executor(tmp_path, array_parallelism=2, gpus_per_node=1)
    jobs = array.map_array(math.sqrt, [0, 1, 4, -1])
    assert [job.result() for job in jobs[:3]] == [0, 1, 2]
    with pytest.raises(submitit.core.utils.FailedJobError, match="ValueError"):
        jobs[3].result()


def test_submitit_without_accounting_returns_what_ends_by_itself(without_accounting: Slurm, tmp_path: Path):
    assert executor(tmp_path).submit(math.factorial, 20).result() == math.factorial(20)


def test_submitit_notices_a_cancelled_job_by_sacct(of_the_cluster: Slurm, tmp_path: Path):
    job = executor(tmp_path).submit(time.sleep, 600)
    wait_until(lambda: running(of_the_cluster, job.job_id))
    of_the_cluster.scancel("--signal=KILL", job.job_id)
    wait_until(lambda: job.done(force_check=True), 30, "submitit's notice")
    assert job.state == "CANCELLED by 0"
    with pytest.raises(submitit.core.utils.UncompletedJobError):
        job.result()


def test_submitit_without_accounting_waits_for_a_killed_job_for_ever(without_accounting: Slurm, tmp_path: Path):
    """A killed job leaves a caller no result and no error, and submitit waits without end."""
    submit = "import submitit, sys, time; e = submitit.SlurmExecutor(sys.argv[1]); e.submit(time.sleep, 600).result()"
    caller = subprocess.Popen(
        [sys.executable, "-c", submit, tmp_path], env=without_accounting.environment(), stderr=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: "RUNNING" in without_accounting.squeue().values())
        (job,) = without_accounting.squeue()
        without_accounting.scancel("--signal=KILL", job)
        without_accounting.wait(job)
        with pytest.raises(subprocess.TimeoutExpired):
            caller.wait(15)
    finally:
        caller.kill()
        caller.wait()
    known = submitit.SlurmJob(tmp_path, job)
    assert not known.done(force_check=True)
    assert known.state == "UNKNOWN"
    assert without_accounting.show(job)["JobState"] == "CANCELLED", "the controller would have known"


def test_stop_leaves_no_process_and_no_port():
    if why := missing():
        pytest.skip(why)
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder:
        cluster = Slurm(Path(folder))
        cluster.start()
        try:
            cluster.sbatch("trap '' TERM; sleep 600 & sleep 600; sleep 600", "--array=0-20")
            cluster.sbatch("srun sleep 600")
            wait_until(lambda: list(cluster.squeue().values()).count("RUNNING") == 8)
            wait_until(lambda: sum(process.name() == "sleep" for process in cluster.processes()) >= 16)
            processes = cluster.processes()
            listening = {
                (process.name(), *connection.laddr)
                for process in processes
                for connection in process.net_connections()
                if connection.status == psutil.CONN_LISTEN
            }
            assert {name for name, *_ in listening} == {"mariadbd", "slurmctld", "slurmd", "slurmdbd"}
            assert {port for *_, port in listening} == set(cluster.ports.values())
            assert {address for _, address, _ in listening} <= {"127.0.0.1", cluster.address}
        finally:
            cluster.stop()
        assert not [process for process in processes if process.is_running()]
        assert not cluster.processes()
        taken = {link.laddr.port for link in psutil.net_connections() if link.status == psutil.CONN_LISTEN}
        assert not taken & set(cluster.ports.values())


def test_a_daemon_that_cannot_start_is_shown_by_its_log(tmp_path: Path):
    if why := missing():
        pytest.skip(why)
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder:
        cluster = Slurm(Path(folder), accounting=False)
        cluster.values["node"] = "n1,n1"
        with pytest.raises(RuntimeError, match=r"(?s)slurmctld ended at once.*slurmctld\.log.*fatal"):
            cluster.start()
        assert not cluster.processes()
