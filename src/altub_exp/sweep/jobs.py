"""The jobs of a sweep: what each computes, where, and how it stands."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from altub_exp.config.check import check
from altub_exp.config.schema import Config
from altub_exp.data import ImageSet, list_categories, open_category
from altub_exp.errors import UserError
from altub_exp.runs.folder import RunFolder, State
from altub_exp.runs.identity import run_name, run_path
from altub_exp.tracking.lifecycle import lacks

Compose = Callable[[list[str]], DictConfig]

CATEGORY = "dataset.category"


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
            path = run_path(config, images[key].fingerprint())
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
