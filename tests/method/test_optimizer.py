"""Algorithm 1: the parameters that move in each epoch, and their step sizes."""

import copy

import numpy as np
import pytest
import torch

from altub_exp.flows.fastflow import FastFlow
from altub_exp.method.base import BASES
from altub_exp.method.density import Density, negative_log_likelihood
from altub_exp.method.optimizer import AlternatingOptimizer, parts_of
from altub_exp.method.schedule import PHASES, Alternation

SHAPES = [(4, 4, 4), (6, 2, 2)]


def make(base="learned", interval=5, **options):
    np.random.seed(5)
    torch.manual_seed(5)
    flow = FastFlow(SHAPES, steps=2, conv3x3_only=True, hidden_ratio=1.0, affine_clamping=2.0)
    density = Density(flow, [BASES[base](shape) for shape in SHAPES])
    settings = {"lr": 1e-3, "weight_decay": 1e-5, "psi_weight_decay": 1e-5, "alternation": Alternation(interval)}
    return density, AlternatingOptimizer(parts_of(density), **(settings | options))


def loss_of(density, features):
    return lambda frozen: [negative_log_likelihood(density(features, freeze_flow=frozen))]


def batch(seed=0, scale=2.0):
    generator = torch.Generator().manual_seed(seed)
    return [scale * torch.randn(8, *shape, generator=generator) + 1 for shape in SHAPES]


