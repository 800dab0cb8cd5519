"""Registers the flow and the base distribution; imported at every start of the program, so it imports no PyTorch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from altub_exp.config.bounds import Range
from altub_exp.config.plugins import add_base, add_flow
from altub_exp.config.schema import ModelConfig


@dataclass
class NiceConfig(ModelConfig):
    """The keys of NICE in addition to those of every model."""

    steps: Annotated[int, Range(least=1, most=1000)]
    hidden_channels: Annotated[int, Range(least=1, most=65_536)]


def register() -> None:
    """Offer ``altub=sinh_arcsinh`` and ``model=nice``."""
    add_base("sinh_arcsinh", "altub_example.sinh_arcsinh:SinhArcsinh")
    add_flow("nice", NiceConfig, Path(__file__).with_name("nice.yaml"), "altub_example.nice:FAMILY")
