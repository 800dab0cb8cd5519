"""One Adam over all parts with gradients that are set to zero, as the method is written, beside deferred steps."""

import copy
import random

import torch
from torch import nn

from altub_exp.method.optimizer import AlternatingOptimizer
from altub_exp.method.schedule import PHASES, Alternation

SIZES = [(3, 5), (17,), (1,)]
"""Shapes of the parameters of a part, none of them a multiple of a vector register."""


class Reference:
    """The method as it is written: a step zeroes all gradients, and one Adam and one SGD move all parts."""

    def __init__(self, parts, options):
        self.parts, self.options = parts, options
        theta, psi = ([p for part in parts for p in part[kind]] for kind in (0, 1))
        groups = [{"params": theta, "weight_decay": options["weight_decay"]}]
        if psi and options["alternation"].joint.psi == "adam":
            groups.append({"params": psi, "weight_decay": options["psi_weight_decay"]})
        chosen = {name: options[name] for name in ("lr", "betas", "eps")}
        self.theta, self.psi, self.adam = theta, psi, torch.optim.Adam(groups, fused=True, **chosen)
        self.sgd = torch.optim.SGD(psi, lr=0.05, momentum=options["momentum"], fused=False) if psi else None

    def step(self, loss, epoch, part):
        phase = self.options["alternation"].phase(epoch) if self.psi else PHASES["theta_only"]
        for parameter in self.psi:
            parameter.requires_grad_(phase.psi is not None)
        for parameter in self.theta + self.psi:
            if parameter.grad is not None:
                parameter.grad.zero_()
        loss(not phase.theta).backward()
        bound, clip = self.options["clip_value"], self.options["clip"]
        graded = any(parameter.grad is not None for parameter in self.psi)
        if graded and (phase.psi == "sgd" or self.options["clip_jointly"]):
            if clip == "value":
                nn.utils.clip_grad_value_(self.psi, bound)
            if clip == "norm":
                nn.utils.clip_grad_norm_(self.psi, bound)
        if phase.psi == "sgd":
            self.sgd.step()
        if phase.theta:
            if self.options["grad_norm"] is not None:
                nn.utils.clip_grad_norm_(self.theta, self.options["grad_norm"])
            self.adam.step()

    def set_lr(self, lr):
        for group in self.adam.param_groups:
            group["lr"] = lr
        if self.sgd is not None:
            self.sgd.param_groups[0]["lr"] = 0.05 * (lr / self.options["lr"])


def parts_like(count, with_psi, seed, device="cpu"):
    generator = torch.Generator().manual_seed(seed)

    def drawn(number):
        return [nn.Parameter(torch.randn(*size, generator=generator).to(device)) for size in SIZES[:number]]

    return [(drawn(3), drawn(2) if with_psi else []) for _ in range(count)]


def loss_on(part, data, unreached):
    """Return the loss of a part; of its parameters, it may not depend on the last θ."""

    def loss(frozen):
        theta, psi = part
        moving = [p.detach() if frozen else p for p in (theta[:-1] if unreached else theta)] + psi
        terms = [((p - x.expand_as(p)) ** 2).mean() + (p * x).sin().sum() for p, x in zip(moving, data, strict=False)]
        return torch.stack(terms).sum()

    return loss


def assert_equal_states(ours, reference):
    """Assert that parameters, Adam's and SGD's states and the presence of gradients are equal to the last bit."""
    state = ours.state_dict()
    for name, theirs in (("joint", reference.adam), ("alone", reference.sgd)):
        if theirs is None:
            continue
        (mine,), theirs = state[name], theirs.state_dict()
        assert mine["param_groups"] == theirs["param_groups"]
        assert mine["state"].keys() == theirs["state"].keys()
        for number, values in theirs["state"].items():
            assert values.keys() == mine["state"][number].keys()
            for key, value in values.items():
                same = value is None or torch.equal(mine["state"][number][key], value)
                assert same, (name, number, key)
    assert state["graded"] == [[p.grad is not None for p in reference.theta + reference.psi]]
    theta, psi = ([p for part in ours.parts for p in part[kind]] for kind in (0, 1))
    for mine, theirs in zip(theta + psi, reference.theta + reference.psi, strict=True):
        assert torch.equal(mine, theirs)


def drawn_options(choice):
    joint = PHASES[choice.choice(["joint", "joint", "constant", "theta_only"])]
    first = choice.choice([PHASES["theta_only"], joint])
    alternation = Alternation(choice.choice([None, 2, 3]), idle=choice.choice([0, 1, 2]), joint=joint, first=first)
    return {
        "lr": 1e-2,
        "weight_decay": choice.choice([0.0, 1e-2]),
        "psi_weight_decay": choice.choice([0.0, 1e-2]),
        "alternation": alternation,
        "momentum": choice.choice([0.0, 0.0, 0.0, 0.5]),
        "clip": choice.choice(["value", "none", "none", "norm"]),
        "clip_value": choice.choice([1e-2, 100.0]),
        "clip_jointly": choice.random() < 0.3,
        "betas": choice.choice([(0.9, 0.999), (0.5, 0.9)]),
        "eps": choice.choice([1e-8, 1e-3]),
        "grad_norm": choice.choice([None, None, None, 1e-2]),
    }


def compare(seed, device="cpu", **fixed):
    """Raise AssertionError unless random batches, phases and rates give the same numbers in both ways.

    The steps of a batch are taken in any order of the parts where they may be, and part after part by the reference.

    Returns:
        The optimizer that defers steps, or would.
    """
    choice = random.Random(seed)
    options, count, with_psi = drawn_options(choice) | fixed, choice.choice([1, 2, 3, 3]), choice.random() < 0.8
    parts, theirs = parts_like(count, with_psi, seed, device), parts_like(count, with_psi, seed, device)
    ours, reference = AlternatingOptimizer(parts, **options, keep_gradients=True), Reference(theirs, options)
    deferring = options["grad_norm"] is None and options["clip"] != "norm" and not options["momentum"]
    assert len(ours.parts) == (count if deferring else 1)
    generator = torch.Generator().manual_seed(seed)
    for epoch in range(1, 7):
        for _ in range(choice.choice([1, 3])):
            lr = options["lr"] * choice.choice([1.0, 0.5, 0.1])
            ours.set_lr(lr)
            reference.set_lr(lr)
            steps = [choice.choice([0, 1, 4, 12]) for _ in range(count)]
            turns, given = [part for part, own in enumerate(steps) for _ in range(own)], [[] for _ in range(count)]
            for part in turns:
                data = [torch.randn(1, generator=generator).to(device) for _ in range(5)]
                given[part].append((data, choice.random() < 0.3))
                reference.step(loss_on(theirs[part], *given[part][-1]), epoch, part)
            if deferring:
                choice.shuffle(turns)
            with ours.batch(steps if deferring else [sum(steps)], epoch):
                for part in turns:
                    loss = loss_on(parts[part], *given[part].pop(0))
                    ours.step(lambda frozen, loss=loss: [loss(frozen)], epoch, part if deferring else 0)
        if choice.random() < 0.5:
            assert_equal_states(ours, reference)
        if choice.random() < 0.3:  # as a run that was interrupted
            saved, parts = copy.deepcopy(ours.state_dict()), copy.deepcopy(parts)
            ours = AlternatingOptimizer(parts, **options, keep_gradients=True)
            ours.load_state_dict(saved)
    assert_equal_states(ours, reference)
    return ours
