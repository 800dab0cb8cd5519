"""The Triton kernels of a coupling block, as Triton's interpreter executes them, and their absence; without a GPU."""

import sys

import pytest
import torch

from altub_exp import flows
from altub_exp.flows import coupling
from tests.commandline import ROOT, run


def test_interpreted_kernels_equal_the_formula_and_autograds_gradients():
    pytest.importorskip("triton")
    run(ROOT, module="tests.flows.kernels", TRITON_INTERPRET="1")


@pytest.mark.slow
def test_they_compile_for_a_gpu_without_one(tmp_path):
    pytest.importorskip("triton")
    printed, _ = run(ROOT, "--build", module="tests.flows.kernels", TRITON_CACHE_DIR=str(tmp_path))
    assert len(printed.splitlines()) == 8


def test_where_they_cannot_be_built_a_warning_names_the_remedy(monkeypatch, caplog):
    monkeypatch.delattr(flows, "coupling_kernels", raising=False)
    monkeypatch.setitem(sys.modules, "altub_exp.flows.coupling_kernels", None)
    assert coupling._kernels.__wrapped__(torch.device("cpu")) is None
    assert "fused kernels cannot be built" in caplog.text
    assert "apt-get install gcc python3-dev" in caplog.text
