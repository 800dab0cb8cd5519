"""Fixtures of several tests: no MLflow in the environment, the composed configuration, the folder of real images."""

import os
import signal
from pathlib import Path

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from omegaconf import OmegaConf

from altub_exp.config.compose import conf_dir, register_schema
from altub_exp.tracking import store

collect_ignore = ["interrupted"]
"""Its sitecustomize.py is for other processes."""

signal.signal(signal.SIGINT, signal.default_int_handler)  # commands must obey it; a shell's background jobs ignore it


@pytest.fixture(autouse=True)
def no_mlflow(monkeypatch):
    """No test writes to a developer's server or keeps the time-outs of the test before."""
    for key in ("MLFLOW_TRACKING_URI", *store.ENVIRONMENT):
        monkeypatch.delenv(key, raising=False)


@pytest.fixture
def compose():
    """A function that composes the configuration from overrides, like the command line."""
    register_schema()

    def composed(*overrides):
        with initialize_config_dir(conf_dir(), version_base="1.3"):
            return OmegaConf.to_object(hydra_compose("train", overrides=list(overrides)))

    return composed


@pytest.fixture(scope="session")
def shared():
    """The folder of real images and weights, beside the checkout or named by ALTUB_SHARED."""
    folder = Path(os.environ.get("ALTUB_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"the real images and weights are not at {folder}")
    return folder
