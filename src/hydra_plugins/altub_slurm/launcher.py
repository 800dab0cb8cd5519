"""The launcher ``hydra/launcher=slurm``: submitit's, waiting for its jobs in a way that loses none of them.

Hydra imports this module at every start of every program of the environment: what is heavy is imported where it is
used. Postponed annotations would keep Hydra from finding the dataclass: there are none.
"""

import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus
from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf, SlurmQueueConf
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import BaseSubmititLauncher
from omegaconf import MISSING, OmegaConf

CLIENT_SECONDS = "60"  # the longest that squeue may take
QUEUE_OF_SUBMITIT = set(OmegaConf.structured(BaseQueueConf).keys())  # what is not Slurm's alone


@dataclass
class SlurmConfig(SlurmQueueConf):  # type: ignore[misc]  # submitit's launcher has no types
    """The types of ``conf/hydra/launcher/slurm.yaml``, where the values stand; submitit's and two of our own."""

    _target_: str = "hydra_plugins.altub_slurm.launcher.SlurmLauncher"
    poll_seconds: float = MISSING
    lost_seconds: float = MISSING


ConfigStore.instance().store(group="hydra/launcher/schema", name="slurm", node=SlurmConfig, provider="altub-exp")


class SlurmLauncher(BaseSubmititLauncher):  # type: ignore[misc]
    """Submits the jobs of a sweep as one array, and waits until each has a result or is gone from the queue.

    Submitit's own launcher asks sacct whether a job has ended. Where a cluster keeps no accounts it would wait for a
    killed job for ever, and at the first job that ended without a result it gives up the results of all others.

    Args:
        poll_seconds: how often to look.
        lost_seconds: a job that is neither in the queue nor has a result is given up after so long; shared file
            systems show a result late.
        params: submitit's.
    """

    _EXECUTOR = "slurm"

    def __init__(self, poll_seconds: float, lost_seconds: float, **params: Any) -> None:
        super().__init__(**params)
        self._poll_seconds, self._lost_seconds = poll_seconds, lost_seconds

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Submit, wait, collect.

        Returns:
            One per job, in the order given; that of a failed or lost one raises when its value is asked for.

        Raises:
            UserError: Slurm does not take the jobs.
            KeyboardInterrupt: the caller leaves; the jobs run on.
        """
        from altub_exp.progress import console

        jobs = self._submit(job_overrides, initial_job_idx)
        array = jobs[0].job_id.partition("_")[0]
        console.print(f"Slurm has taken {len(jobs)} jobs as {array}; logs in {jobs[0].paths.folder}.", highlight=False)
        try:
            return self._wait(jobs, array)
        except KeyboardInterrupt:
            console.print(f"The jobs run on (scancel {array} ends them); the same command waits for them again.")
            raise

    def _submit(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[Any]:
        import submitit

        from altub_exp.errors import UserError

        assert self.config is not None
        Path(str(self.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        given = dict(self.params)
        folder, timeouts = given.pop("submitit_folder"), given.pop("max_num_timeout")
        try:
            executor = submitit.AutoExecutor(folder=folder, cluster="slurm", slurm_max_num_timeout=timeouts)
            executor.update_parameters(
                **{name if name in QUEUE_OF_SUBMITIT else f"slurm_{name}": value for name, value in given.items()}
            )
            numbers = range(initial_job_idx, initial_job_idx + len(job_overrides))
            jobs: list[Any] = executor.map_array(
                self,
                [list(overrides) for overrides in job_overrides],
                ["hydra.sweep.dir"] * len(numbers),
                numbers,
                [f"job_id_for_{number}" for number in numbers],
                [Singleton.get_state()] * len(numbers),
            )
        except (RuntimeError, OSError, subprocess.SubprocessError, submitit.core.utils.FailedJobError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(f"Slurm does not take the jobs: {reason[-500:]}") from error
        return jobs

    def _wait(self, jobs: Sequence[Any], array: str) -> list[JobReturn]:
        from altub_exp.progress import console

        results: dict[str, JobReturn] = {}
        absent_since: dict[str, float] = {}
        said = ""
        while len(results) < len(jobs):
            queued = self._queued(array)
            for job in jobs:
                if job.job_id in results:
                    continue
                if job.paths.result_pickle.exists():
                    results[job.job_id] = _result(job)
                elif queued is None or job.job_id in queued:
                    absent_since.pop(job.job_id, None)
                elif time.monotonic() - absent_since.setdefault(job.job_id, time.monotonic()) > self._lost_seconds:
                    results[job.job_id] = _failed(
                        f"job {job.job_id} ended without a result: cancelled, killed, out of memory, its node failed, "
                        "or the disk is full"
                    )
            running = sum(state != "PENDING" for state in (queued or {}).values())
            now = f"{array}: {len(results)} of {len(jobs)} jobs have ended, {running} are running"
            if queued is None:
                now = f"{array}: squeue does not answer; waiting"
            if now != said:
                console.print(now, highlight=False)
                said = now
            if len(results) < len(jobs):
                time.sleep(self._poll_seconds)
        return [results[job.job_id] for job in jobs]

    def _queued(self, array: str) -> dict[str, str] | None:
        """{job: state} of what is in the queue; None where the controller does not answer."""
        command = ["timeout", CLIENT_SECONDS, "squeue", "--noheader", "--array", "--format=%i %T", f"--jobs={array}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode and "Invalid job id" not in done.stderr:  # that: all have ended, and are forgotten
            return None
        return dict(line.split() for line in done.stdout.splitlines() if line.strip())


def _result(job: Any) -> JobReturn:
    """What a job has left; it may be a traceback."""
    from submitit.core.utils import pickle_load

    outcome, value = pickle_load(job.paths.result_pickle)
    if outcome == "success":
        assert isinstance(value, JobReturn)
        return value
    return _failed(f"job {job.job_id}: {str(value).strip().splitlines()[-1]}")


def _failed(reason: str) -> JobReturn:
    from altub_exp.errors import UserError

    failed = JobReturn(status=JobStatus.FAILED)
    failed.return_value = UserError(reason)
    return failed
