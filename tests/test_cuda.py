"""The program on a real GPU: the numbers of the CPU up to rounding, and several runs at once."""

import csv

import pytest
import torch

from altub_exp.config.schema import Device, Precision
from altub_exp.detector.assembly import build_density, build_learner
from altub_exp.features.backbone import Backbone
from altub_exp.features.maps import FeatureMaps
from altub_exp.machine.cuda_graphs import CudaGraphs
from altub_exp.machine.device import prepare_device, seed_everything
from altub_exp.method import deferred
from altub_exp.method.density import negative_log_likelihood
from altub_exp.method.learning_rate import TrainingStep
from altub_exp.metrics import on_gpu as on_device
from altub_exp.metrics.auroc import auroc
from altub_exp.metrics.kolmogorov import channel_ks
from tests.commandline import TINY, folders, journal, kill_behind_a_checkpoint, recorded, run, status
from tests.machine.test_cuda_graphs import FEW, evaluated
from tests.method import adam_reference

kernels = pytest.importorskip("tests.flows.kernels", reason="Triton is not here")
adam_kernel = pytest.importorskip("altub_exp.method.adam_kernel", reason="Triton is not here")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no CUDA device here"),
]
SHAPES = [(8, 16, 16), (16, 8, 8)]
ON_GPU = [*TINY, "device=cuda"]
MODELS = list(FEW)


def learner_on(device, compose, *overrides, shapes=SHAPES):
    config = compose("dataset.category=bottle", "model.steps=2", "train.epochs=6", *overrides)
    seed_everything(1)
    return build_learner(config, build_density(config, shapes).to(device))


def features(count=4, shapes=SHAPES):
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(count, *shape, generator=generator) for shape in shapes]


def lessons(learner, device):
    """Return the loss of two batches in each of six epochs; the fifth moves only ψ."""
    maps = [scale.to(device) for scale in features(shapes=learner.density.flow.shapes)]
    generator = torch.Generator().manual_seed(3)
    found = []
    for epoch in range(1, 7):
        for batch in range(2):
            lesson = learner.learn(maps, TrainingStep(epoch, batch, 2), generator)
            found.append(float(lesson.loss))
    return found


@pytest.fixture(autouse=True)
def float32():
    """Disable TF32 like a run; PyTorch's default allows it in convolutions."""
    prepare_device(Device.cuda)
    yield
    prepare_device(Device.cuda)


def small(model):
    return [f"model={model}", *FEW[model], "eval.every=1"]


@pytest.mark.parametrize("altub", ["none", "alternating"])
@pytest.mark.parametrize("model", MODELS)
def test_training_follows_the_cpus(compose, model, altub):
    options = [*small(model), f"altub={altub}"]
    ours = lessons(learner_on("cuda", compose, *options), "cuda")
    assert ours == pytest.approx(lessons(learner_on("cpu", compose, *options), "cpu"), rel=2e-4, abs=2e-4)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("altub", ["none", "alternating", "cnn"])
