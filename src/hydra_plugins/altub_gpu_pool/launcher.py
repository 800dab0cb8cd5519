"""The launcher ``hydra/launcher=gpu_pool``: each job of a sweep is a new process on a slot of this machine.

Hydra imports this module at every start of every program in the environment, so slow imports are inside the functions.
Hydra does not support postponed annotations in the module of a dataclass.
"""

import hashlib
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus, configure_log, filter_overrides, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from altub_exp.config.bounds import Range

PROGRAM = "altub_exp.train"


@dataclass
class GpuPoolConfig:
    """The types of ``conf/hydra/launcher/gpu_pool.yaml``, which has the values."""

    gpus: list[str] | None
    jobs_per_gpu: Annotated[int, Range(least=1, most=1024)]
    cpu_slots: Annotated[int, Range(least=1, most=1024)] | None
    poll_seconds: Annotated[float, Range(above=0, most=3600)]
    _target_: str = "hydra_plugins.altub_gpu_pool.launcher.GpuPool"


ConfigStore.instance().store(group="hydra/launcher/schema", name="gpu_pool", node=GpuPoolConfig, provider="altub-exp")


class GpuPool(Launcher):
    """Runs the jobs on slots, each as ``python -m altub_exp.train OVERRIDES``.

    Args:
        gpus: names of the GPUs to use, in the form of CUDA_VISIBLE_DEVICES; None uses all visible GPUs.
        jobs_per_gpu: number of jobs that share a GPU.
        cpu_slots: number of jobs at once if no GPU is used; None means one per four cores.
        poll_seconds: seconds between two checks of the processes.
    """

    def __init__(
        self, gpus: Sequence[str] | None, jobs_per_gpu: int, cpu_slots: int | None, poll_seconds: float
    ) -> None:
        self._gpus, self._jobs_per_gpu = gpus, jobs_per_gpu
        self._cpu_slots, self._poll_seconds = cpu_slots, poll_seconds
        self._config: DictConfig | None = None
        self._context: HydraContext | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Check the launcher's values, and keep Hydra's configuration and context.

        Raises:
            UserError: the launcher's values are wrong.
        """
        from altub_exp.config.fields import enforce
        from altub_exp.machine.gpus import visible_gpus

        self._config, self._context = config, hydra_context
        gpus = None if self._gpus is None else list(self._gpus)
        enforce(GpuPoolConfig(gpus, self._jobs_per_gpu, self._cpu_slots, self._poll_seconds), "hydra.launcher.")
        if self._gpus:
            visible_gpus(self._gpus)  # wrong names fail here

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs of one batch.

        Returns:
            One per job, in the given order; reading the value of a failed job raises ``RunLocked`` if another process
            computes this run, otherwise a ``UserError``.

        Raises:
            UserError: a job needs a GPU and there is none; nothing was started.
            SystemExit: after Ctrl-C (130) or SIGTERM (143), when all processes have ended.
        """
        from altub_exp.errors import UserError
        from altub_exp.machine.gpus import visible_gpus
        from altub_exp.machine.terminal import log, logging_to
        from altub_exp.runs.folder import RunLocked
        from altub_exp.sweep.pool import Command, Interrupted, Pool, slots

        assert self._config is not None
        if not job_overrides:
            return []
        setup_globals()
        configure_log(self._config.hydra.hydra_logging, self._config.hydra.verbose)
        returns = [self._compose(overrides, initial_job_idx + n) for n, overrides in enumerate(job_overrides)]
        devices = [str(job_return.cfg.device) for job_return in returns if job_return.cfg is not None]
        gpus = [] if set(devices) == {"cpu"} else visible_gpus(self._gpus)
        if "cuda" in devices and not gpus:
            raise UserError("device=cuda was asked for, but there is no GPU here to use: set device=cpu or auto.")
        places = slots(gpus, self._jobs_per_gpu, self._cpu_slots)
        logs = Path(str(self._config.hydra.sweep.dir))
        logs.mkdir(parents=True, exist_ok=True)
        common = set.intersection(*(set(overrides) for overrides in job_overrides))
        commands = []
        for number, (overrides, device) in enumerate(zip(job_overrides, devices, strict=True), start=initial_job_idx):
            name = " ".join([f"#{number}", *(override for override in overrides if override not in common)])
            # with a digest, since other sweeps write their logs to the same folder
            digest = hashlib.blake2b("\n".join(overrides).encode(), digest_size=4).hexdigest()
            stem = re.sub(r"[^\w.=,+-]", "_", name.removeprefix("#")[:100], flags=re.ASCII)
            log_file = logs / f"{stem}_{digest}.log"
            commands.append(Command(name, self._command(overrides), log_file, needs_gpu=device != "cpu"))
        with logging_to(None):
            log.info("%d jobs, %d at once", len(commands), min(len(commands), len(places)))
            try:
                outcomes = Pool(places, self._poll_seconds).run(commands)
            except Interrupted as interrupt:
                sys.exit(128 + interrupt.args[0])  # the shell's status after a signal
        for job_return, outcome in zip(returns, outcomes, strict=True):
            job_return.status = JobStatus.COMPLETED if outcome.error is None else JobStatus.FAILED
            if outcome.error is not None:
                error_type = RunLocked if outcome.status == RunLocked.status else UserError
                job_return.return_value = error_type(outcome.error)
        return returns

    def _compose(self, overrides: Sequence[str], number: int) -> JobReturn:
        assert self._config is not None
        assert self._context is not None
        config = self._context.config_loader.load_sweep_config(self._config, list(overrides))
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = number
        task = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
        return JobReturn(
            overrides=list(config.hydra.overrides.task),
            cfg=task,
            hydra_cfg=OmegaConf.masked_copy(config, "hydra"),
            working_dir=str(Path.cwd()),
            task_name=config.hydra.job.name,
        )

    def _command(self, overrides: Sequence[str]) -> list[str]:
        """Return the command of one job, which reads its configuration from the same folders as the sweep."""
        assert self._config is not None
        hydra = self._config.hydra
        flags = {"main": "--config-path", "command-line": "--config-dir"}
        folders = [
            part
            for source in hydra.runtime.config_sources
            if source.provider in flags
            for part in (flags[source.provider], source.path)
        ]
        other = ("hydra.launcher", "hydra/launcher", "hydra.sweep", "hydra/sweeper", "hydra.mode", "hydra.run")
        kept = [override for override in hydra.overrides.hydra if not override.lstrip("+~").startswith(other)]
        return [
            *(sys.executable, "-m", PROGRAM, *folders, "--config-name", hydra.job.config_name),
            *(*kept, "hydra.mode=RUN", *filter_overrides(overrides)),  # a recipe's own mode could start a sweep
        ]
