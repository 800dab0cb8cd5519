"""Rivals as anomalib itself computes them, in the environment that `make rivals` makes."""

import json
import subprocess

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from altub_exp.config.rivals import VERSION
from altub_exp.detector.worker import SCRIPT
from altub_exp.features.backbone import Backbone
from tests.commandline import ROOT, folders, journal, run, status

PYTHON = ROOT / ".venv-rivals" / "bin" / "python"
pytestmark = [
    pytest.mark.rivals,
    pytest.mark.skipif(not PYTHON.exists(), reason="no environment with anomalib: make rivals"),
]
IMAGES = [
    "dataset=synthetic",
    "dataset.category=fabric",
    "dataset.size=96",
    "dataset.train_images=12",
    "dataset.good_images=6",
    "dataset.defect_images=3",
    "threads=1",
    "device=cpu",
    "model.timed_images=2",
    f"model.python={PYTHON}",
]

FEATURES = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import numpy as np
import torch
from anomalib.models.components import TimmFeatureExtractor
from anomalib_worker import FrozenBackbone
from safetensors.torch import load_file

folder = Path(sys.argv[1])
job = json.loads((folder / "job.json").read_text())
images = torch.from_numpy(np.load(folder / "images.npy")).float() / 255
ours = FrozenBackbone(job, folder / "backbone.safetensors")(images)
theirs = TimmFeatureExtractor(job["backbone"], ["layer2", "layer3"], pre_trained=False)
theirs.feature_extractor.load_state_dict(load_file(folder / "backbone.safetensors"))
mean, std = (torch.tensor(job[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
maps = theirs((images - mean) / std)
np.savez(folder / "maps.npz", ours2=ours[2], ours3=ours[3], theirs2=maps["layer2"], theirs3=maps["layer3"])
"""

DEFAULTS = """
import inspect, json
from anomalib.models import Draem, Patchcore
from anomalib.models.image.draem.torch_model import DraemModel

draem = Draem.__new__(Draem)
torch_module = __import__("torch").nn.Module
torch_module.__init__(draem)
draem.model = DraemModel()
(optimizer,), (schedule,) = draem.configure_optimizers()
known = {name: parameter.default for name, parameter in inspect.signature(Patchcore.__init__).parameters.items()}
keys = ("backbone", "layers", "coreset_sampling_ratio", "num_neighbors")
group = optimizer.param_groups[0]
print(json.dumps([{key: group[key] for key in ("lr", "betas", "eps", "weight_decay")}, dict(schedule.milestones),
                  schedule.gamma, {key: known[key] for key in keys}]))
"""


def test_the_features_are_the_programs_own_and_anomalibs_extractors(tmp_path):
    backbone = Backbone("resnet18", [2, 3], weights="random", seed=3)
    images = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    save_file(
        {key: value.contiguous() for key, value in backbone.model.state_dict().items()},
        tmp_path / "backbone.safetensors",
    )
    np.save(tmp_path / "images.npy", images.numpy())
    statistics = {name: getattr(backbone, name).flatten().tolist() for name in ("mean", "std")}
    job = {"backbone": "resnet18", "stages": [2, 3], "pad_type": None, **statistics}
    (tmp_path / "job.json").write_text(json.dumps(job))
    words = [PYTHON, "-W", "ignore", "-c", FEATURES, tmp_path, SCRIPT.parent]
    subprocess.run(words, check=True, cwd=tmp_path, timeout=300)
    maps = np.load(tmp_path / "maps.npz")
    for stage, own in zip((2, 3), backbone(images), strict=True):
        for side in ("ours", "theirs"):
            assert own.std() > 0.01
            np.testing.assert_allclose(maps[f"{side}{stage}"], own.numpy(), atol=1e-5, rtol=1e-5)


def test_the_published_defaults_are_anomalibs(compose):
    words = [PYTHON, "-W", "ignore", "-c", DEFAULTS]
    done = subprocess.run(words, check=True, capture_output=True, text=True, timeout=300)
    adam, milestones, gamma, patchcore = json.loads(done.stdout.splitlines()[-1])
    train = compose("model=draem", "dataset.category=screw").train
    assert adam == {key: getattr(train, key) for key in ("lr", "betas", "eps", "weight_decay")}
    assert (milestones, gamma) == ({"400": 1, "600": 1}, 0.1)
    config = compose("experiment=patchcore-wrn50", "dataset.category=screw")
    assert patchcore == {
        "backbone": config.backbone.name.partition(".")[0],
        "layers": [f"layer{stage}" for stage in config.backbone.stages],
        "coreset_sampling_ratio": config.model.coreset_ratio,
        "num_neighbors": config.model.neighbours,
    }


def test_patchcore_finds_the_drawn_defects_and_repeats_its_numbers(tmp_path):
    words = ["model=patchcore", "backbone=lite0", "dataset.image_size=96", "tracking.experiment=demo", *IMAGES]
    run(tmp_path, *words)
    (folder,) = folders(tmp_path)
    (row,) = journal(folder)
    assert row["pixel_auroc"] > 0.8
    assert status(folder)["versions"]["anomalib"] == VERSION
    run(tmp_path, *words, "resume=never")
    assert [journal(each) for each in folders(tmp_path)] == [[row], [row]]


@pytest.mark.parametrize("sspcab", ["false", "true"])
def test_draem_trains(tmp_path, sspcab):
    run(tmp_path, "model=draem", f"model.sspcab={sspcab}", "train.epochs=3", "dataset.image_size=32", *IMAGES)
    (folder,) = folders(tmp_path)
    losses = [row["loss"] for row in journal(folder)]
    assert len(losses) == 3
    assert losses[2] < losses[0]
    assert {"inference_ms", "inference_mb", "pixel_auroc_std"} <= status(folder)["summary"].keys()


def test_textures_are_images_of_a_folder(tmp_path):
    (tmp_path / "textures").mkdir()
    words = ["model=draem", "model.textures=textures", "train.epochs=1", "dataset.image_size=32", *IMAGES]
    _, stderr = run(tmp_path, *words, expect=1)
    assert "textures holds no image" in stderr