@pytest.mark.parametrize("model", MODELS)
def test_replayed_steps_are_the_executed_ones(compose, model, altub, precision):
    options = [*small(model), f"altub={altub}", f"precision={precision}"]
    replayed, executed = (learner_on("cuda", compose, *options, f"cuda_graphs={graphs}") for graphs in (True, False))
    assert replayed.optimizer.graphs is not None
    assert executed.optimizer.graphs is None
    assert lessons(replayed, "cuda") == pytest.approx(lessons(executed, "cuda"), rel=1e-6, abs=1e-6)
    assert all(store._recordings for store in replayed.optimizer._lanes or [replayed.optimizer.graphs])
    for ours, theirs in zip(replayed.density.parameters(), executed.density.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("model", ["fastflow", "csflow"])
def test_a_counted_norm_trains_as_on_the_cpu_executed_and_replayed(compose, model):
    options = [*small(model), "altub=alternating", "model.feature_norm=counted"]
    expected = lessons(learner_on("cpu", compose, *options), "cpu")
    for graphs in (True, False):
        learner = learner_on("cuda", compose, *options, f"cuda_graphs={graphs}")
        assert lessons(learner, "cuda") == pytest.approx(expected, rel=2e-4, abs=2e-4)


@pytest.mark.parametrize("kind", ["joint", "per_decoder"])
@pytest.mark.parametrize("altub", ["none", "alternating"])
def test_decoders_side_by_side_are_those_one_after_the_other(compose, altub, kind):
    """The decoders are large enough to be at work at the same time."""
    shapes = [(128, 32, 32), (256, 16, 16), (512, 8, 8)]
    options = ["model=cflow", "model.fibre_batch=64", "train.warmup_epochs=1"]
    options += [f"model.optimizers={kind}", f"altub={altub}"]
    beside, alone = (learner_on("cuda", compose, *options, shapes=shapes) for _ in range(2))
    assert len(beside.optimizer._lanes) == 3
    for lane in alone.optimizer._lanes:
        lane._stream = None  # the one that is current
    assert lessons(beside, "cuda") == pytest.approx(lessons(alone, "cuda"), rel=1e-6, abs=1e-6)
    for ours, theirs in zip(beside.density.parameters(), alone.density.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("model", MODELS)
def test_replayed_evaluations_are_the_executed_ones(compose, model):
    graphs = CudaGraphs()
    (numbers, statistics), (executed, expected) = evaluated(compose, graphs, torch.device("cuda"), *small(model))
    for ours, theirs in zip(numbers, executed, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert statistics == pytest.approx(expected, rel=1e-4)
    assert len(graphs._recordings) == 3


def test_passes_of_different_shapes_share_their_memory_and_disturb_no_other(compose):
    replayed, executed = (
        learner_on("cuda", compose, "altub=alternating", f"cuda_graphs={graphs}") for graphs in (1, 0)
    )
    losses = []
    for learner in (replayed, executed):
        found = []
        for turn in range(24):
            maps = [scale.cuda() for scale in features(4 - turn % 3)]
            found.append(float(learner.learn(maps, TrainingStep(1 + turn // 4, turn % 4, 4), torch.Generator()).loss))
        losses.append(found)
    assert len(replayed.optimizer.graphs._recordings) >= 3
    assert losses[0] == pytest.approx(losses[1], rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("case", kernels.CASES, ids=str)
def test_fused_kernels_are_the_formula(case):
    kernels.compare(*case, "cuda")


@pytest.mark.parametrize("weight_decay", [0.0, 1e-3])
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.9)])
def test_the_kernel_of_deferred_steps_is_pytorchs_adam_to_the_last_bit(betas, weight_decay):
    options = {"betas": betas, "weight_decay": weight_decay, "eps": 1e-8}
    assert deferred.agrees(adam_kernel.take_steps, torch.device("cuda"), options)


@pytest.mark.parametrize("seed", range(40))
def test_deferred_steps_equal_one_adam_to_the_last_bit(seed, monkeypatch):
    served, choose = [], deferred.kernel_for
    monkeypatch.setattr(deferred, "kernel_for", lambda *arguments: served.append(choose(*arguments)) or served[-1])
    optimizer = adam_reference.compare(seed, "cuda")
    assert bool(served) is (len(optimizer.parts) > 1)
    assert all(served), "the kernel was not used"


def test_a_switch_gives_adams_own_steps_instead_of_the_kernels(compose):
    states = []
    for graphs in (True, False):
        learner = learner_on("cuda", compose, *small("cflow"), "altub=none", f"cuda_graphs={graphs}")
        assert learner.optimizer._deferred._kernel is graphs
        lessons(learner, "cuda")
        states.append(learner.optimizer.state_dict()["joint"][0]["state"])
    torch.testing.assert_close(states[0], states[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("model", MODELS)
def test_psi_zero_is_the_original_bit_for_bit(compose, model):
    results = []
    for altub in ("none", "alternating"):
        density = learner_on("cuda", compose, *small(model), f"altub={altub}").density
        units = density([scale.cuda() for scale in features()])
        results.append([units, negative_log_likelihood(units)])
    (plain, loss), (learned, same) = results
    assert torch.equal(loss, same)
    assert all(torch.equal(a.q, b.q) and torch.equal(a.log_det, b.log_det) for a, b in zip(plain, learned, strict=True))


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_lower_precision_rounds_the_flow_and_not_the_backbone(compose, precision):
    wide = [(64, 32, 32)]  # a convolution of few channels uses no Tensor Cores
    exact = lessons(learner_on("cuda", compose, "altub=alternating", shapes=wide), "cuda")
    image = torch.randint(256, (1, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    backbone = Backbone("resnet18.tv_in1k", [1, 2], weights="random").to("cuda")
    maps = backbone(image.cuda())
    prepare_device(Device.cuda, precision=Precision(precision))
    options = ["altub=alternating", f"precision={precision}"]
    rounded = lessons(learner_on("cuda", compose, *options, shapes=wide), "cuda")
    assert all(torch.equal(a, b) for a, b in zip(maps, backbone(image.cuda()), strict=True))
    assert rounded != exact
    assert rounded == pytest.approx(exact, abs=5e-3)


def test_auroc_and_ks_statistics_are_the_cpus():
    generator = torch.Generator().manual_seed(0)
    labels = torch.rand(30, 128, 128, generator=generator) < 0.02
    scores = (torch.randn(labels.shape, generator=generator) + labels).round(decimals=3)
    assert on_device.auroc(scores.cuda(), labels.cuda()) == auroc(scores.numpy(), labels.numpy())
    q = torch.randn(20, 12, 9, 9, generator=generator)
    torch.testing.assert_close(
        on_device.channel_ks(q.cuda()).cpu(), torch.from_numpy(channel_ks(q.numpy())), rtol=1e-9, atol=0
    )


def test_features_stay_on_the_gpu_and_are_what_it_computes_anew():
    images = torch.randint(256, (5, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    backbone = Backbone("resnet18.tv_in1k", [1, 2, 3], weights="random").to("cuda")
    options = {"batch_size": 2, "device": torch.device("cuda")}
    kept, anew = (FeatureMaps(backbone, images, memory_gb=gb, **options) for gb in (1.0, 0.0))
    assert kept.place == "kept on the GPU"
    rows = torch.tensor([3, 0, 4])
    assert all(torch.equal(a, b) for a, b in zip(kept.batch(rows), anew.batch(rows), strict=True))


@pytest.mark.parametrize("model", MODELS)
def test_a_run_follows_the_cpus_and_says_where_it_ran(tmp_path, model):
    found = {}
    for device in ("cuda", "cpu"):
        place = tmp_path / device
        place.mkdir()
        _, stderr = run(place, *TINY, *small(model), "dataset.image_size=64", "altub=alternating", f"device={device}")
        (folder,) = folders(place)
        found[device] = journal(folder)
        if device == "cuda":
            assert status(folder)["device"] == torch.cuda.get_device_name()
            assert "UserWarning" not in stderr
            if model == "fastflow":
                assert "kept on the GPU" in stderr
    for ours, theirs in zip(found["cuda"], found["cpu"], strict=True):
        assert ours.keys() == theirs.keys()
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-3, abs=1e-3)
        for name in {"pixel_auroc", "image_auroc", "ks", "ks_test_good"} & ours.keys():
            assert ours[name] == pytest.approx(theirs[name], abs=2e-3), name


def test_a_killed_run_goes_on_where_it_stood_and_a_seed_gives_the_same_numbers(tmp_path):
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    for place in (whole, torn):
        place.mkdir()
    run(whole, *ON_GPU, "altub=alternating")
    kill_behind_a_checkpoint(torn, *ON_GPU, "altub=alternating", "train.epochs=6")
    run(torn, *ON_GPU, "altub=alternating")
    for ours, theirs in zip(journal(folders(torn)[0]), journal(folders(whole)[0]), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-4)


def test_runs_share_a_gpu_and_a_trained_one_scores_on_either_device(tmp_path):
    pool = ["-m", "hydra/launcher=gpu_pool", "hydra.launcher.jobs_per_gpu=2", "hydra.launcher.poll_seconds=0.05"]
    run(tmp_path, *pool, *ON_GPU, "altub=none,alternating", seconds=300)
    histories, runs = recorded(tmp_path)
    assert sorted(histories) == ["alternating", "none"]
    assert {run.info.status for run in runs} == {"FINISHED"}
    folder = next(f for f in folders(tmp_path) if "alternating" in f.parts)
    image = str(next(tmp_path.glob("data/**/*.png")))
    tables = []
    for device in ("cuda", "cpu"):
        output = tmp_path / device
        run(tmp_path, str(folder), image, "--device", device, "--output", str(output), module="altub_exp.predict")
        with (output / "scores.csv").open() as file:
            tables.append([float(row["score"]) for row in csv.DictReader(file)])
    assert tables[0] == pytest.approx(tables[1], abs=1e-3)
