"""CFLOW-AD's training against loops written out with PyTorch's own optimizers; AltUB on it."""

import copy

import numpy as np
import pytest
import torch

from altub_exp.errors import UserError
from altub_exp.flows.cflow import CFlow
from altub_exp.method.base import BASES, reach_of
from altub_exp.method.density import Density
from altub_exp.method.learner import FibreLearner
from altub_exp.method.learning_rate import LearningRate, TrainingStep
from altub_exp.method.optimizer import AlternatingOptimizer, parts_of
from altub_exp.method.schedule import Alternation

SHAPES = [(6, 4, 4), (5, 2, 2)]
N = 8
RATE = LearningRate(2e-3, final=1e-3, epochs=20, cycle=2, warmup_epochs=4)


def density_of(base="learned"):
    np.random.seed(1)
    torch.manual_seed(1)
    options = {"steps": 2, "condition_channels": 8, "hidden_ratio": 2.0, "affine_clamping": 1.9, "permute_soft": True}
    return Density(CFlow(SHAPES, **options), [BASES[base](shape) for shape in SHAPES])


def learner_of(density, *, joint=True, interval=5, idle=4, psi_loss="objective", per_scale=True):
    optimizer = AlternatingOptimizer(
        parts_of(density, per_scale=per_scale),
        lr=RATE.largest,
        weight_decay=0.0,
        psi_weight_decay=0.0,
        alternation=Alternation(interval, idle=idle),
        clip="none",
        keep_gradients=joint,
    )
    return FibreLearner(density, optimizer, RATE, fibre_batch=N, psi_loss=psi_loss)


def batch(seed):
    generator = torch.Generator().manual_seed(seed)
    return [2 * torch.randn(3, *shape, generator=generator) + 1 for shape in SHAPES]


def teach(learner, epochs, batches=2):
    lessons = []
    for epoch in epochs:
        generator = torch.Generator().manual_seed(epoch)
        for number in range(batches):
            lesson = learner.learn(batch(10 * epoch + number), TrainingStep(epoch, number, batches), generator)
            lessons.append(lesson)
    return lessons


