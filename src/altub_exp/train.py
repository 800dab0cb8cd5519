"""Trains one model, or with ``-m`` a sweep.   python -m altub_exp.train --help"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from altub_exp.config.compose import conf_dir, register_schema
from altub_exp.config.messages import explain
from altub_exp.config.plugins import discover
from altub_exp.config.schema import Config
from altub_exp.errors import UserError
from altub_exp.machine.command_line import INTERRUPTED
from altub_exp.machine.memory import collection_paused


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="train")
def main(config: DictConfig) -> None:
    """Run one experiment; with ``-m`` Hydra calls this once per job, and the sweep reports the errors."""
    register_schema()  # a launcher may call this function in another process, without cli()
    discover()
    try:
        in_sweep = HydraConfig.get().mode is RunMode.MULTIRUN or config.tracking.code is not None
        if "sweeps" in HydraConfig.get().runtime.choices and not in_sweep:
            raise UserError("+sweeps=… is a list of runs: add -m.")
        run = OmegaConf.to_object(config)
        assert isinstance(run, Config)
        with collection_paused():
            from altub_exp.experiment import run_experiment  # after Hydra: --help and --cfg need no torch

        run_experiment(run)
    except (UserError, OmegaConfBaseException) as error:
        if HydraConfig.get().mode is RunMode.MULTIRUN:
            raise
        with suppress(OSError):  # stderr may be a file on the full disk; the exit status reports that too
            print(f"error: {explain(error)}", file=sys.stderr)  # not in cli(): Hydra would print a line before it
        sys.exit(error.status if isinstance(error, UserError) else UserError.status)
    except KeyboardInterrupt as interrupt:
        _end_interrupted(interrupt)


def cli() -> None:
    """Call :func:`main`; after a mistake of the user, print one sentence and exit with status 1."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # lets errors reach this function instead of being printed by Hydra
    try:
        register_schema()
        discover()
        main()
    except (HydraException, OmegaConfBaseException, UserError) as error:
        sys.exit(f"error: {explain(error)}")
    except KeyboardInterrupt as interrupt:
        _end_interrupted(interrupt)


def _end_interrupted(interrupt: KeyboardInterrupt) -> NoReturn:
    if not interrupt.args:  # otherwise it has been reported, with the remedy
        print("interrupted", file=sys.stderr)
    sys.exit(INTERRUPTED)


if __name__ == "__main__":
    cli()
