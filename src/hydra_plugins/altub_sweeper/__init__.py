"""The sweeper of ``-m``: Hydra's basic sweeper with ``dataset.category=all``, which launches only missing runs."""

# Hydra imports this module at every start: no torch here. Hydra's dataclasses do not support
# `from __future__ import annotations`.
from dataclasses import dataclass
from typing import Any, Dict, List, Optional  # noqa: UP035

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser


@dataclass
class AltubSweeperConf:
    """The configuration of ``hydra/sweeper=altub``; ``params`` are the swept overrides, as on the command line."""

    _target_: str = "hydra_plugins.altub_sweeper.AltubSweeper"
    max_batch_size: Optional[int] = None  # noqa: UP045
    params: Optional[Dict[str, str]] = None  # noqa: UP006, UP045


ConfigStore.instance().store(group="hydra/sweeper", name="altub", node=AltubSweeperConf, provider="altub-exp")


class AltubSweeper(BasicSweeper):
    """Composes every job and launches the missing ones, see :mod:`altub_exp.sweep.run`."""

    def sweep(self, arguments: List[str]) -> Any:  # noqa: UP006
        """Run the product of all overrides."""
        from altub_exp.config.overrides import readable, require_values
        from altub_exp.sweep.run import run_sweep

        assert self.hydra_context is not None
        assert self.config is not None
        assert self.launcher is not None
        loader, master = self.hydra_context.config_loader, self.config
        parser = OverridesParser.create(config_loader=loader)
        every = [*map(readable, self._parse_config()), *arguments]
        overrides = parser.parse_overrides(every)
        require_values(overrides)
        (products,) = self.split_arguments(overrides, None)
        run_sweep(
            arguments, products, lambda overrides: loader.load_sweep_config(master, overrides), self.launcher.launch
        )
