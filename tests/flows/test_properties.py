"""Properties of every flow with every base distribution, including those of the example plug-in."""

import io
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from altub_exp.flows.cflow import CFlow
from altub_exp.flows.csflow import CSFlow
from altub_exp.flows.differnet import DifferNet
from altub_exp.flows.fastflow import FastFlow
from altub_exp.flows.msflow import MSFlow
from altub_exp.method.base import BASES as BUILT_IN
from altub_exp.method.base import reach_of
from altub_exp.method.density import Density, log_likelihood, negative_log_likelihood
from altub_exp.method.learner import FibreLearner, ImageLearner
from altub_exp.method.learning_rate import LearningRate, TrainingStep
from altub_exp.method.optimizer import AlternatingOptimizer, parts_of
from altub_exp.method.schedule import Alternation
from altub_exp.method.scoring import (
    CrossScaleEnergy,
    FibreProbability,
    ImageEnergy,
    LikelihoodMap,
    SumAndProduct,
    localises,
)
from altub_exp.runs.checkpoint import load_checkpoint, save_checkpoint

sys.path.append(str(Path(__file__).resolve().parents[2] / "examples/plugin"))
from altub_example.nice import Nice
from altub_example.sinh_arcsinh import SinhArcsinh

BASES = BUILT_IN | {"sinh_arcsinh": SinhArcsinh}
SHAPES = [(4, 4, 2), (5, 2, 1), (3, 1, 1)]
UNEVEN = [(4, 4, 3), (3, 3, 3), (5, 1, 2)]  # ratios of 4/3, 1, 3 and 3/2
FAST = {"steps": 2, "conv3x3_only": True, "hidden_ratio": 1.0, "affine_clamping": 2.0, "feature_norm": "none"}
FIBRE = {"steps": 2, "condition_channels": 8, "hidden_ratio": 2.0, "affine_clamping": 1.9, "permute_soft": True}
CROSS = {
    "steps": 2,
    "feature_norm": "none",
    "hidden_channels": 6,
    "kernel_size": 3,
    "last_kernel_size": 5,
    "affine_clamping": 3.0,
}
WHOLE = {"steps": 2, "feature_norm": "none", "hidden_features": 8, "affine_clamping": 3.0}
MULTI = {
    "steps": 2,
    "asymmetry": 1,
    "feature_norm": "none",
    "condition_channels": 8,
    "hidden_ratio": 1.0,
    "fusion_ratio": 0.5,
    "affine_clamping": 1.9,
}
FLOWS = {
    "fastflow": (FastFlow, SHAPES, FAST),
    "fastflow 1×1": (FastFlow, SHAPES, FAST | {"conv3x3_only": False, "hidden_ratio": 2.0}),
    "fastflow normed": (FastFlow, SHAPES, FAST | {"output_norm": "layernorm"}),
    "fastflow counted": (FastFlow, SHAPES, FAST | {"feature_norm": "counted"}),
    "fastflow 1×1 normed": (FastFlow, SHAPES, FAST | {"conv3x3_only": False, "output_norm": "layernorm"}),
    "cflow": (CFlow, SHAPES, FIBRE),
    "cflow permuted": (CFlow, SHAPES, FIBRE | {"permute_soft": False}),
    "csflow": (CSFlow, SHAPES, CROSS),
    "csflow counted": (CSFlow, SHAPES, CROSS | {"feature_norm": "counted"}),
    "csflow, two scales": (CSFlow, SHAPES[:2], CROSS),
    "csflow, one scale": (CSFlow, SHAPES[:1], CROSS),
    "csflow, uneven scales": (CSFlow, UNEVEN, CROSS),
    "differnet": (DifferNet, SHAPES, WHOLE),
    "differnet counted": (DifferNet, SHAPES, WHOLE | {"feature_norm": "counted"}),
    "msflow": (MSFlow, SHAPES, MULTI),
    "msflow counted": (MSFlow, SHAPES, MULTI | {"feature_norm": "counted"}),
    "msflow, uneven scales": (MSFlow, UNEVEN, MULTI),
    "nice": (Nice, SHAPES, {"steps": 3, "hidden_channels": 6}),
}
BIJECTIVE = [name for name in FLOWS if "normed" not in name and "counted" not in name]
FIBRED = [name for name in FLOWS if hasattr(FLOWS[name][0], "fibres")]
SCORINGS = {
    FastFlow: LikelihoodMap(),
    CFlow: FibreProbability("test"),
    CSFlow: CrossScaleEnergy(),
    DifferNet: ImageEnergy(1),
    MSFlow: SumAndProduct(0.1),
    Nice: LikelihoodMap(),
}

every_flow = pytest.mark.parametrize("name", FLOWS)
every_base = pytest.mark.parametrize("base", BASES)
FIBRE_BASES = [base for base in BASES if not reach_of(BASES[base]).z]


