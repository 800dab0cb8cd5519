"""The Triton kernels of a coupling block, as Triton's interpreter executes them: no GPU is needed."""

import subprocess
import sys

import pytest

from tests.commandline import environment


def test_interpreted_kernels_equal_the_formula_and_autograds_gradients():
    pytest.importorskip("triton")
    command = [sys.executable, "-m", "tests.flows.kernels"]
    done = subprocess.run(command, env=environment(TRITON_INTERPRET="1"), capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
