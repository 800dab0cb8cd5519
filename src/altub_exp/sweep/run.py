"""A sweep: many runs of which only the missing ones are computed, and of which one failing stops no other."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hydra.core.utils import JobReturn, JobStatus

from altub_exp.machine.disk import writing_to
from altub_exp.machine.terminal import console
from altub_exp.runs.folder import Held
from altub_exp.runs.provenance import code_fingerprint
from altub_exp.sweep.jobs import Compose, Job, Standing, compose_jobs, quoted
from altub_exp.sweep.summary import announce, sum_up
from altub_exp.tracking.store import prepare_store
from altub_exp.tracking.sweep_run import Parent
from altub_exp.tracking.sync import settle, unsettled
from altub_exp.tracking.uri import resolve_uri

Launch = Callable[[Sequence[Sequence[str]], int], Sequence[JobReturn]]

POLL_SECONDS = 2.0


def run_sweep(arguments: Sequence[str], products: Sequence[list[str]], compose: Compose, launch: Launch) -> None:
    """Compose all jobs, say how they stand, launch what is missing, and sum up.

    Args:
        arguments: the command line.
        products: the overrides of each job, ``dataset.category=all`` among them perhaps.
        compose: overrides → configuration.
        launch: Hydra's launcher.

    Raises:
        UserError: an input of any of the jobs needs a person's attention; nothing was started.
        SystemExit: 1, after the summary, if a run has failed.
    """
    jobs = compose_jobs(products, compose)
    first = jobs[0].config
    standings = [job.standing() for job in jobs]
    retried = {Standing.new, Standing.half_done} | ({Standing.failed} if first.sweep.retry_failed else set())
    missing = [job for job in jobs if job.due(retried)]
    announce(jobs, standings, missing)
    if first.sweep.dry_run:
        for job, standing in zip(jobs, standings, strict=True):
            console.print(f"  {standing:9}  {job.folder.path}", highlight=False, soft_wrap=True)
        return
    errors: dict[Job, str] = {}
    uri, experiment = resolve_uri(first.tracking.uri), first.tracking.experiment
    folders = [job.folder for job in jobs]
    if missing or Standing.computing in standings or unsettled(folders, uri, experiment):
        name = first.tracking.sweep or sweep_name(arguments)
        runs_dir = Path(first.runs_dir)
        extra = [f"tracking.sweep={quoted(name)}", f"tracking.code={quoted(code_fingerprint())}"]
        with writing_to(runs_dir):
            prepare_store(uri)
            with Parent(uri, experiment, name, runs_dir, arguments) as parent:
                errors = compute(jobs, retried, lambda some: launch([[*job.overrides, *extra] for job in some], 0))
                settle(folders, parent)
    if sum_up(jobs, errors):
        sys.exit(1)


def compute(
    jobs: Sequence[Job], retried: set[Standing], launch: Callable[[Sequence[Job]], Sequence[JobReturn]]
) -> dict[Job, str]:
    """Launch what is missing, and wait for what other processes compute; what these leave half done is missing too.

    Returns:
        Why jobs ended by an error, for those that did.
    """
    errors: dict[Job, str] = {}
    begun: set[Job] = set()
    waiting = False
    while True:
        missing = [job for job in jobs if job not in begun and job.due(retried)]
        if missing:
            begun.update(missing)
            for job, result in zip(missing, launch(missing), strict=True):
                if result.status is not JobStatus.FAILED:
                    continue
                if isinstance(result._return_value, Held):
                    begun.discard(job)  # another process has begun it
                else:
                    errors[job] = str(result._return_value)
            continue
        elsewhere = [job for job in jobs if job.standing() is Standing.computing]
        if not elsewhere:
            return errors
        if not waiting:
            console.print(f"Waiting for {len(elsewhere)} runs that other processes compute …", highlight=False)
            waiting = True
        time.sleep(POLL_SECONDS)


def sweep_name(arguments: Sequence[str]) -> str:
    """What a sweep is called: its file's name, else digits that stand for its command line.

    >>> sweep_name(["+sweeps=table_a1", "seed=1"])
    'table_a1'
    """
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key.lstrip("+") == "sweeps":
            return value
    text = " ".join(one for one in arguments if not one.startswith(("hydra", "sweep.")))
    return f"sweep-{hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}"
