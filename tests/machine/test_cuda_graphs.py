"""Recorded training steps against executed ones, with CUDA graphs imitated on a CPU."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from altub_exp.detector import assembly
from altub_exp.detector.assembly import build_backbone, build_density, build_fitted, build_learner
from altub_exp.detector.evaluation import positions
from altub_exp.detector.families import family
from altub_exp.detector.latents import fit_psi, normality
from altub_exp.features.maps import FeatureMaps
from altub_exp.machine.cuda_graphs import WARM_UP
from altub_exp.machine.device import seed_everything
from altub_exp.method.learning_rate import TrainingStep
from tests.detector.test_graph import untrained
from tests.machine.tape import Tape, graphs_on_a_cpu

SHAPES = [(8, 8, 8), (16, 4, 4)]
FEW = {
    "fastflow": [],
    "csflow": ["model.hidden_channels=8"],
    "cflow": ["model.fibre_batch=16", "train.warmup_epochs=1"],
    "differnet": ["model.hidden_features=16", "model.rotations=4"],
    "msflow": ["train.warmup_epochs=0"],
}


def learned(compose, graphs, *overrides, monkeypatch, epochs=6, shapes=SHAPES):
    """Train on four batches in each of some epochs, the fifth of which moves only ψ; return learner and losses."""
    config = compose("dataset.category=bottle", "model.steps=2", "train.epochs=6", *overrides)
    seed_everything(1)
    monkeypatch.setattr(assembly, "cuda_graphs_for", lambda device, parts: graphs)
    learner = build_learner(config, build_density(config, shapes))
    set_lr = learner.optimizer.set_lr
    monkeypatch.setattr(
        learner.optimizer, "set_lr", lambda lr: set_lr(np.float32(lr).item())
    )  # as a recording holds it
    generator = torch.Generator().manual_seed(2)
    maps = [[torch.randn(4, *shape, generator=generator) for shape in shapes] for _ in range(4)]
    losses = []
    for epoch in range(1, epochs + 1):
        for number, batch in enumerate(maps):
            lesson = learner.learn(batch, TrainingStep(epoch, number, len(maps)), generator)
            losses.append([float(value) for value in lesson if value is not None])
    return learner, losses


def recordings(optimizer):
    return [recording for store in optimizer._lanes or [optimizer.graphs] for recording in store._recordings.items()]


CFLOW = ["model=cflow", *FEW["cflow"]]
CASES = [
    *(([f"model={model}", *few], altub) for model, few in FEW.items() for altub in ("none", "alternating")),
    ([*CFLOW, "model.optimizers=per_decoder"], "alternating"),
    ([*CFLOW, "altub.psi_loss=nats"], "alternating"),
    ([*CFLOW, "altub.momentum=0.5"], "alternating"),
    ([*CFLOW, "train.grad_norm=0.5"], "alternating"),
    (["altub.clip=norm", "altub.clip_value=0.01", "altub.clip_phase=every"], "alternating"),
    (["train.grad_norm=0.5", "altub.momentum=0.5"], "alternating"),
    (["model.feature_norm=counted"], "constant"),
    ([], "cnn"),
]


@pytest.mark.parametrize(("overrides", "altub"), CASES, ids=lambda value: value if isinstance(value, str) else None)
def test_recorded_steps_are_the_executed_ones(compose, overrides, altub, monkeypatch):
    graphs, _ = graphs_on_a_cpu(monkeypatch)
    options = [*overrides, f"altub={altub}"]
    recorded, ours = learned(compose, graphs, *options, monkeypatch=monkeypatch)
    executed, theirs = learned(compose, None, *options, monkeypatch=monkeypatch)
    assert ours == theirs
    for mine, other in zip(recorded.density.parameters(), executed.density.parameters(), strict=True):
        assert torch.equal(mine, other)
    found = recordings(recorded.optimizer)
    assert all(isinstance(recording._graph, Tape) and recording._graph.replays for _, recording in found)
    phases = {kind[0][2] for kind, _ in found}
    assert any(phase.theta for phase in phases)
    assert any(not phase.theta for phase in phases) is (altub == "alternating")


def test_decoders_of_one_shape_are_recorded_apart(compose, monkeypatch):
    graphs, _ = graphs_on_a_cpu(monkeypatch)
    options = {"monkeypatch": monkeypatch, "epochs": 1, "shapes": [(8, 4, 4)] * 2}
    overrides = [*CFLOW, "train.grad_norm=0.5"]  # which depends on all decoders, so that one optimizer has them all
    (recorded, ours), (_, theirs) = (learned(compose, store, *overrides, **options) for store in (graphs, None))
    assert recorded.optimizer._lanes == []
    assert ours == theirs


def test_a_checkpoint_of_either_way_is_continued_in_the_other(compose, monkeypatch):
    graphs, _ = graphs_on_a_cpu(monkeypatch)
    overrides = [*CFLOW, "altub=alternating"]
    (recorded, _), (executed, _) = (
        learned(compose, store, *overrides, monkeypatch=monkeypatch, epochs=2) for store in (graphs, None)
    )
    maps = [torch.randn(4, *shape) for shape in SHAPES]
    for source, target in ((recorded, executed), (executed, recorded)):
        options = [(type(group["lr"]), group.get("capturable"), group["fused"]) for group in target.optimizer._groups()]
        source.learn(maps, TrainingStep(3, 0, 4), torch.Generator())
        target.density.load_state_dict(source.density.state_dict())
        target.optimizer.load_state_dict(copy.deepcopy(source.optimizer.state_dict()))
        assert options == [
            (type(group["lr"]), group.get("capturable"), group["fused"]) for group in target.optimizer._groups()
        ]
    for learner in (recorded, executed):
        learner.learn(maps, TrainingStep(5, 0, 4), torch.Generator())
        learner.learn(maps, TrainingStep(6, 0, 4), torch.Generator())
    for ours, theirs in zip(recorded.density.parameters(), executed.density.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("kind", ["joint", "per_decoder"])
def test_decoders_have_a_stream_each_that_starts_and_ends_with_the_batch(compose, kind, monkeypatch):
    graphs, machine = graphs_on_a_cpu(monkeypatch)
    learner, _ = learned(compose, graphs, *CFLOW, f"model.optimizers={kind}", monkeypatch=monkeypatch, epochs=1)
    main, *lanes = machine.streams
    assert len(lanes) == len(SHAPES)
    step = learner.optimizer._take

    def counted(loss, phase, part):
        assert machine.current is lanes[part]
        return step(loss, phase, part)

    def replayed(tape):
        machine.current.work += 1
        assert machine.current in lanes
        assert machine.current.waited[main] == main.work, "a decoder did not wait for the batch"

    monkeypatch.setattr(learner.optimizer, "_take", counted)
    monkeypatch.setattr(Tape, "replay", replayed)
    maps = [torch.randn(4, *shape) for shape in SHAPES]
    for _ in range(3):
        main.work += 1  # the features of the batch
        learner.learn(maps, TrainingStep(1, 0, 4), torch.Generator())
        assert [main.waited[lane] for lane in lanes] == [lane.work for lane in lanes], "the batch ended too early"
    assert [lane.work for lane in lanes] == [3 * 16, 3 * 4]
    assert machine.current is main


def evaluated(compose, graphs, device, *options):
    """Return fitted ψ, scores per position and statistics, by recorded and by executed passes."""
    settings = ["dataset=synthetic", "backbone=r18", "backbone.weights=random", "dataset.image_size=64"]
    config = compose(*settings, "model.steps=1", "altub=fitted", *options)
    images = torch.randint(256, (11, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    backbone, passes = build_backbone(config).to(device), {"batch_size": 2, "device": device, "memory_gb": 1.0}
    features = FeatureMaps(backbone, images, rotations=backbone.passes.rotations, **passes)
    seed_everything(1)
    density = build_density(config, features.shapes).to(device)
    fitted, scoring = build_fitted(config, density), family(config.model.name).scoring(config.model)
    for store in (graphs, None):
        fit_psi(fitted, features, store)
        psi = [value.clone() for value in fitted.bases.state_dict().values()]
        scores = [scale for scales in positions([density, fitted], scoring, features, store) for scale in scales]
        yield psi + scores, normality(fitted, features, memory_gb=1.0, graphs=store)


@pytest.mark.parametrize("model", FEW)
def test_recorded_evaluations_are_the_executed_ones(compose, model, monkeypatch):
    graphs, _ = graphs_on_a_cpu(monkeypatch)
    found = evaluated(compose, graphs, torch.device("cpu"), f"model={model}", *FEW[model])
    (numbers, statistics), (executed, expected) = found
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(numbers, executed, strict=True))
    assert statistics == expected
    assert len(graphs._recordings) == 3


def test_recorded_predictions_are_the_executed_ones(compose, monkeypatch):
    detector, images = untrained(compose, "r18", "model=cflow", "altub=alternating")
    images = torch.cat([images, images.flip(3)])
    expected = [detector.score_pixels(image[None]) for image in images]
    detector = replace(detector, graphs=graphs_on_a_cpu(monkeypatch)[0])
    for image, (maps, score) in zip(images, expected, strict=True):
        ours = detector.score_pixels(image[None])
        assert torch.equal(ours[0], maps)
        assert torch.equal(ours[1], score)
    (recording,) = detector.graphs._recordings.values()
    assert recording._graph.replays == len(images) - WARM_UP