def snapshot(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def changed(before, module):
    return {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}


def test_psi_only_epoch_moves_psi_and_nothing_else():
    density, optimizer = make()
    for epoch in (1, 2, 3, 4):
        optimizer.step(loss_of(density, batch(epoch)), epoch)
    before, adam = snapshot(density), copy.deepcopy(optimizer.joint[0].state_dict())
    for seed in range(3):
        optimizer.step(loss_of(density, batch(seed)), 5)
    assert changed(before, density) == {f"bases.{k}.{name}" for k in (0, 1) for name in ("mu", "log_sigma")}
    after = optimizer.joint[0].state_dict()
    assert after["state"].keys() == adam["state"].keys()
    for index, state in adam["state"].items():
        for key, value in state.items():
            assert torch.equal(after["state"][index][key], value), (index, key)


def test_joint_epoch_is_one_adam_over_flow_norm_and_psi_with_the_same_decay():
    density, optimizer = make()
    reference = copy.deepcopy(density)
    adam = torch.optim.Adam(reference.parameters(), lr=1e-3, weight_decay=1e-5)
    for epoch in (1, 2, 3, 4, 6):
        optimizer.step(loss_of(density, batch(epoch)), epoch)
        adam.zero_grad()
        negative_log_likelihood(reference(batch(epoch))).backward()
        adam.step()
    for (name, ours), theirs in zip(density.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-7, msg=name)


@pytest.mark.parametrize(("clip", "scale"), [("value", 40.0), ("none", 2.0), ("norm", 40.0)])
def test_psi_only_step_is_plain_sgd_at_eta2_with_the_clipping_named(clip, scale):
    density, optimizer = make(clip=clip)
    features = batch(scale=scale)
    # after the feature norm the latents are small; a base far from them has large gradients
    with torch.no_grad():
        for base in density.bases:
            base.log_sigma.fill_(-4.0)
    reference = copy.deepcopy(density)
    negative_log_likelihood(reference(features)).backward()
    gradients = [p.grad.clone() for p in reference.bases.parameters()]
    assert max(g.abs().max() for g in gradients) > 100
    before = [p.detach().clone() for p in density.bases.parameters()]
    optimizer.step(loss_of(density, features), 5)
    if clip == "value":
        gradients = [g.clamp(-100, 100) for g in gradients]
    if clip == "norm":
        total = torch.sqrt(sum((g**2).sum() for g in gradients))
        gradients = [g * 100 / total for g in gradients]
    for now, then, gradient in zip(density.bases.parameters(), before, gradients, strict=True):
        torch.testing.assert_close(now.detach(), then - 0.05 * gradient, rtol=1e-5, atol=1e-6)


def test_clipping_acts_in_joint_epochs_only_where_asked_for():
    moved = {}
    for jointly in (False, True):
        density, optimizer = make(clip_value=1e-9, clip_jointly=jointly, psi_weight_decay=0.0)
        optimizer.step(loss_of(density, batch()), 1)
        moved[jointly] = torch.cat([p.detach().abs().flatten() for p in density.bases.parameters()]).mean().item()
    assert moved[False] == pytest.approx(1e-3, rel=1e-2)  # Adam's first step is η₁ whatever the gradient's size
    assert moved[True] < 0.5 * moved[False]  # a gradient below Adam's epsilon


def test_clipping_in_every_phase_waits_for_the_first_gradient_of_psi():
    density, optimizer = make(alternation=Alternation(3, idle=1), clip_jointly=True)
    before = snapshot(density)
    optimizer.step(loss_of(density, batch()), 1)
    assert {name.split(".")[0] for name in changed(before, density)} == {"flow"}


def test_eta2_follows_eta1_and_never_exceeds_max_lr():
    _, optimizer = make(lr=2e-4)
    assert optimizer.eta2() == 0.05
    optimizer.set_lr(5e-5)
    assert optimizer.eta2() == pytest.approx(0.0125)


def test_stereotype_moves_psi_in_every_epoch_by_adam_alone():
    density, optimizer = make(interval=None)
    before = snapshot(density)
    optimizer.step(loss_of(density, batch()), 5)
    names = changed(before, density)
    assert any(name.startswith("flow.flows") for name in names)
    assert any(name.startswith("bases") for name in names)


def test_fixed_base_never_freezes_the_flow():
    density, optimizer = make(base="fixed", interval=5)
    before = snapshot(density)
    optimizer.step(loss_of(density, batch()), 5)
    assert changed(before, density)


def test_none_and_alternating_agree_bit_for_bit_until_psi_moves():
    """The first loss of both is that of the same flow."""
    losses = []
    for base in ("fixed", "learned", "convolutional"):
        density, optimizer = make(base)
        losses += optimizer.step(loss_of(density, batch()), 1)
    assert torch.equal(losses[0], losses[1])
    assert torch.equal(losses[0], losses[2])


def test_optimizer_state_round_trip_continues_bit_for_bit():
    density, optimizer = make(momentum=0.5)
    for epoch in range(1, 7):
        optimizer.step(loss_of(density, batch(epoch)), epoch)
    other, resumed = make(momentum=0.5)
    other.load_state_dict(density.state_dict())
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for epoch in range(7, 12):
        optimizer.step(loss_of(density, batch(epoch)), epoch)
        resumed.step(loss_of(other, batch(epoch)), epoch)
    for a, b in zip(density.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(("clip", "scale"), [("value", 40.0), ("none", 2.0)])
def test_a_constant_rate_is_adam_on_the_flow_and_sgd_on_psi_from_one_backward_pass(clip, scale):
    density, optimizer = make(alternation=Alternation(None, joint=PHASES["constant"]), clip=clip)
    with torch.no_grad():
        for base in density.bases:
            base.log_sigma.fill_(-3.0)  # a base far from the latents has large gradients
    reference = copy.deepcopy(density)
    theta, psi = list(reference.flow.parameters()), list(reference.bases.parameters())
    adam = torch.optim.Adam(theta, lr=1e-3, weight_decay=1e-5)
    largest = 0.0
    for epoch in (1, 2, 5, 6):
        features = batch(epoch, scale)
        optimizer.step(loss_of(density, features), epoch)
        gradients = torch.autograd.grad(negative_log_likelihood(reference(features)), theta + psi)
        for parameter, gradient in zip(theta, gradients, strict=False):
            parameter.grad = gradient
        adam.step()
        with torch.no_grad():
            for parameter, gradient in zip(psi, gradients[len(theta) :], strict=True):
                largest = max(largest, gradient.abs().max().item())
                parameter -= 0.05 * (gradient.clamp(-100, 100) if clip == "value" else gradient)
        assert not optimizer.psi_only(epoch)
    assert largest > 100
    for (name, ours), theirs in zip(density.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6, msg=name)
    assert not {id(p) for p in density.bases.parameters()} & {id(p) for p in optimizer.joint[0].state}


def test_phases_of_the_idle_epochs_and_of_meta_epochs():
    joint, psi_only, theta_only = (PHASES[name] for name in ("joint", "psi_only", "theta_only"))
    frozen = Alternation(2, idle=3)
    moving = Alternation(2, idle=3, first=joint)
    assert [frozen.phase(epoch) for epoch in range(1, 6)] == [theta_only] * 3 + [psi_only, joint]
    assert [moving.phase(epoch) for epoch in range(1, 6)] == [joint] * 3 + [psi_only, joint]
    meta = Alternation(5, idle=16, cycle=8)
    assert [epoch for epoch in range(1, 201) if meta.psi_only(epoch)] == [
        epoch for epoch in range(1, 201) if epoch > 16 and ((epoch + 7) // 8) % 5 == 0
    ]


@pytest.mark.parametrize(
    ("options", "moved"),
    [
        ({"idle": 2, "first": PHASES["joint"]}, [{"flow", "bases"}, {"bases", "flow"}, {"bases"}, {"flow", "bases"}]),
        ({"idle": 2}, [{"flow"}, {"flow"}, {"bases"}, {"flow", "bases"}]),
        ({"joint": PHASES["constant"]}, [{"flow", "bases"}, {"flow", "bases"}, {"bases"}, {"flow", "bases"}]),
        ({"joint": PHASES["theta_only"]}, [{"flow"}, {"flow"}, {"bases"}, {"flow"}]),
    ],
)
def test_a_phase_moves_what_it_names(options, moved):
    density, optimizer = make(alternation=Alternation(3, **options))
    for epoch, expected in enumerate(moved, start=1):
        before = snapshot(density)
        optimizer.step(loss_of(density, batch(epoch)), epoch)
        assert {name.split(".")[0] for name in changed(before, density)} == expected, epoch
