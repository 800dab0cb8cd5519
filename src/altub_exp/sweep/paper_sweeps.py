"""The jobs that a file of ``sweeps/`` stands for, composed as ``python -m altub_exp.train -m +sweeps=NAME`` does."""

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
    """All sweeps, the paper's tables first."""
    found = sorted(path.stem for path in (Path(conf_dir()) / "sweeps").glob("*.yaml"))
    return sorted(found, key=lambda name: (not name.startswith("table"), name))


def header(name: str) -> str:
    """The comment that a sweep's file opens with."""
    lines = (Path(conf_dir()) / "sweeps" / f"{name}.yaml").read_text().splitlines()
    opening = []
    for line in lines[1:]:  # behind the directive of its package
        if not line.startswith("#"):
            break
        opening.append(line.removeprefix("#").strip())
    return "\n".join(opening)


def jobs(name: str, *arguments: str) -> list[Job]:
    """The jobs of a sweep, with further arguments of the command line, in the order in which they run.

    The images are not read: a job's folder is the one that it would have with no images, so that jobs of several
    sweeps that are computed once have the same folder.
    """
    register_schema()
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        return list(_jobs(f"+sweeps={name}", *arguments))


def _jobs(*arguments: str) -> Iterator[Job]:
    parser = OverridesParser.create()
    single = [one.input_line for one in parser.parse_overrides(list(arguments)) if not one.is_sweep_override()]
    params = compose("train", [str(one) for one in single], return_hydra_config=True).hydra.sweeper.params
    every = [*(f"{key}={value}" for key, value in params.items()), *arguments]
    ((*products,),) = BasicSweeper.split_arguments(parser.parse_overrides(every), max_batch_size=None)
    for overrides in products:
        for chosen, config in expanded(overrides, compose("train", overrides)):
            yield Job(chosen, config, RunFolder(run_path(config, images="")))
