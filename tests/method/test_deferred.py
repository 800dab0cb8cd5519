"""Deferred steps of Adam, and the kernel that takes them on a GPU."""

import random
import sys
from unittest.mock import Mock

import pytest
import torch

from altub_exp.method import deferred
from altub_exp.method.optimizer import AlternatingOptimizer
from altub_exp.method.schedule import Alternation
from tests.commandline import ROOT, run
from tests.method.adam_reference import compare, drawn_options, loss_on, parts_like


@pytest.mark.parametrize(
    "seed", [pytest.param(seed, marks=pytest.mark.slow if seed > 20 else ()) for seed in range(80)]
)
def test_any_order_of_parts_phases_and_rates_equals_one_adam_to_the_last_bit(seed):
    compare(seed)


@pytest.mark.parametrize("seed", [2, 3, 4])
def test_a_first_step_of_psi_may_be_deferred(seed, monkeypatch):
    """Its first gradient is that of a ψ-only epoch, in which Adam rests."""
    first = Mock(side_effect=deferred.first_state)
    monkeypatch.setattr(deferred, "first_state", first)
    plain = {"clip": "none", "momentum": 0.0, "grad_norm": None}
    compare(seed, alternation=Alternation(2, idle=1), **plain)
    assert first.called


def test_the_interpreted_kernel_equals_pytorchs_arithmetic_on_a_gpu_to_the_last_bit():
    pytest.importorskip("triton")
    run(ROOT, module="tests.method.adam_emulation", TRITON_INTERPRET="1")


@pytest.mark.slow
def test_the_kernel_is_built_of_operations_that_round_as_in_ieee_754(tmp_path):
    """It is compiled for an H100, without one; flushed, approximate and contracted operations would differ."""
    pytest.importorskip("triton")
    printed, _ = run(ROOT, "--build", module="tests.method.adam_emulation", TRITON_CACHE_DIR=str(tmp_path))
    operations = set(printed.split())
    assert {"fma.rn.f32", "div.rn.f32", "sqrt.rn.f32"} <= operations
    assert operations <= {"fma.rn.f32", "div.rn.f32", "sqrt.rn.f32", "mul.f32", "add.f32", "sub.f32", "neg.f32"}


def test_only_a_kernel_that_agrees_with_adam_on_this_device_is_used():
    options = {"betas": (0.9, 0.999), "weight_decay": 0.0, "eps": 1e-8}
    device = torch.device("cpu")
    assert deferred.agrees(deferred.take_steps, device, options)

    def rounded_otherwise(parameters, states, count, group):
        deferred.take_steps(parameters, states, count, group)
        parameters[0][17] = torch.nextafter(parameters[0][17], torch.tensor(torch.inf))

    def one_step_less(parameters, states, count, group):
        deferred.take_steps(parameters, states, count - 1, group)

    assert not deferred.agrees(rounded_otherwise, device, options)
    assert not deferred.agrees(one_step_less, device, options)


@pytest.mark.parametrize("agreed", [True, False])
def test_a_kernel_that_disagrees_is_not_used_and_a_warning_says_so(agreed, monkeypatch, caplog):
    kernel = pytest.importorskip("altub_exp.method.adam_kernel", reason="Triton is not here")
    monkeypatch.setattr(deferred, "agrees", lambda *arguments: agreed)
    chosen = deferred._kernel.__wrapped__(torch.device("cpu"), 0.9, 0.999, 0.0, 1e-8)
    assert chosen is (kernel.take_steps if agreed else None)
    assert ("computes Adam's steps in another way" in caplog.text) is not agreed


def test_without_a_compiler_the_steps_are_adams_own(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "altub_exp.method.adam_kernel", None)
    assert deferred._kernel.__wrapped__(torch.device("cpu"), 0.9, 0.999, 0.0, 1e-8) is None
    assert "apt-get install gcc python3-dev" in caplog.text


def test_gradients_of_decoders_that_are_not_in_use_take_no_memory():
    parts = parts_like(3, with_psi=True, seed=1)
    options = drawn_options(random.Random(1)) | {"clip": "none", "grad_norm": None, "momentum": 0.0}
    optimizer = AlternatingOptimizer(parts, **options, keep_gradients=True)
    with optimizer.batch([2, 1, 1], 1):
        for part in (0, 1, 2, 0):
            loss = loss_on(parts[part], [torch.ones(1)] * 5, unreached=False)
            optimizer.step(lambda frozen, loss=loss: [loss(frozen)], 1, part)
            others = [p for number, (theta, psi) in enumerate(parts) if number != part for p in theta + psi]
            assert all(parameter.grad is None for parameter in others)