def flow_of(name, seed=1, **changes):
    cls, shapes, options = FLOWS[name]
    np.random.seed(seed)
    torch.manual_seed(seed)
    return cls(shapes, **(options | changes))


def density_of(name, base, *, moved=True, seed=1, **changes):
    """Make a density; ``moved`` moves its parameters away from their start, which is zero for some."""
    flow = flow_of(name, seed, **changes)
    density = Density(flow, [BASES[base](shape) for shape in flow.shapes])
    with torch.no_grad():
        for parameter in density.parameters():
            if moved and parameter.requires_grad:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return density


def features_of(flow, batch=3, seed=2):
    generator = torch.Generator().manual_seed(seed)
    return [2 * torch.randn(batch, *shape, generator=generator) + 0.5 for shape in flow.shapes]


def outputs(density, maps):
    with torch.no_grad():
        return [part for units in density(maps) for part in units]


@every_base
@every_flow
def test_shapes(name, base):
    density = density_of(name, base)
    for units, shape in zip(density(features_of(density.flow)), density.flow.shapes, strict=True):
        assert units.q.shape == (3, *shape)
        assert torch.broadcast_shapes(units.log_sigma.shape, units.q.shape) == units.q.shape
        assert units.log_det.shape == ((3, *shape[1:]) if name in FIBRED else (3,))


@every_base
@every_flow
def test_gradients_reach_every_parameter_that_is_not_frozen(name, base):
    norm = {"feature_norm": "trainable"} if FLOWS[name][2].get("feature_norm") == "none" else {}
    density = density_of(name, base, seed=2, **norm)  # seed 1 leaves all ReLUs of one subnet dead
    for frozen in (False, True):
        if frozen and base == "fixed":
            continue
        density.zero_grad()
        negative_log_likelihood(density(features_of(density.flow), freeze_flow=frozen)).backward()
        theta, psi = parts_of(density)[0]
        expected = {id(parameter) for parameter in (psi if frozen else theta + psi)}
        for parameter_name, parameter in density.named_parameters():
            reached = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
            assert reached == (id(parameter) in expected), parameter_name


@pytest.mark.parametrize("base", [base for base in BASES if base != "convolutional"])  # which is no density
@pytest.mark.parametrize("name", BIJECTIVE)
def test_log_determinants_sum_up_to_that_of_autograds_joint_jacobian(name, base):
    """The log-determinant of q with respect to all scales at once is Σ log_det − Σ ln σ."""
    density = density_of(name, base).double()
    maps = [m.double() for m in features_of(density.flow, batch=1)]
    lengths = [m.numel() for m in maps]

    def joint(x):
        units = density([part.view_as(m) for part, m in zip(x.split(lengths), maps, strict=True)])
        return torch.cat([u.q.flatten() for u in units])

    jacobian = torch.autograd.functional.jacobian(joint, torch.cat([m.flatten() for m in maps]))
    units = density(maps)
    found = sum(u.log_det.sum() - u.log_sigma.expand_as(u.q).sum() for u in units).item()
    exactly = torch.linalg.slogdet(jacobian)[1].item()
    # the orthogonal matrices are orthogonal in float32
    assert found == pytest.approx(exactly, abs=1e-5 if name == "cflow" else 1e-9)
    assert abs(exactly) > 1e-2


@pytest.mark.parametrize("name", BIJECTIVE)
def test_inverse_gives_back_what_entered(name):
    norm = {"feature_norm": "trainable"} if FLOWS[name][2].get("feature_norm") == "none" else {}
    flow = density_of(name, "fixed", **norm).flow.double()
    latents = flow([m.double() for m in features_of(flow)])
    tolerance = 1e-5 if name == "cflow" else 1e-9
    for back, latent in zip(flow.inverse([latent.z for latent in latents]), latents, strict=True):
        torch.testing.assert_close(back, latent.x, rtol=tolerance, atol=tolerance)
        assert not torch.allclose(latent.z, latent.x, atol=0.1)


@every_base
@every_flow
def test_a_saved_state_gives_bit_equal_outputs_in_a_new_object(name, base):
    density, other = density_of(name, base), density_of(name, base, seed=5)
    maps, file = features_of(density.flow), io.BytesIO()
    torch.save(density.state_dict(), file)
    file.seek(0)
    differs = [not torch.equal(a, b) for a, b in zip(outputs(density, maps), outputs(other, maps), strict=True)]
    assert any(differs)
    other.load_state_dict(torch.load(file, weights_only=True))
    for ours, theirs in zip(outputs(density, maps), outputs(other, maps), strict=True):
        assert torch.equal(ours, theirs)


