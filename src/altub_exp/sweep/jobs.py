"""The jobs of a sweep: the configuration of each, its folder and its state."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from altub_exp.config.check import check
from altub_exp.config.compose import typed
from altub_exp.config.overrides import literal, quoted
from altub_exp.config.schema import Config
from altub_exp.data import list_categories, open_category
from altub_exp.errors import UserError
from altub_exp.runs.folder import RunFolder
from altub_exp.runs.identity import run_name, run_path
from altub_exp.runs.states import FINAL, JobState, job_state

Compose = Callable[[list[str]], DictConfig]

CATEGORY = "dataset.category"


@dataclass(frozen=True, eq=False)
class Job:
    """One run of a sweep.

    Attributes:
        overrides: overrides of the command line, for the launcher.
        config: the configuration composed from them.
        folder: folder of the run, which need not exist.
    """

    overrides: list[str]
    config: Config
    folder: RunFolder

    @property
    def name(self) -> str:
        """Name of the job in messages."""
        return f"{run_name(self.config)} seed{self.config.seed}"

    def state(self) -> JobState:
        """Return the present state of the run.

        Raises:
            UserError: its status is damaged.
        """
        final = self.folder.state() in FINAL  # then the lock need not be checked
        return job_state(self.folder.status(), locked=not final and self.folder.is_locked())


def compose_jobs(products: Sequence[list[str]], compose: Compose) -> list[Job]:
    """Compose the jobs; ``all`` becomes the categories of each job's data set, and equal jobs become one.

    Raises:
        UserError: a configuration cannot work, or its images are missing.
    """
    images: dict[str, str] = {}
    jobs: dict[str, Job] = {}
    if not products:
        raise UserError("The sweep has no runs: one of its keys has no values, such as a glob(…) that fits no option.")
    for overrides in products:
        composed = compose(overrides)
        with read_write(composed), open_dict(composed):
            del composed["hydra"]
        for job_overrides, config in expanded(overrides, composed):
            check(config)
            key = repr(config.dataset)
            if key not in images:
                images[key] = open_category(config.dataset, config.cache.dir).fingerprint()
            path = run_path(config, images[key])
            jobs.setdefault(str(path), Job(job_overrides, config, RunFolder(path)))
    return list(jobs.values())


def expanded(overrides: list[str], composed: DictConfig) -> Iterator[tuple[list[str], Config]]:
    """Compose one job, or for the category ``all`` one per category of the data set.

    Yields:
        The overrides and the configuration of each job.

    Raises:
        UserError: there is no category.
    """
    if OmegaConf.is_missing(composed.dataset, "category") or composed.dataset.category != "all":
        yield overrides, typed(composed)
        return
    categories = list_categories(typed(composed).dataset)
    if not categories:
        raise UserError(f"{composed.dataset.root} holds no category for dataset.category=all.")
    for category in categories:
        composed.dataset.category = literal(category)  # typed() resolves the values that depend on it
        others = [override for override in overrides if override.partition("=")[0] != CATEGORY]
        yield [*others, f"{CATEGORY}={quoted(category)}"], typed(composed)
