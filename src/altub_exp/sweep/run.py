"""A sweep: computes the missing ones of many runs; a run that fails does not stop the others."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hydra.core.utils import JobReturn, JobStatus

from altub_exp.config.overrides import quoted
from altub_exp.machine.command_line import interruptible
from altub_exp.machine.disk import remove_leftovers, writing_to
from altub_exp.machine.terminal import console
from altub_exp.runs.folder import RunLocked
from altub_exp.runs.provenance import code_fingerprint, git_state
from altub_exp.runs.states import JobState
from altub_exp.runs.sweep_folder import SweepFolder
from altub_exp.sweep.jobs import Compose, Job, compose_jobs
from altub_exp.sweep.names import run_names, sweep_name, sweep_title
from altub_exp.sweep.summary import announce, sum_up
from altub_exp.tracking.columns import source_tags
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
    for job in jobs:
        if job.folder.exists():  # a finished run is not opened again
            remove_leftovers(job.folder.path)
    errors: dict[Job, str] = {}
    uri, experiment = resolve_uri(first.tracking.uri), first.tracking.experiment
    folders = [job.folder for job in jobs]
    name = first.tracking.sweep or sweep_name(arguments)
    runs_dir = Path(first.runs_dir)
    sweep = SweepRun(uri, experiment, SweepFolder(runs_dir, name))
    running = missing or JobState.computing in states
    if running or incomplete_runs(folders, uri, experiment) or not sweep.folder.is_reported(sweep.place):
        extra = [f"tracking.sweep={quoted(name)}", f"tracking.code={quoted(code_fingerprint())}"]
        with interruptible(), writing_to(runs_dir):
            prepare_store(uri)
            title = first.tracking.sweep or sweep_title(arguments)
            names = {job.folder: label for job, label in run_names(jobs).items()}
            sweep.folder.write(sweep.place, title, arguments, source_tags(*git_state()), names)
            with sweep:
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
