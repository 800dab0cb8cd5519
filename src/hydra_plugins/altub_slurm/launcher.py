"""The launcher ``hydra/launcher=slurm``: submitit's launcher with another way of waiting, which loses no job.

Hydra imports this module at every start of every program in the environment, so slow imports are inside the functions.
Hydra does not support postponed annotations in the module of a dataclass.
"""

import hashlib
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus
from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf, SlurmQueueConf
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import BaseSubmititLauncher
from omegaconf import MISSING, OmegaConf

CLIENT_SECONDS = "60"  # time-out of squeue
QUEUE_OF_SUBMITIT = set(OmegaConf.structured(BaseQueueConf).keys())  # options of every cluster, not only Slurm's


@dataclass
class SlurmConfig(SlurmQueueConf):  # type: ignore[misc]  # submitit's launcher has no types
    """The types of ``conf/hydra/launcher/slurm.yaml``, which has the values: submitit's options and two more."""

    _target_: str = "hydra_plugins.altub_slurm.launcher.SlurmLauncher"
    poll_seconds: float = MISSING
    lost_seconds: float = MISSING


ConfigStore.instance().store(group="hydra/launcher/schema", name="slurm", node=SlurmConfig, provider="altub-exp")


class SlurmLauncher(BaseSubmititLauncher):  # type: ignore[misc]
    """Submits the jobs of a sweep as one array, and waits until each has a result or has left the queue.

    Jobs that an earlier caller has submitted and that are still in the queue are not submitted again, only waited for.

    Submitit's own launcher asks sacct for the end of a job. On a cluster without accounting it would wait for a killed
    job for ever, and at the first job without a result it gives up the results of all others.


    Args:
        poll_seconds: seconds between two queries of the queue.
        lost_seconds: seconds after which a job that has left the queue without a result counts as lost; shared file
            systems show a result late.
        params: submitit's options.
    """

    _EXECUTOR = "slurm"

    def __init__(self, poll_seconds: float, lost_seconds: float, **params: Any) -> None:
        super().__init__(**params)
        self._poll_seconds, self._lost_seconds = poll_seconds, lost_seconds

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Submit the jobs that are not in the queue yet, wait for all, and collect their results.

        Returns:
            One per job, in the given order; reading the value of a failed or lost job raises ``UserError``.

        Raises:
            UserError: Slurm rejects the jobs.
            KeyboardInterrupt: Ctrl-C ended the waiting; the jobs continue.
        """
        from altub_exp.machine.disk import write_text
        from altub_exp.machine.terminal import console

        notes = [self._note(overrides) for overrides in job_overrides]
        left = self._queued() or {}
        jobs = [self._left_by_an_earlier_caller(note, left) for note in notes]
        missing = [number for number, job in enumerate(jobs) if job is None]
        if missing:
            submitted = self._submit([job_overrides[number] for number in missing], initial_job_idx)
            for number, job in zip(missing, submitted, strict=True):
                jobs[number] = job
                write_text(notes[number], job.job_id)
            first = submitted[0]
            message = f"Slurm has taken {len(missing)} jobs as {_array(first)}; logs in {first.paths.folder}."
            console.print(message, highlight=False)
        arrays = sorted({_array(job) for job in jobs}, key=int)
        if len(missing) < len(jobs):
            console.print(f"{len(jobs) - len(missing)} jobs are in Slurm's queue already.", highlight=False)
        try:
            return self._wait(jobs, ", ".join(arrays))
        except KeyboardInterrupt as interrupt:
            console.print(f"The jobs continue (scancel {' '.join(arrays)} ends them); the same command waits for them.")
            raise KeyboardInterrupt("reported") from interrupt

    def _note(self, overrides: Sequence[str]) -> Path:
        """Return the file with the id of a job's last submission; callers with the same overrides share it."""
        from submitit.core.utils import JobPaths

        assert self.config is not None
        hydra = self.config.hydra
        kept = [override for override in overrides if not override.startswith(("tracking.sweep=", "tracking.code="))]
        words = [hydra.job.config_name, *(source.path for source in hydra.runtime.config_sources), *kept]
        digest = hashlib.blake2b("\n".join(map(str, words)).encode(), digest_size=8).hexdigest()
        folder = Path(JobPaths.get_first_id_independent_folder(str(self.params["submitit_folder"]))) / "queue"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / digest

    def _left_by_an_earlier_caller(self, note: Path, queued: Mapping[str, str]) -> Any:
        """Return the job of an earlier caller that is still in the queue, or None."""
        import submitit

        name = note.read_text() if note.exists() else ""
        return submitit.SlurmJob(folder=self.params["submitit_folder"], job_id=name) if name in queued else None

    def _submit(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[Any]:
        import submitit

        from altub_exp.errors import UserError

        params = dict(self.params)
        folder, timeouts = params.pop("submitit_folder"), params.pop("max_num_timeout")
        try:
            executor = submitit.AutoExecutor(folder=folder, cluster="slurm", slurm_max_num_timeout=timeouts)
            executor.update_parameters(
                **{name if name in QUEUE_OF_SUBMITIT else f"slurm_{name}": value for name, value in params.items()}
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
            raise UserError(f"Slurm rejects the jobs: {reason[-500:]}") from error
        return jobs

    def _wait(self, jobs: Sequence[Any], arrays: str) -> list[JobReturn]:
        from altub_exp.machine.terminal import console

        results: dict[str, JobReturn] = {}
        absent_since: dict[str, float] = {}
        printed = ""
        while len(results) < len(jobs):
            queued = self._queued()
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
            running = sum((queued or {}).get(job.job_id, "PENDING") != "PENDING" for job in jobs)
            message = f"{arrays}: {len(results)} of {len(jobs)} jobs have ended, {running} are running"
            if queued is None:
                message = f"{arrays}: squeue does not answer; waiting"
            if message != printed:
                console.print(message, highlight=False)
                printed = message
            if len(results) < len(jobs):
                time.sleep(self._poll_seconds)
        return [results[job.job_id] for job in jobs]

    def _queued(self) -> dict[str, str] | None:
        """Return the states of this user's jobs in the queue by job id; None if the controller does not answer."""
        command = ["timeout", CLIENT_SECONDS, "squeue", "--me", "--noheader", "--array", "--format=%i %T"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return None
        return dict(line.split() for line in done.stdout.splitlines() if line.strip())


def _array(job: Any) -> str:
    return str(job.job_id).partition("_")[0]


def _result(job: Any) -> JobReturn:
    """Read the result of a job: its return value, or the last line of its traceback as an error."""
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
