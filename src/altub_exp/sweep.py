"""A sweep: many runs of which only the missing ones are computed, and of which one failing stops no other."""

from __future__ import annotations

import hashlib
import re
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from altub_exp.config import Config, backbone_label, check
from altub_exp.data import ImageSet, list_categories, open_category
from altub_exp.disk import writing_to
from altub_exp.errors import UserError
from altub_exp.overview import read, table
from altub_exp.parent import Parent
from altub_exp.progress import console, duration
from altub_exp.provenance import code_fingerprint
from altub_exp.record import lacks, run_name, run_path
from altub_exp.runs import Held, RunFolder, State
from altub_exp.settlement import settle, unsettled
from altub_exp.store import prepare_store, resolve_uri

Compose = Callable[[list[str]], DictConfig]
Launch = Callable[[Sequence[Sequence[str]], int], Sequence[JobReturn]]

CATEGORY = "dataset.category"
POLL_SECONDS = 2.0


class Standing(StrEnum):
    """How a run stands before a sweep: the states of a folder, and two that only a look from outside tells."""

    new = "new"
    half_done = "half-done"
    failed = "failed"
    computing = "computing"
    finished = "finished"
    crashed = "crashed"


@dataclass(frozen=True, eq=False)
class Job:
    """One run of a sweep.

    Attributes:
        overrides: what the launcher is given.
        config: what they compose to.
        folder: where the run is, or will be.
    """

    overrides: list[str]
    config: Config
    folder: RunFolder

    @property
    def name(self) -> str:
        """What tells it from the others."""
        return f"{run_name(self.config)} seed{self.config.seed}"

    def due(self, standings: set[Standing]) -> bool:
        """Whether there is something to compute: the run stands so, or has finished without all that is asked of it.

        Raises:
            UserError: its status is damaged.
        """
        return self.standing() in standings or bool(lacks(self.config, self.folder))

    def standing(self) -> Standing:
        """How the run stands now.

        Raises:
            UserError: its status is damaged.
        """
        status = self.folder.status()
        state = status["state"] if status else None
        if state in (State.finished, State.crashed):
            return Standing(state)
        if self.folder.held():
            return Standing.computing
        if status is None:
            return Standing.new
        return Standing.failed if state == State.failed and not status.get("interrupted") else Standing.half_done


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


def compose_jobs(products: Sequence[list[str]], compose: Compose) -> list[Job]:
    """The jobs, ``all`` replaced by the categories of each job's own data set, equal ones taken once.

    Raises:
        UserError: a configuration cannot work, or its images are not there.
    """
    images: dict[str, ImageSet] = {}
    jobs: dict[str, Job] = {}
    for overrides in products:
        composed = compose(overrides)
        with read_write(composed), open_dict(composed):
            del composed["hydra"]
        for chosen, config in expanded(overrides, composed):
            check(config)
            key = repr(config.dataset)
            if key not in images:
                images[key] = open_category(config.dataset)
            path = run_path(config, images[key])
            jobs.setdefault(str(path), Job(chosen, config, RunFolder(path)))
    return list(jobs.values())


def expanded(overrides: list[str], composed: DictConfig) -> Iterator[tuple[list[str], Config]]:
    """A job, or one per category of its data set where it says ``all``.

    Args:
        overrides: of the job.
        composed: what they compose to, without Hydra's own part.

    Yields:
        The overrides and the configuration of each job.

    Raises:
        UserError: there is no category.
    """
    if OmegaConf.is_missing(composed.dataset, "category") or composed.dataset.category != "all":
        yield overrides, _typed(composed)
        return
    categories = list_categories(_typed(composed).dataset)
    if not categories:
        raise UserError(f"{composed.dataset.root} holds no category for dataset.category=all.")
    for category in categories:
        composed.dataset.category = category  # what depends on it is resolved by _typed
        others = [one for one in overrides if one.partition("=")[0] != CATEGORY]
        yield [*others, f"{CATEGORY}={quoted(category)}"], _typed(composed)


def _typed(composed: DictConfig) -> Config:
    config = OmegaConf.to_object(composed)
    assert isinstance(config, Config)
    return config


def quoted(value: str) -> str:
    r"""A string as Hydra's overrides write it, in quotes where it would not be read as this string.

    >>> quoted("screw"), quoted("01"), quoted("metal nut"), quoted("it's")
    ('screw', "'01'", "'metal nut'", "'it\\'s'")
    """
    if re.fullmatch(r"[A-Za-z_][\w.-]*", value) and value.lower() not in ("null", "true", "false", "nan", "inf"):
        return value
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


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
        if job.folder.journal.exists():
            seconds.setdefault(kind(job), []).extend(row["seconds"] for row in job.folder.rows() if "seconds" in row)
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
