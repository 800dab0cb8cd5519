"""What a sweep tells of its jobs: how they stand and how much work is left before it, how they ended behind it."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence

from altub_exp.config.compose import backbone_label
from altub_exp.machine.terminal import console, duration
from altub_exp.runs.overview import read, table
from altub_exp.sweep.jobs import Job, Standing


def announce(jobs: Sequence[Job], standings: Sequence[Standing], missing: Sequence[Job]) -> None:
    """Say how many jobs there are, how they stand, and how much work is left."""
    console.print(f"{_listed(Counter(standings))}; {len(missing)} to compute.", highlight=False)
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


def _listed(counts: Counter[Standing]) -> str:
    each = ", ".join(f"{counts[standing]} {standing}" for standing in Standing if counts[standing])
    return f"{counts.total()} runs: {each}"


def kind(job: Job) -> tuple[str, str, str, int]:
    """Runs of one kind take about the same time per epoch and image."""
    config = job.config
    return config.dataset.name, config.model.name, backbone_label(config.backbone), config.dataset.image_size


def seconds_per_epoch(jobs: Sequence[Job]) -> dict[tuple[str, str, str, int], float]:
    """Median over the epochs of the runs of each kind that have begun."""
    seconds: dict[tuple[str, str, str, int], list[float]] = {}
    for job in jobs:
        rows = job.folder.journal.rows()
        seconds.setdefault(kind(job), []).extend(row["seconds"] for row in rows if "seconds" in row)
    return {key: statistics.median(values) for key, values in seconds.items() if values}


def epochs_left(job: Job) -> int:
    """Epochs that a run still has to compute."""
    return job.config.train.epochs - int((job.folder.status() or {}).get("checkpoint_epoch") or 0)


def sum_up(jobs: Sequence[Job], errors: Mapping[Job, str]) -> int:
    """Print how all runs stand, and why those that failed did; returns how many failed."""
    console.print(table([read(job.folder) for job in jobs if job.folder.status_file.exists()]), highlight=False)
    counts: Counter[Standing] = Counter()
    kept = 0  # that failed by themselves: a sweep leaves them as they are, unless asked
    for job in jobs:
        standing = job.standing()
        kept += standing is Standing.failed
        if job in errors and standing not in (Standing.finished, Standing.crashed):
            standing = Standing.failed
            console.print(f"{job.name}: {errors[job]}", highlight=False, markup=False)
        counts[standing] += 1
    console.print(f"{_listed(counts)}.", highlight=False)
    if counts[Standing.failed] > kept:
        console.print("The same command goes on with what was stopped or could not begin.", highlight=False)
    if kept and not all(job.config.sweep.retry_failed for job in jobs):
        console.print("The same command with sweep.retry_failed=true tries the failed ones again.", highlight=False)
    return counts[Standing.failed]
