"""Trains one model, or with ``-m`` a sweep.   python -m altub_exp.train --help"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from altub_exp.config.compose import conf_dir, register_schema, typed
from altub_exp.config.messages import explain
from altub_exp.config.overrides import prepared
from altub_exp.config.plugins import discover
from altub_exp.errors import UserError
from altub_exp.machine.command_line import INTERRUPTED
from altub_exp.machine.disk import writing_to
from altub_exp.machine.memory import collection_paused
from altub_exp.text import printable_lines, say


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="train")
def main(config: DictConfig) -> float | None:
    """Run one experiment; with ``-m`` Hydra calls this once per job, and the sweep reports the errors.

    Returns:
        The job's value for a sweeper, see :func:`~altub_exp.experiment.run_experiment`.
    """
    register_schema()  # a launcher may call this function in another process, without cli()
    discover()
    try:
        code = OmegaConf.select(config, "tracking.code")
        in_sweep = HydraConfig.get().mode is RunMode.MULTIRUN or code is not None
        if "sweeps" in HydraConfig.get().runtime.choices and not in_sweep:
            raise UserError("+sweeps=… is a list of runs: add -m.")
        run = typed(config)
        if run.sweep.dry_run:
            raise UserError("sweep.dry_run=true lists the runs of -m, and not with another hydra/sweeper.")
        if str(HydraConfig.get().sweeper.get("direction")).endswith("minimize"):
            raise UserError("A run's value is its AUROC, the higher the better: add hydra.sweeper.direction=maximize.")
        with collection_paused():
            from altub_exp.experiment import run_experiment  # after Hydra: --help and --cfg need no torch

        with writing_to(Path(run.runs_dir)):
            return run_experiment(run)
    except (UserError, OmegaConfBaseException) as error:
        if HydraConfig.get().mode is RunMode.MULTIRUN:
            raise
        with suppress(OSError):  # stderr may be a file on the full disk; the exit status reports that too
            say(f"error: {explain(error)}", error=True)  # not in cli(): Hydra would print a line before it
        sys.exit(error.status if isinstance(error, UserError) else UserError.status)
    except KeyboardInterrupt as interrupt:
        _end_interrupted(interrupt)


def cli() -> None:
    """Call :func:`main`; after a mistake of the user, print one sentence and exit with status 1."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # lets errors reach this function instead of being printed by Hydra
    try:
        register_schema()
        discover()
        sys.argv[1:] = prepared(sys.argv[1:])
        with writing_to(Path.cwd()):
            main()
    except (HydraException, OmegaConfBaseException, YAMLError, UnicodeDecodeError, UserError) as error:
        if isinstance(error, UnicodeDecodeError) and HydraConfig.initialized():
            raise  # it is not a file of the configuration, which has been composed
        sys.exit(printable_lines(f"error: {explain(error)}"))
    except KeyboardInterrupt as interrupt:
        _end_interrupted(interrupt)


def _end_interrupted(interrupt: KeyboardInterrupt) -> NoReturn:
    if not interrupt.args:  # otherwise it has been reported, with the remedy
        say("interrupted", error=True)
    sys.exit(INTERRUPTED)


if __name__ == "__main__":
    cli()
