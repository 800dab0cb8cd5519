"""The launcher ``hydra/launcher=slurm``: submitit's, waiting for its jobs in a way that loses none of them.

Hydra imports this module at every start of every program of the environment: what is heavy is imported where it is
used. Postponed annotations would keep Hydra from finding the dataclass: there are none.
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

    What an earlier caller has submitted, and is still in the queue, is not submitted again but waited for.

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
        """Submit what an earlier caller has not left in the queue, wait for all, collect.

        Returns:
            One per job, in the order given; that of a failed or lost one raises when its value is asked for.

        Raises:
            UserError: Slurm does not take the jobs.
            KeyboardInterrupt: the caller leaves; the jobs run on.
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
            said = f"Slurm has taken {len(missing)} jobs as {_array(first)}; logs in {first.paths.folder}."
            console.print(said, highlight=False)
        arrays = sorted({_array(job) for job in jobs}, key=int)
        if len(missing) < len(jobs):
            console.print(f"{len(jobs) - len(missing)} jobs are in Slurm's queue already.", highlight=False)
        try:
            return self._wait(jobs, ", ".join(arrays))
        except KeyboardInterrupt:
            console.print(f"The jobs run on (scancel {' '.join(arrays)} ends them); the same command waits for them.")
            raise

    def _note(self, overrides: Sequence[str]) -> Path:
        """The file that says under which id a job was submitted last, for all callers with the same overrides."""
        from submitit.core.utils import JobPaths

        assert self.config is not None
        hydra = self.config.hydra
        same = [one for one in overrides if not one.startswith(("tracking.sweep=", "tracking.code="))]
        words = [hydra.job.config_name, *(source.path for source in hydra.runtime.config_sources), *same]
        digest = hashlib.blake2b("\n".join(map(str, words)).encode(), digest_size=8).hexdigest()
        folder = Path(JobPaths.get_first_id_independent_folder(str(self.params["submitit_folder"]))) / "queue"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / digest

    def _left_by_an_earlier_caller(self, note: Path, queued: Mapping[str, str]) -> Any:
        """The job that waits or runs already; None where there is none."""
        import submitit

        name = note.read_text() if note.exists() else ""
        return submitit.SlurmJob(folder=self.params["submitit_folder"], job_id=name) if name in queued else None

    def _submit(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[Any]:
        import submitit

        from altub_exp.errors import UserError

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

    def _wait(self, jobs: Sequence[Any], arrays: str) -> list[JobReturn]:
        from altub_exp.machine.terminal import console

        results: dict[str, JobReturn] = {}
        absent_since: dict[str, float] = {}
        said = ""
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
            now = f"{arrays}: {len(results)} of {len(jobs)} jobs have ended, {running} are running"
            if queued is None:
                now = f"{arrays}: squeue does not answer; waiting"
            if now != said:
                console.print(now, highlight=False)
                said = now
            if len(results) < len(jobs):
                time.sleep(self._poll_seconds)
        return [results[job.job_id] for job in jobs]

    def _queued(self) -> dict[str, str] | None:
        """{job: state} of this user's jobs in the queue; None where the controller does not answer."""
        command = ["timeout", CLIENT_SECONDS, "squeue", "--me", "--noheader", "--array", "--format=%i %T"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return None
        return dict(line.split() for line in done.stdout.splitlines() if line.strip())


def _array(job: Any) -> str:
    return str(job.job_id).partition("_")[0]


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
