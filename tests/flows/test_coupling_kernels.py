"""The Triton kernels of a coupling block, as Triton's interpreter executes them, and their absence; without a GPU."""

import subprocess
import sys

import pytest
import torch

from altub_exp import flows
from altub_exp.flows import coupling
from tests.commandline import environment


def test_interpreted_kernels_equal_the_formula_and_autograds_gradients():
    pytest.importorskip("triton")
    command = [sys.executable, "-m", "tests.flows.kernels"]
    done = subprocess.run(command, env=environment(TRITON_INTERPRET="1"), capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_they_compile_for_a_gpu_without_one(tmp_path):
    pytest.importorskip("triton")
    command = [sys.executable, "-m", "tests.flows.kernels", "--build"]
    env = environment(TRITON_CACHE_DIR=str(tmp_path))
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 8


def test_where_they_cannot_be_built_a_warning_names_the_remedy(monkeypatch, caplog):
    monkeypatch.delattr(flows, "coupling_kernels", raising=False)
    monkeypatch.setitem(sys.modules, "altub_exp.flows.coupling_kernels", None)
    assert coupling._kernels.__wrapped__(torch.device("cpu")) is None
    assert "fused kernels cannot be built" in caplog.text
    assert "apt-get install gcc python3-dev" in caplog.text
