"""The jobs of a file of ``sweeps/``, composed as in ``python -m altub_exp.train -m +sweeps=NAME``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from altub_exp.config.compose import conf_dir, register_schema
from altub_exp.runs.folder import RunFolder
from altub_exp.runs.identity import run_path
from altub_exp.sweep.jobs import Job, expanded


def names() -> list[str]:
    """List the names of all sweeps, the paper's tables first."""
    stems = [path.stem for path in (Path(conf_dir()) / "sweeps").glob("*.yaml")]
    return sorted(stems, key=lambda name: (not name.startswith("table"), name))


def jobs(name: str, *arguments: str) -> list[Job]:
    """Return the jobs of a sweep, with further arguments of the command line, in the order in which they run.

    The images are not read. A job's folder is that of a run without images: equal jobs of several sweeps share it.
    """
    register_schema()
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        return list(_jobs(f"+sweeps={name}", *arguments))


def _jobs(*arguments: str) -> Iterator[Job]:
    parser = OverridesParser.create()
    parsed = parser.parse_overrides(list(arguments))
    single = [str(override.input_line) for override in parsed if not override.is_sweep_override()]
    params = compose("train", single, return_hydra_config=True).hydra.sweeper.params
    every = [*(f"{key}={value}" for key, value in params.items()), *arguments]
    ((*products,),) = BasicSweeper.split_arguments(parser.parse_overrides(every), max_batch_size=None)
    for overrides in products:
        for job_overrides, config in expanded(overrides, compose("train", overrides)):
            yield Job(job_overrides, config, RunFolder(run_path(config, images="")))
