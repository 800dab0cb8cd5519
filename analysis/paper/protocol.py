"""The paper's protocol: what its sweeps compose to, and in which keys a run deviates from that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import cache

from altub_exp.config.compose import image_size
from altub_exp.config.schema import NEUTRAL, Config
from analysis.runs.conditions import of
from analysis.runs.records import Run

SWEEPS = {("mvtec", "fastflow"): "table6", ("mvtec", "cflow"): "table1", ("btad", "fastflow"): "table3"}
"""The sweep whose jobs hold all cells of a data set and a model, but for the category."""

PLACEHOLDER = {"mvtec": "capsule", "btad": "01"}

SOURCES = ("model.protocol.", "backbone.fastflow.", "backbone.levels.")
"""Keys that others take their values from: what they change shows there."""

KEYS_NAMED = 6


def command(sweep: str) -> str:
    """What computes the runs of a sweep that are not there yet."""
    return f"python -m altub_exp.train -m +sweeps={sweep}"


def deviations(run: Run) -> dict[str, tuple[str, str]]:
    """{key: (the run's value, the paper's)} of all that can change its numbers, the seed apart.

    Keys that the run has not recorded are left out.

    Raises:
        KeyError: no sweep of the paper has such a run.
    """
    tags = run.tags
    expected = composed(tags["dataset"], tags["model"], tags["backbone"], tags["altub"], tags["category"])
    return differing(run, expected, (*NEUTRAL, "seed"))


def differing(run: Run, expected: Mapping[str, str], aside: Iterable[str]) -> dict[str, tuple[str, str]]:
    """{key: (the run's value, the expected one)}, without these keys and groups, and what the run has not recorded."""
    ignored = tuple(aside)
    return {
        key: (run.params[key], value)
        for key, value in sorted(expected.items())
        if run.params.get(key, value) != value and not of(key, ignored) and not key.startswith(SOURCES)
    }


def flattened(config: Config) -> dict[str, str]:
    """A configuration as MLflow keeps it."""
    from altub_exp.tracking.lifecycle import flatten  # imports PyTorch

    return {key: str(value) for key, value in flatten(asdict(config)).items()}


def named(found: Mapping[str, tuple[str, str]]) -> str:
    """Deviations for a footnote.

    >>> named({"train.epochs": ("30", "300")})
    'train.epochs=30 (paper: 300)'
    """
    told = [f"{key}={ours} (paper: {paper})" for key, (ours, paper) in list(found.items())[:KEYS_NAMED]]
    rest = len(found) - len(told)
    return ", ".join(told) + (f" and {rest} more" if rest > 0 else "")


def composed(dataset: str, model: str, backbone: str, altub: str, category: str) -> Mapping[str, str]:
    """The flattened configuration of a cell, every value as MLflow keeps it.

    Raises:
        KeyError: no sweep of the paper has such a run.
    """
    config, params = _jobs(dataset, model, backbone)[altub]
    size = image_size(config.model.protocol.image_sizes, dataset, category, config.backbone.image_size)
    return {**params, "dataset.category": category, "dataset.image_size": str(size)}


@cache
def _jobs(dataset: str, model: str, backbone: str) -> dict[str, tuple[Config, dict[str, str]]]:
    from altub_exp.sweep.paper_sweeps import jobs  # imports PyTorch

    arguments = [f"dataset.category='{PLACEHOLDER[dataset]}'"]
    arguments += [f"experiment={model}-{backbone}"] if model == "cflow" else [f"backbone={backbone}"]
    configs = [job.config for job in jobs(SWEEPS[dataset, model], *arguments)]
    return {config.altub.name: (config, flattened(config)) for config in configs}
