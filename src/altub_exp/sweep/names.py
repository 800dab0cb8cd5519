"""Names in MLflow: of a sweep by what it sweeps, of its runs by what distinguishes them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser

from altub_exp.sweep.jobs import CATEGORY, Job

BETWEEN = " · "
LONGEST_PART, LONGEST_TITLE = 60, 120
"""Characters; a longer list of values or title is cut."""

ALWAYS = ("category", "base")
"""The parts of every name, so that the runs of several sweeps are distinguished in one list too."""

NAMED = frozenset(
    ["dataset", "dataset.name", CATEGORY, "model", "backbone", "backbone.name", "altub", "seed", "experiment"]
)
"""Overrides whose effect is in the other parts of a name."""


def sweep_name(arguments: Sequence[str]) -> str:
    """Return the name by which a sweep is found again: that of its file, or a hash of its command line.

    >>> sweep_name(["+sweeps=table_a1", "seed=1"])
    'table_a1'
    """
    text = " ".join(argument for argument in arguments if not argument.startswith(("hydra", "sweep.")))
    return _file(arguments) or f"sweep-{hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}"


def sweep_title(arguments: Sequence[str]) -> str:
    """Return the name of a sweep for a reader: that of its file, or the keys that have several values.

    >>> sweep_title(["experiment=demo", "altub=none,alternating", "seed=range(1,4)"])
    'altub=none,alternating · seed=range(1,4)'
    """
    parsed = [
        override
        for override in OverridesParser.create().parse_overrides(list(arguments))
        if not str(override.key_or_group).startswith(("hydra", "sweep.", "tracking."))
    ]
    several = [override for override in parsed if override.is_sweep_override() or _is_all(override.input_line or "")]
    parts = [_cut(str(override.input_line), LONGEST_PART) for override in several or parsed]
    return _file(arguments) or _cut(BETWEEN.join(parts), LONGEST_TITLE) or sweep_name(arguments)


def run_names(jobs: Sequence[Job]) -> dict[Job, str]:
    """Return for each job the name of its MLflow run: category, base distribution and whatever else differs.

    An example is ``screw · none · seed 1``.
    """
    parts = {job: _parts(job) for job in jobs}
    differing = {key for key in next(iter(parts.values())) if len({part[key] for part in parts.values()}) > 1}
    uses = Counter(override for job in jobs for override in set(job.overrides))
    names = {}
    for job, part in parts.items():
        others = [override for override in job.overrides if uses[override] < len(jobs) and _key(override) not in NAMED]
        known = [value for key, value in part.items() if key in ALWAYS or key in differing]
        names[job] = BETWEEN.join([*known, *others])
    if len(set(names.values())) == len(jobs):
        return names
    return {job: BETWEEN.join([name, *_experiment(job)]) for job, name in names.items()}


def _parts(job: Job) -> dict[str, str]:
    config = job.config
    return {
        "dataset": config.dataset.name,
        "category": config.dataset.category,
        "model": config.model.name,
        # the folder has the backbone's label, which would have to be read from a file
        "backbone": job.folder.path.parents[1].name.removeprefix(f"{config.model.name}-"),
        "base": config.altub.name,
        "seed": f"seed {config.seed}",
    }


def _experiment(job: Job) -> list[str]:
    return [override for override in job.overrides if _key(override) == "experiment"]


def _file(arguments: Sequence[str]) -> str | None:
    return next((argument.partition("=")[2] for argument in arguments if _key(argument) == "sweeps"), None)


def _is_all(override: str) -> bool:
    return _key(override) == CATEGORY and override.partition("=")[2] == "all"


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+")


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
