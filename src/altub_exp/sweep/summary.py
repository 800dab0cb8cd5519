"""Prints a sweep's plan before it starts, and its summary afterwards."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence

from altub_exp.config.compose import backbone_label
from altub_exp.machine.terminal import console, duration
from altub_exp.runs.overview import read, table
from altub_exp.runs.states import JobState
from altub_exp.sweep.jobs import Job


def announce(jobs: Sequence[Job], states: Sequence[JobState], missing: Sequence[Job]) -> None:
    """Print the number of jobs in each state, and the work that is left."""
    console.print(f"{_listed(Counter(states))}; {len(missing)} to compute.", highlight=False)
    if not missing:
        return
    speeds = seconds_per_epoch(jobs)
    left = [(epochs_left(job), speeds.get(kind(job))) for job in missing]
    epochs = sum(count for count, _ in left)
    known = [count * speed for count, speed in left if speed is not None]
    line = f"Work: {epochs:,} epochs"
    if known:
        line += f", about {duration(sum(known))} of computing, one run after the other"
        if unknown := len(left) - len(known):
            line += f", without {unknown} runs of kinds that have not been run here yet"
    else:
        line += " (no run of these kinds has been timed here yet)"
    console.print(f"{line}.", highlight=False)


def _listed(counts: Counter[JobState]) -> str:
    each = ", ".join(f"{counts[state]} {state}" for state in JobState if counts[state])
    return f"{counts.total()} runs: {each}"


Kind = tuple[str, str, str, int, str]


def kind(job: Job) -> Kind:
    """Return the kind of a run; runs of one kind take about the same time per epoch and image."""
    dataset, model, backbone = job.config.dataset, job.config.model, job.config.backbone
    return dataset.name, model.name, backbone_label(backbone), dataset.image_size, dataset.tiles


def seconds_per_epoch(jobs: Sequence[Job]) -> dict[Kind, float]:
    """Return the median duration of an epoch by kind of run, over the runs that have begun."""
    seconds: dict[Kind, list[float]] = {}
    for job in jobs:
        rows = job.folder.journal.rows()
        seconds.setdefault(kind(job), []).extend(row["seconds"] for row in rows if "seconds" in row)
    return {key: statistics.median(values) for key, values in seconds.items() if values}


def epochs_left(job: Job) -> int:
    """Return the number of epochs that a run still has to compute."""
    return job.config.train.epochs - int((job.folder.status() or {}).get("checkpoint_epoch") or 0)


def sum_up(jobs: Sequence[Job], errors: Mapping[Job, str]) -> int:
    """Print the state of all runs and the errors of failed runs, and return the number of failed runs."""
    console.print(table([read(job.folder) for job in jobs if job.folder.status_file.exists()]), highlight=False)
    counts: Counter[JobState] = Counter()
    kept = 0  # runs that failed by an error, which a sweep repeats only with sweep.retry_failed
    for job in jobs:
        state = job.state()
        if state is JobState.failed:
            kept += 1
        if job in errors and state not in (JobState.finished, JobState.crashed):
            state = JobState.failed
            console.print(f"{job.name}: {errors[job]}", highlight=False, markup=False)
        counts[state] += 1
    console.print(f"{_listed(counts)}.", highlight=False)
    if counts[JobState.failed] > kept:
        console.print("The same command resumes the stopped runs and starts those that never began.", highlight=False)
    if kept and not all(job.config.sweep.retry_failed for job in jobs):
        console.print("The same command with sweep.retry_failed=true tries the failed ones again.", highlight=False)
    return counts[JobState.failed]
