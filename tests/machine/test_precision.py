"""The precision of the flow: its effects, their limits, and devices without it."""

import pytest
import torch
from omegaconf import OmegaConf

from altub_exp.config.schema import Device, Precision
from altub_exp.detector.assembly import build_density
from altub_exp.errors import UserError
from altub_exp.features.backbone import Backbone
from altub_exp.machine.device import prepare_device, seed_everything
from altub_exp.machine.precision import allow_tf32, without_tf32
from altub_exp.method.density import negative_log_likelihood
from tests.commandline import TINY, folders, journal, run

SHAPES = [(8, 8, 8), (16, 4, 4)]
FEW = ["train.epochs=2", "eval.ks_every=0"]


def density_of(compose, *overrides):
    seed_everything(1)
    config = compose("dataset.category=bottle", "model.steps=2", *overrides)
    return build_density(config, SHAPES)


@pytest.mark.parametrize("model", ["fastflow", "cflow", "csflow", "differnet", "msflow"])
@pytest.mark.parametrize("altub", ["none", "alternating", "cnn"])
def test_bf16_rounds_the_subnets_alone(compose, model, altub):
    options = [f"model={model}", f"altub={altub}"] + ["model.hidden_channels=8"] * (model == "csflow")
    options += ["model.hidden_features=16"] * (model == "differnet")
    generator = torch.Generator().manual_seed(2)
    features = [torch.randn(3, *shape, generator=generator) for shape in SHAPES]
    results = []
    for precision in ("float32", "bf16"):
        density = density_of(compose, *options, f"precision={precision}")
        with torch.no_grad():
            for name, parameter in density.named_parameters():
                if "gamma" in name:
                    parameter.fill_(0.5)
        units = density(features)
        assert all(part.dtype == torch.float32 for one in units for part in one)
        loss = negative_log_likelihood(units)
        loss.backward()
        gradients = [p.grad for p in density.parameters() if p.requires_grad and p.grad is not None]
        assert all(gradient.dtype == torch.float32 for gradient in gradients)
        results.append((units, loss))
    (exact, loss), (rounded, rounded_loss) = results
    for ours, theirs in zip(exact, rounded, strict=True):
        assert not torch.equal(ours.q, theirs.q)
        # a subnet's output enters by a tenth: a latent rounded to bf16 itself would be 2e-3 off, relatively;
        # that of MSFlow's fusion enters whole
        torch.testing.assert_close(theirs.q, ours.q, rtol=0, atol=3e-2 if model == "msflow" else 5e-3)
    assert abs(loss - rounded_loss) / sum(units.q[0].numel() for units in exact) < 1e-3


@pytest.mark.slow
def test_bf16_is_a_run_of_its_own_and_float32_has_the_name_it_always_had(tmp_path):
    for precision in ("float32", "bf16"):
        run(tmp_path, *TINY, *FEW, "altub=none", f"precision={precision}")
    found = {OmegaConf.load(folder / "config.yaml").precision: folder for folder in folders(tmp_path)}
    assert sorted(found) == ["bf16", "float32"]
    exact, rounded = (journal(found[precision]) for precision in ("float32", "bf16"))
    for ours, theirs in zip(exact, rounded, strict=True):
        assert ours["loss"] != theirs["loss"]
        assert theirs["loss"] == pytest.approx(ours["loss"], abs=2e-3)
    run(tmp_path, str(found["bf16"]), str(next(tmp_path.glob("data/**/*.png"))), module="altub_exp.predict")


def test_tf32_on_a_cpu_is_one_sentence(tmp_path):
    _, stderr = run(tmp_path, *TINY, "device=cpu", "precision=tf32", expect=1)
    assert "precision=tf32 has no effect on a CPU: set precision=float32" in stderr
    assert "Traceback" not in stderr
    with pytest.raises(UserError, match="precision=tf32"):
        prepare_device(Device.cpu, precision=Precision.tf32)


def test_the_backbone_computes_without_tf32_and_leaves_it_as_it_was(monkeypatch):
    seen = []
    backbone = Backbone("resnet18.tv_in1k", [1], weights="random")
    original = backbone.model.forward_intermediates

    def spy(*arguments, **options):
        seen.append((torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32))
        return original(*arguments, **options)

    monkeypatch.setattr(backbone.model, "forward_intermediates", spy)
    try:
        for allowed in (True, False):
            allow_tf32(allowed)
            backbone(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
            assert torch.backends.cudnn.allow_tf32 is torch.backends.cuda.matmul.allow_tf32 is allowed
            with without_tf32():
                assert not torch.backends.cuda.matmul.allow_tf32
            assert torch.backends.cudnn.allow_tf32 is allowed
        assert seen == [(False, False)] * 2
    finally:
        allow_tf32(False)