def published(flow, epochs, *, joint, batches=2):
    """Train over fibres with the loss −ln sigmoid(log p / C) and N(0, I), one Adam over all decoders or one each."""
    everything = torch.optim.Adam([p for p in flow.parameters() if p.requires_grad])
    each = [torch.optim.Adam([p for p in scale.parameters() if p.requires_grad]) for scale in flow.scales]
    losses = []
    for epoch in epochs:
        generator = torch.Generator().manual_seed(epoch)
        for number in range(batches):
            for group in [group for adam in (everything, *each) for group in adam.param_groups]:
                group["lr"] = RATE.at(TrainingStep(epoch, number, batches))
            for scale, maps in enumerate(batch(10 * epoch + number)):
                channels, height, width = SHAPES[scale]
                fibres = maps.permute(0, 2, 3, 1).reshape(-1, channels)
                order = torch.randperm(3 * height * width, generator=generator)
                adam = everything if joint else each[scale]
                for step in range(len(order) // N):
                    rows = order[step * N : (step + 1) * N]
                    condition = flow.get_buffer(f"positions{scale}")[rows % (height * width)]
                    z, log_det = flow.scales[scale](fibres[rows], c=[condition])
                    log_p = -channels * 0.9189385332046727 - 0.5 * (z**2).sum(dim=1) + log_det
                    loss = -torch.nn.functional.logsigmoid(log_p / channels).mean()
                    adam.zero_grad(set_to_none=not joint)
                    loss.backward()
                    adam.step()
                    losses.append(loss.item())
    return losses


@pytest.mark.parametrize("joint", [True, False])
def test_training_of_the_fixed_base_equals_the_published_loop(joint):
    density = density_of("fixed")
    reference = copy.deepcopy(density.flow)
    before = copy.deepcopy(density.flow.state_dict())
    lessons = teach(learner_of(density, joint=joint), (1, 2, 3))
    losses = published(reference, (1, 2, 3), joint=joint)
    assert np.mean([lesson.objective.item() for lesson in lessons]) == pytest.approx(np.mean(losses), rel=1e-6)
    for (name, ours), theirs in zip(density.flow.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6, msg=name)
        assert not ours.requires_grad or not torch.equal(ours, before[name]), f"{name} did not move"


def test_the_joint_optimizer_moves_the_other_decoders_too_and_the_separate_ones_do_not():
    """A step of another decoder moves a decoder with momentum only under the joint Adam."""
    for joint in (True, False):
        density = density_of("fixed")
        learner = learner_of(density, joint=joint)
        teach(learner, (1,))
        first = copy.deepcopy(density.flow.scales[0].state_dict())
        maps, rows = batch(0)[1], torch.arange(N)
        with learner.optimizer.batch([0, 1], 1):
            learner._step(1, maps, rows, 1, 1)
        moved = any(not torch.equal(v, first[k]) for k, v in density.flow.scales[0].state_dict().items())
        assert moved is joint


def test_parts_per_scale_are_those_of_the_whole_density_in_its_order():
    density = density_of()
    ((theta, psi),) = parts_of(density)
    parts = parts_of(density, per_scale=True)
    for kind, whole in enumerate((theta, psi)):
        together = [parameter for part in parts for parameter in part[kind]]
        assert all(ours is theirs for ours, theirs in zip(together, whole, strict=True))


@pytest.mark.parametrize("base", ["fixed", "learned"])
def test_deferred_steps_of_the_decoders_equal_those_of_one_part_bit_for_bit(base):
    learners = [learner_of(density_of(base), per_scale=per_scale) for per_scale in (True, False)]
    assert [len(learner.optimizer.parts) for learner in learners] == [2, 1]
    for epoch in range(1, 8):  # the first four leave ψ, the fifth moves only ψ
        ours, theirs = (teach(learner, (epoch,)) for learner in learners)
        for lesson, other in zip(ours, theirs, strict=True):
            assert torch.equal(lesson.objective, other.objective)
            assert torch.equal(lesson.loss, other.loss)
        for mine, other in zip(*(learner.density.parameters() for learner in learners), strict=True):
            assert torch.equal(mine, other)
        states = [learner.optimizer.state_dict() for learner in learners]
        assert states[0]["graded"] == states[1]["graded"]
        (mine,), (other,) = (state["joint"] for state in states)
        assert mine["state"].keys() == other["state"].keys()
        for number, values in other["state"].items():
            assert all(torch.equal(mine["state"][number][key], value) for key, value in values.items())


def test_psi_waits_for_the_end_of_the_warm_up_and_is_then_moved_alone_in_every_fifth_epoch():
    density = density_of()
    learner = learner_of(density, idle=6)
    for epoch in range(1, 12):
        before = copy.deepcopy(density.state_dict())
        teach(learner, (epoch,))
        moved = {
            name.split(".")[0] for name, value in density.state_dict().items() if not torch.equal(value, before[name])
        }
        assert moved == ({"flow"} if epoch <= 6 else {"bases"} if epoch == 10 else {"flow", "bases"}), epoch


@pytest.mark.parametrize("psi_loss", ["objective", "nats"])
def test_psi_only_steps_are_plain_sgd_whose_rate_follows_the_cosine(psi_loss):
    density = density_of()
    learner = learner_of(density, interval=2, idle=4, psi_loss=psi_loss)
    teach(learner, range(1, 8))
    expected = copy.deepcopy(density)
    generator = torch.Generator().manual_seed(8)
    eta2 = 0.05 * RATE.at(TrainingStep(8, 0, 1)) / RATE.largest
    assert eta2 < 0.045
    for scale, maps in enumerate(batch(80)):
        order = torch.randperm(maps[:, 0].numel(), generator=generator)
        for step in range(len(order) // N):
            rows = order[step * N : (step + 1) * N]
            base, area = expected.bases[scale], maps[0, 0].numel()
            fibres = maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])[rows]
            with torch.no_grad():
                z, log_det = expected.flow.scales[scale](
                    fibres, c=[expected.flow.get_buffer(f"positions{scale}")[rows % area]]
                )
            mu, log_sigma = (p.flatten(1).T[rows % area] for p in (base.mu, base.log_sigma))
            log_p = (-0.9189385332046727 - 0.5 * ((z - mu) / log_sigma.exp()) ** 2 - log_sigma).sum(dim=1) + log_det
            expected.zero_grad()
            if psi_loss == "nats":
                (-log_p).mean().backward()
            else:
                (-torch.nn.functional.logsigmoid(log_p / maps.shape[1])).mean().backward()
            with torch.no_grad():
                for p in (base.mu, base.log_sigma):
                    p -= eta2 * p.grad
    (lesson,) = teach(learner, (8,), batches=1)
    assert 0 < lesson.objective.item() < 3  # it is recorded as in all other epochs
    for ours, theirs in zip(density.bases.parameters(), expected.bases.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_with_psi_at_zero_the_losses_are_those_of_the_fixed_base_bit_for_bit():
    bases = [base for base in BASES if not reach_of(BASES[base]).z]
    assert bases[:3] == ["fixed", "learned", "convolutional"]
    lessons = {base: teach(learner_of(density_of(base), idle=4), (1, 2, 3, 4)) for base in bases}
    for lesson, *others in zip(*lessons.values(), strict=True):
        for other in others:
            assert torch.equal(lesson.objective, other.objective)
            assert torch.equal(lesson.loss, other.loss)


def test_loss_is_in_nats_per_dimension():
    density = density_of("fixed")
    z = density(batch(10))
    nats = sum((0.5 * u.q**2).sum() - u.log_det.sum() for u in z) / (3 * sum(np.prod(shape) for shape in SHAPES))
    learner = learner_of(density)
    learner._fibre_batch = 12  # nothing is left out
    learner._rate = LearningRate(1e-12)
    lesson = learner.learn(batch(10), TrainingStep(1, 0, 1), torch.Generator())
    assert lesson.loss.item() == pytest.approx(nats.item(), rel=1e-5)


def test_too_few_positions_for_a_step_are_one_sentence():
    with pytest.raises(
        UserError, match=r"scale 2 have 2×2 positions.*gives 4 fibres.*model.fibre_batch=8: set it to 4"
    ):
        learner_of(density_of()).check(SHAPES, 1)
    assert (
        learner_of(density_of()).learn([m[:1, :, :1, :1] for m in batch(0)], TrainingStep(1, 0, 1), torch.Generator())
        is None
    )
