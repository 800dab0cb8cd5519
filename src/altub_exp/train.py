"""Entry point: Hydra in, one experiment out.   python -m altub_exp.train --help"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

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
from altub_exp.machine.memory import collection_paused


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="train")
def main(config: DictConfig) -> None:
    """Run one experiment; under ``-m`` Hydra calls this once per job, and the sweep reports what fails."""
    register_schema()  # a launcher may have brought this function alone to another process
    discover()
    try:
        of_a_sweep = HydraConfig.get().mode is RunMode.MULTIRUN or config.tracking.code is not None
        if "sweeps" in HydraConfig.get().runtime.choices and not of_a_sweep:
            raise UserError("+sweeps=… is a list of runs: add -m.")
        run = OmegaConf.to_object(config)
        assert isinstance(run, Config)
        with collection_paused():
            from altub_exp.experiment import run_experiment  # after Hydra: --help and --cfg need no torch

        run_experiment(run)
    except (UserError, OmegaConfBaseException) as error:
        if HydraConfig.get().mode is RunMode.MULTIRUN:
            raise
        with suppress(OSError):  # the terminal may be a file on a disk that is full: the exit status says that too
            print(f"error: {explain(error)}", file=sys.stderr)  # here, because Hydra would print a line before it
        sys.exit(error.status if isinstance(error, UserError) else UserError.status)
    except KeyboardInterrupt:
        sys.exit(130)  # the shell's status for it; the log has said what to do


def cli() -> None:
    """Call :func:`main`; what a person got wrong ends in one sentence and exit status 1."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that errors arrive here, where they become a sentence
    try:
        register_schema()
        discover()
        main()
    except (HydraException, OmegaConfBaseException, UserError) as error:
        sys.exit(f"error: {explain(error)}")


if __name__ == "__main__":
    cli()
