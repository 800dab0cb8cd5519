"""The paper's protocol: the parameters that its sweeps compose, and the keys in which a run deviates from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import cache

from altub_exp.config.compose import image_size
from altub_exp.config.schema import NEUTRAL, Config
from analysis.runs.conditions import belongs_to
from analysis.runs.run import Run

SWEEPS = {
    ("mvtec", "fastflow"): "table6",
    ("mvtec", "cflow"): "table1",
    ("btad", "fastflow"): "table3",
    ("mvtec", "patchcore"): "table1",
    ("mvtec", "draem"): "table1",
    ("mvtec", "csflow"): "table1",
    ("mvtec", "differnet"): "table1",
}
"""The sweep whose jobs cover all cells of a data set and a model, except for the category."""

RECIPES = {
    "patchcore": ("patchcore-wrn50", "wrn50_tv"),
    "draem": ("draem-sspcab", "none"),
    "csflow": ("csflow-b5", "b5"),
    "differnet": ("differnet-alexnet", "alexnet"),
}
"""The systems that the paper only quotes: the recipe (``experiment``) of the publication, and its backbone."""

PLACEHOLDER = {"mvtec": "capsule", "btad": "01"}

SOURCES = ("model.protocol.", "backbone.fastflow.", "backbone.levels.")
"""Keys that others take their values from; a change of them shows in those others."""

KEYS_NAMED = 6

Deviations = Mapping[str, tuple[str, str]]
"""{key: (the run's value, the paper's)}."""


def sweep_command(sweep: str, reading: str | None = None) -> str:
    """Return the command that computes those runs of a sweep that do not exist yet."""
    return " ".join([f"python -m altub_exp.train -m +sweeps={sweep}", *_reading(reading)])


def _reading(reading: str | None) -> list[str]:
    return [] if reading is None else [f"+reading={reading}"]


def measure_command(run: Run, option: str) -> str:
    """Return the command that measures a finished run."""
    return f"python -m altub_exp.measure {run.tags.get('run_folder', 'RUN')} {option}"


def deviations(run: Run, reading: str | None = None) -> Deviations:
    """Return the deviations of a run in all keys that can change its numbers, except the seed.

    Keys that the run has not recorded are left out.

    Args:
        run: a run.
        reading: an option of ``conf/reading/``, under which the sweeps are composed; None for the defaults.

    Raises:
        KeyError: no sweep of the paper has such a run.
    """
    tags = run.tags
    expected = expected_params(
        tags["dataset"], tags["model"], tags["backbone"], tags["altub"], tags["category"], reading
    )
    return deviations_from(expected, run, (*NEUTRAL, "seed", "eval.fitted"))


def deviations_from(expected: Mapping[str, str], run: Run, ignored: Iterable[str]) -> Deviations:
    """Return the deviations from these parameters, without the ignored keys and groups."""
    ignored = tuple(ignored)
    return {
        key: (run.params[key], value)
        for key, value in sorted(expected.items())
        if run.params.get(key, value) != value and not belongs_to(key, ignored) and not key.startswith(SOURCES)
    }


def flattened(config: Config) -> dict[str, str]:
    """Return a configuration as MLflow keeps it."""
    from altub_exp.tracking.lifecycle import flatten  # imports PyTorch

    return {key: str(value) for key, value in flatten(asdict(config)).items()}


def deviation_text(deviations: Deviations) -> str:
    """Return the text of deviations for a footnote.

    >>> deviation_text({"train.epochs": ("30", "300")})
    'train.epochs=30 (paper: 300)'
    """
    texts = [f"{key}={ours} (paper: {paper})" for key, (ours, paper) in list(deviations.items())[:KEYS_NAMED]]
    rest = len(deviations) - len(texts)
    return ", ".join(texts) + (f" and {rest} more" if rest > 0 else "")


def expected_params(
    dataset: str, model: str, backbone: str, altub: str, category: str, reading: str | None = None
) -> Mapping[str, str]:
    """Return the flattened configuration of a cell, every value as MLflow keeps it.

    Raises:
        KeyError: no sweep of the paper has such a run.
    """
    config, params = _jobs(dataset, model, backbone, reading)[altub]
    size = image_size(config.model.protocol.image_sizes, dataset, category, config.backbone.image_size)
    return {**params, "dataset.category": category, "dataset.image_size": str(size)}


@cache
def _jobs(dataset: str, model: str, backbone: str, reading: str | None) -> dict[str, tuple[Config, dict[str, str]]]:
    from altub_exp.sweep.paper_sweeps import jobs  # imports PyTorch

    arguments = [f"dataset.category='{PLACEHOLDER[dataset]}'"]
    if model in RECIPES:
        recipe, published = RECIPES[model]
        arguments += [f"experiment={recipe}", "altub=none"]
        arguments += [] if backbone == published else [f"backbone={backbone}"]
    else:
        arguments += [f"experiment={model}-{backbone}"] if model == "cflow" else [f"backbone={backbone}"]
        arguments += _reading(reading)
    configs = [job.config for job in jobs(SWEEPS[dataset, model], *arguments)]
    return {config.altub.name: (config, flattened(config)) for config in configs}
