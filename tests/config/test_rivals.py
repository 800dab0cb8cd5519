"""Rivals in the configuration: the options that only flows have are refused, and the version is the locked one."""

import tomllib

import pytest

from altub_exp.config.check import check
from altub_exp.config.rivals import PACKAGE, VERSION
from altub_exp.errors import UserError
from altub_exp.runs.identity import run_path
from tests.commandline import ROOT

PATCHCORE = ["model=patchcore", "dataset.category=screw", "backbone=lite0"]
DRAEM = ["model=draem", "dataset.category=screw"]


def test_patchcore_reads_the_levels_that_flows_share_and_learns_no_base(compose):
    config = compose(*PATCHCORE)
    check(config)
    assert (config.backbone.stages, config.altub.name, config.train.epochs) == ([2, 3], "none", 1)
    assert (config.model.coreset_ratio, config.model.neighbours) == (0.1, 9)
    assert compose("model=patchcore", "dataset.category=screw", "backbone=deit").backbone.stages == [7]
    published = compose("experiment=patchcore-wrn50", "dataset.category=screw")
    assert (published.backbone.name, published.backbone.stages) == ("wide_resnet50_2.tv_in1k", [2, 3])
    assert published.dataset.image_size == 256


def test_draem_has_no_backbone_and_sspcab_is_a_recipe(compose):
    config = compose(*DRAEM)
    check(config)
    assert (config.backbone.key, config.altub.name, config.dataset.image_size) == ("none", "none", 256)
    assert (config.train.epochs, config.eval.first_epoch, config.train.batch_size) == (700, 233, 8)
    sspcab = compose("experiment=draem-sspcab", "dataset.category=screw")
    assert (config.model.sspcab, sspcab.model.sspcab) == (False, True)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            [*PATCHCORE, "altub=alternating"],
            "altub=alternating learns the base distribution of a flow, and model=pa",
        ),
        ([*DRAEM, "altub=fitted"], "altub=fitted learns the base distribution of a flow, and model=draem has none"),
        ([*DRAEM, "backbone=r18"], "model=draem has no backbone, so backbone=r18 has no effect: leave it out."),
        ([*PATCHCORE, "backbone=none"], "model=patchcore needs a backbone, and backbone=none is none: choose another."),
        (["dataset.category=screw", "backbone=none"], "model=fastflow needs a backbone, and backbone=none is none"),
        ([*PATCHCORE, "train.epochs=2"], "train.epochs=2 has no effect on model=patchcore"),
        ([*PATCHCORE, "model.protocol.lr=0.1"], "train.lr=0.1 has no effect on model=patchcore"),
        ([*DRAEM, "train.lr=1e-3"], "train.lr=0.001 has no effect on model=draem, for which anomalib sets it itself"),
        ([*DRAEM, "precision=bf16"], "precision=bf16 is an option of flows, which model=draem does not have: leave it"),
        ([*DRAEM, "eval.fitted=true"], "eval.fitted=True is an option of flows"),
        ([*DRAEM, "dataset.tiles=1x2"], "dataset.tiles=1x2 is an option of flows"),
        ([*DRAEM, "dataset.keep_aspect=true"], "dataset.keep_aspect=True is an option of flows"),
        ([*DRAEM, "dataset.rotation=5"], "dataset.rotation=5.0 is an option of flows"),
        ([*PATCHCORE, "model.feature_norm=pretrained"], "model.feature_norm=pretrained is an option of flows"),
        (
            [*DRAEM, "dataset.image_size=100"],
            "is no multiple of 32, and model=draem halves its maps 5 times: give ",
        ),
        ([*DRAEM, "model.textures=nowhere"], "model.textures=nowhere is not a folder: give one of images, or null"),
    ],
)
def test_options_that_a_rival_does_not_have_are_refused(compose, arguments, sentence):
    with pytest.raises(UserError) as refusal:
        check(compose(*arguments))
    assert sentence in str(refusal.value)


def test_the_place_of_the_environment_and_the_timing_change_no_identity(compose):
    paths = {run_path(compose(*PATCHCORE, *words), "") for words in ([], ["model.python=a"], ["model.timed_images=0"])}
    assert len(paths) == 1
    assert run_path(compose(*PATCHCORE, "model.coreset_ratio=0.01"), "") not in paths


def test_environment_lock_and_program_name_one_version():
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    assert groups["rivals"] == [f"{PACKAGE}=={VERSION}"]
    lines = (ROOT / "rivals.lock").read_text().splitlines()
    assert f"{PACKAGE}=={VERSION} \\" in lines
    ours = (ROOT / "requirements.lock").read_text().splitlines()
    for package in ("torch", "torchvision", "timm", "numpy", "safetensors"):
        pins = [line for line in lines if line.startswith(f"{package}==")]
        assert pins
        assert pins == [line for line in ours if line.startswith(f"{package}==")], package
    assert "://" not in "".join(lines)
    packages = [line for line in lines if not line.startswith(" ")]
    assert all("==" in line and line.endswith("\\") for line in packages), "each has a version and hashes"
