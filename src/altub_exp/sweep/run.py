"""A sweep: computes the missing ones of many runs; a run that fails does not stop the others."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hydra.core.utils import JobReturn, JobStatus

from altub_exp.machine.disk import writing_to
from altub_exp.machine.terminal import console
from altub_exp.runs.folder import RunLocked
from altub_exp.runs.provenance import code_fingerprint
from altub_exp.runs.states import JobState
from altub_exp.sweep.jobs import Compose, Job, compose_jobs, quoted
from altub_exp.sweep.summary import announce, sum_up
from altub_exp.tracking.store import prepare_store
from altub_exp.tracking.sweep_run import SweepRun
from altub_exp.tracking.sync import finish_sweep, incomplete_runs
from altub_exp.tracking.uri import resolve_uri

Launch = Callable[[Sequence[Sequence[str]], int], Sequence[JobReturn]]

POLL_SECONDS = 2.0


def run_sweep(arguments: Sequence[str], products: Sequence[list[str]], compose: Compose, launch: Launch) -> None:
    """Compose all jobs, print the plan, launch the missing ones, and print a summary.

    Raises:
        UserError: the input of a job is wrong; nothing was started.
        SystemExit: 1, after the summary, if a run has failed.
    """
    jobs = compose_jobs(products, compose)
    first = jobs[0].config
    states = [job.state() for job in jobs]
    due = {JobState.new, JobState.half_done} | ({JobState.failed} if first.sweep.retry_failed else set())
    missing = [job for job, state in zip(jobs, states, strict=True) if state in due]
    announce(jobs, states, missing)
    if first.sweep.dry_run:
        for job, state in zip(jobs, states, strict=True):
            console.print(f"  {state:9}  {job.folder.path}", highlight=False, soft_wrap=True)
        return
    errors: dict[Job, str] = {}
    uri, experiment = resolve_uri(first.tracking.uri), first.tracking.experiment
    folders = [job.folder for job in jobs]
    if missing or JobState.computing in states or incomplete_runs(folders, uri, experiment):
        name = first.tracking.sweep or sweep_name(arguments)
        runs_dir = Path(first.runs_dir)
        extra = [f"tracking.sweep={quoted(name)}", f"tracking.code={quoted(code_fingerprint())}"]
        with writing_to(runs_dir):
            prepare_store(uri)
            with SweepRun(uri, experiment, name, runs_dir, arguments) as sweep:
                errors = compute(jobs, due, lambda batch: launch([[*job.overrides, *extra] for job in batch], 0))
                finish_sweep(folders, sweep)
    if sum_up(jobs, errors):
        sys.exit(1)


def compute(
    jobs: Sequence[Job], due: set[JobState], launch: Callable[[Sequence[Job]], Sequence[JobReturn]]
) -> dict[Job, str]:
    """Launch the missing jobs, and wait for jobs of other processes, which may become missing when those end.

    Returns:
        The errors by failed job.
    """
    errors: dict[Job, str] = {}
    begun: set[Job] = set()
    waiting = False
    while True:
        missing = [job for job in jobs if job not in begun and job.state() in due]
        if missing:
            begun.update(missing)
            for job, result in zip(missing, launch(missing), strict=True):
                if result.status is not JobStatus.FAILED:
                    continue
                if isinstance(result._return_value, RunLocked):
                    begun.discard(job)  # another process computes it
                else:
                    errors[job] = str(result._return_value)
            continue
        elsewhere = [job for job in jobs if job.state() is JobState.computing]
        if not elsewhere:
            return errors
        if not waiting:
            console.print(f"Waiting for {len(elsewhere)} runs that other processes are computing …", highlight=False)
            waiting = True
        time.sleep(POLL_SECONDS)


def sweep_name(arguments: Sequence[str]) -> str:
    """Return the name of a sweep: that of its file, or a hash of its command line.

    >>> sweep_name(["+sweeps=table_a1", "seed=1"])
    'table_a1'
    """
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key.lstrip("+") == "sweeps":
            return value
    text = " ".join(argument for argument in arguments if not argument.startswith(("hydra", "sweep.")))
    return f"sweep-{hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}"