@every_flow
def test_psi_at_its_start_is_the_fixed_base_bit_for_bit_in_loss_and_scores(name):
    found = {}
    for base in BUILT_IN:
        flow = density_of(name, "fixed").flow
        density = Density(flow, [BUILT_IN[base](shape) for shape in flow.shapes])
        with torch.no_grad():
            units = density(features_of(flow))
            scoring = SCORINGS[type(flow)]
            positions = scoring.positions(units)
            maps = scoring.maps(positions, 9, scoring.extremes(positions))
        per_position = [log_likelihood(u) for u in units] if name in FIBRED else []
        found[base] = [negative_log_likelihood(units), maps, scoring.image_scores(positions, maps), *per_position]
    for base, theirs in found.items():
        assert all(torch.equal(a, b) for a, b in zip(found["fixed"], theirs, strict=True)), base
    _, maps, images, *_ = found["fixed"]
    assert maps.shape == (3, 9, 9)
    assert images.shape == (3,)
    values = 20 if localises(SCORINGS[FLOWS[name][0]]) else 2  # at least, or one for each image
    assert len(maps.unique()) > values  # equal because computed, not because constant


@pytest.mark.parametrize("base", FIBRE_BASES)
@pytest.mark.parametrize("name", FIBRED)
def test_fibres_are_the_maps_at_their_positions(name, base):
    density = density_of(name, base).double()
    maps = [m.double() for m in features_of(density.flow)]
    for scale, units in enumerate(density(maps)):
        rows = torch.randperm(units.log_det.numel())
        fibres = density.fibres(scale, maps[scale], rows)

        def at_rows(part, like=units.q, rows=rows):
            return part.expand_as(like).movedim(1, -1).flatten(0, -2)[rows]

        torch.testing.assert_close(fibres.q, at_rows(units.q), rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(fibres.log_det, units.log_det.flatten()[rows], rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(fibres.log_sigma.expand_as(fibres.q), at_rows(units.log_sigma))
        assert len(fibres.log_det.unique()) == len(rows)  # no position for another


LEARNERS = [(name, form, base) for name in FLOWS for form in ("images", "images kept") for base in BASES]
LEARNERS += [
    (name, form, base) for name in FIBRED for form in ("fibres joint", "fibres per scale") for base in FIBRE_BASES
]


def quick(name, form, base):
    """True for every flow with the base of AltUB, and for one flow of each kind of learner with every base."""
    return base == "learned" or (name, form) in (("fastflow", "images"), ("cflow", "fibres per scale"))


def learner_of(name, form, base, seed):
    """Make a density near its start with an optimizer that moves only ψ in every second epoch."""
    density = density_of(name, base, moved=False, seed=seed)
    optimizer = AlternatingOptimizer(
        parts_of(density, per_scale=form.startswith("fibres")),
        lr=1e-2,
        weight_decay=1e-3,
        psi_weight_decay=1e-3,
        alternation=Alternation(2),
        max_lr=1e-3,  # the convolution would run away
        grad_norm=1.0 if name.startswith("csflow") else None,
        keep_gradients=form in ("images kept", "fibres joint"),
    )
    rate = LearningRate(1e-2, final=0.1, epochs=3)
    if form.startswith("fibres"):
        return FibreLearner(density, optimizer, rate, fibre_batch=2)
    return ImageLearner(density, optimizer, rate, per_dimension=name.startswith("csflow"))


def teach(learner, epoch):
    """Train one epoch of two batches and return their losses."""
    generator = torch.Generator().manual_seed(epoch)
    batches = [features_of(learner.density.flow, seed=10 * epoch + number) for number in range(2)]
    return [
        learner.learn(batch, TrainingStep(epoch, number, 2), generator).loss for number, batch in enumerate(batches)
    ]


@pytest.mark.parametrize(
    ("name", "form", "base"), [pytest.param(*one, marks=() if quick(*one) else pytest.mark.slow) for one in LEARNERS]
)
def test_training_interrupted_behind_every_epoch_equals_the_undisturbed_bit_for_bit(name, form, base, tmp_path):
    undisturbed, states, losses = learner_of(name, form, base, seed=1), [], []
    for epoch in (1, 2, 3):
        losses.append(teach(undisturbed, epoch))
        states.append({k: v.clone() for k, v in undisturbed.density.state_dict().items()})
    path, interrupted = tmp_path / "checkpoint.pt", learner_of(name, form, base, seed=1)
    for epoch in (1, 2, 3):
        assert all(torch.equal(a, b) for a, b in zip(teach(interrupted, epoch), losses[epoch - 1], strict=True))
        state = interrupted.density.state_dict()
        assert all(torch.equal(value, state[key]) for key, value in states[epoch - 1].items()), epoch
        save_checkpoint(path, epoch, interrupted.density, interrupted.optimizer, {})
        interrupted = learner_of(name, form, base, seed=1 + epoch)
        assert load_checkpoint(path, interrupted.density, interrupted.optimizer) == epoch
    moved = [{k.split(".")[0] for k in a if not torch.equal(a[k], b[k])} for a, b in pairwise(states)]
    assert moved == ([{"flow"}] * 2 if base == "fixed" else [{"bases"}, {"flow", "bases"}])
