"""The process that computes a rival by anomalib's own code, on requests of :class:`altub_exp.detector.worker.Worker`.

It runs in the environment of anomalib, without this program, of which it reads ``single_images.py`` alone. A request is
a line of JSON on its standard input, the answer one on its standard output; arrays are files in the folder that its
argument names. All other output goes to standard error.

| request                              | answer                                                                      |
|--------------------------------------|-----------------------------------------------------------------------------|
| (none: the process has started)      | versions by package                                                         |
| ``{"do": "build", "model": …, …}``   | {}; it reads ``train.npy``, ``test.npy``, uint8 [N, 3, S, S]                |
| ``{"do": "train", "epoch": 1}``      | the mean losses over the images                                             |
| ``{"do": "score"}``                  | {}; it writes ``maps.npy`` [N, S, S] and ``scores.npy`` [N], float32        |
| ``{"do": "measure", "images": 20}``  | the cost of single images, each from its pixels to its map                  |

After an error the answer is ``{"error": …}``, and the process ends.
"""

from __future__ import annotations

import ctypes
import functools
import json
import os
import random
import runpy
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

SINGLE_IMAGES = Path(__file__).with_name("single_images.py")

SET_PDEATHSIG = 1
"""Linux's prctl: the signal that a process gets when its parent ends."""

Job = Mapping[str, Any]
Make = Callable[[Job, Path, torch.device], "Rival"]


class Rival(Protocol):
    """A system of anomalib.

    Attributes:
        model: all that it scores images with.
    """

    model: nn.Module

    def train(self, images: Callable[[Tensor], Tensor], order: Tensor, epoch: int) -> dict[str, float]:
        """Train on the images of ``order`` once; ``images(rows)`` returns [B, 3, S, S] from 0 to 1.

        Returns:
            The mean losses over the images; {} without any.
        """

    def score(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return maps, B·S·S values, and scores [B] of images [B, 3, S, S] from 0 to 1."""


class FrozenBackbone(nn.Module):
    """The feature maps of a timm model by its stages, with the weights of a file, for PatchCore's feature extractor.

    Args:
        job: timm's ``backbone``, its ``stages``, ``mean`` and ``std`` of the pixels, and ``pad_type`` or None.
        weights: the .safetensors file; its keys are those of the model, all of them and no others.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, job: Job, weights: Path) -> None:
        super().__init__()
        import timm
        from safetensors.torch import load_file

        options = {} if job["pad_type"] is None else {"pad_type": job["pad_type"]}
        self.stages: list[int] = job["stages"]
        self.model = timm.create_model(job["backbone"], pretrained=False, num_classes=0, **options)
        self.model.prune_intermediate_layers(self.stages, prune_norm=True, prune_head=True)
        self.model.load_state_dict(load_file(weights))
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(job[name]).view(1, 3, 1, 1))
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> FrozenBackbone:
        """Stay in evaluation mode: the statistics of batch norms are frozen too."""
        return super().train(False)

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        """Return one map [B, C, H, W] per stage of images from 0 to 1."""
        x = (images - self.mean) / self.std
        maps = self.model.forward_intermediates(x, indices=self.stages, stop_early=True, intermediates_only=True)
        return dict(zip(self.stages, maps, strict=True))


class PatchCore:
    """anomalib's PatchCore on a given backbone."""

    def __init__(self, job: Job, folder: Path, device: torch.device) -> None:
        from anomalib.models.image.patchcore.torch_model import PatchcoreModel

        # anomalib fetches pretrained weights, or draws random ones; its extractor is replaced by one with given weights
        self.model = PatchcoreModel(["layer1"], "resnet18", pre_trained=False, num_neighbors=job["neighbours"])
        self.model.layers = job["stages"]
        self.model.feature_extractor = FrozenBackbone(job, folder / "backbone.safetensors")
        self.model.to(device)
        self._ratio, self._batch_size = job["coreset_ratio"], job["batch_size"]

    def train(self, images: Callable[[Tensor], Tensor], order: Tensor, epoch: int) -> dict[str, float]:
        """Collect the patch features of all images, and keep a coreset of them; there is no loss."""
        self.model.train()
        with torch.no_grad():
            for rows in torch.split(order.sort().values, self._batch_size):
                self.model(images(rows))
            self.model.subsample_embedding(self._ratio)
        self.model.eval()
        return {}

    def score(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return maps and scores."""
        prediction = self.model(images)
        return prediction.anomaly_map, prediction.pred_score


class Draem:
    """anomalib's DRAEM with its optimizer, its schedule and its simulated defects."""

    def __init__(self, job: Job, folder: Path, device: torch.device) -> None:
        from anomalib.data import ImageBatch
        from anomalib.models.image.draem.lightning_model import Draem as Lightning

        textures = Path(job["textures"]) if job["textures"] else folder / "no-textures"
        textures.mkdir(exist_ok=True)  # anomalib downloads textures into a folder that does not exist
        parts = dict.fromkeys(("pre_processor", "post_processor", "evaluator", "visualizer"), False)
        self._lightning = Lightning(dtd_dir=textures, enable_sspcab=job["sspcab"], **parts).to(device)
        self.model = self._lightning.model
        if job["textures"] and not self._lightning.augmenter.anomaly_source_paths:
            raise ValueError(f"{textures} holds no image")
        self._lightning.log = lambda *_, **__: None  # there is no trainer that it could report to
        (self._optimizer,), (self._schedule,) = self._lightning.configure_optimizers()
        self._batch, self._batch_size = ImageBatch, job["batch_size"]

    def train(self, images: Callable[[Tensor], Tensor], order: Tensor, epoch: int) -> dict[str, float]:
        """Train on all images once."""
        self._lightning.train()
        total = 0.0
        for rows in torch.split(order, self._batch_size):
            loss = self._lightning.training_step(self._batch(image=images(rows)))["loss"]
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
            total += loss.item() * len(rows)
        self._schedule.step()
        self._lightning.eval()
        return {"loss": total / len(order)}

    def score(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return maps and scores."""
        prediction = self.model(images)
        return prediction.anomaly_map, prediction.pred_score


RIVALS: dict[str, Make] = {"patchcore": PatchCore, "draem": Draem}


class Server:
    """Answers requests by a rival.

    Args:
        folder: the folder of the arrays.
        rivals: the systems by name.
    """

    def __init__(self, folder: Path, rivals: Mapping[str, Make]) -> None:
        self._folder, self._rivals = folder, rivals

    def answer(self, request: Job) -> dict[str, Any]:
        """Do what a request names, and return the answer."""
        work: dict[str, Callable[[Job], dict[str, Any]]] = {
            "build": self._build,
            "train": self._train,
            "score": self._score,
            "measure": self._measure,
        }
        return work[request["do"]](request)

    def _build(self, job: Job) -> dict[str, Any]:
        torch.set_num_threads(job["threads"])
        random.seed(job["seed"])
        np.random.seed(job["seed"])  # noqa: NPY002
        torch.manual_seed(job["seed"])
        self._seed, self._batch_size, self._device = job["seed"], job["batch_size"], torch.device(job["device"])
        self._train_images, self._test_images = (
            np.load(self._folder / f"{name}.npy", mmap_mode="r") for name in ("train", "test")
        )
        self._rival = self._rivals[job["model"]](job, self._folder, self._device)
        return {}

    def _train(self, request: Job) -> dict[str, Any]:
        def images(rows: Tensor) -> Tensor:
            return self._on_device(self._train_images[rows.numpy()])

        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + request["epoch"])
        order = torch.randperm(len(self._train_images), generator=generator)
        return dict(self._rival.train(images, order, request["epoch"]))

    @torch.no_grad()
    def _score(self, request: Job) -> dict[str, Any]:
        count, _, height, width = self._test_images.shape
        maps, scores = np.empty((count, height, width), np.float32), np.empty(count, np.float32)
        for first in range(0, count, self._batch_size):
            rows = slice(first, first + self._batch_size)
            of_pixels, of_images = self._rival.score(self._on_device(self._test_images[rows]))
            maps[rows], scores[rows] = of_pixels.view(-1, height, width).cpu(), of_images.cpu()
        np.save(self._folder / "maps.npy", maps)
        np.save(self._folder / "scores.npy", scores)
        return {}

    @torch.no_grad()
    def _measure(self, request: Job) -> dict[str, Any]:
        image = np.random.default_rng(0).integers(256, size=self._test_images[:1].shape, dtype=np.uint8)

        def score() -> Tensor:
            return self._rival.score(self._on_device(image))[0].cpu()  # on CUDA, copying waits for all kernels

        measure = runpy.run_path(str(SINGLE_IMAGES))["cost_of_single_images"]
        return dict(measure(score, [self._rival.model], request["images"]))

    def _on_device(self, images: np.ndarray[Any, Any]) -> Tensor:
        return torch.from_numpy(np.array(images)).to(self._device).float() / 255


def versions() -> dict[str, str]:
    """Import anomalib, and return its version."""
    import anomalib

    return {"anomalib": anomalib.__version__}


def serve(hello: Callable[[], dict[str, str]], rivals: Mapping[str, Make]) -> None:
    """Answer requests until standard input ends.

    Args:
        hello: imports the packages that compute the systems, and returns their versions.
        rivals: the systems by name.
    """
    ctypes.CDLL(None).prctl(SET_PDEATHSIG, signal.SIGKILL)  # a parent that is killed cannot end it
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr

    def reply(work: Callable[[], Mapping[str, Any]]) -> None:
        try:
            answer = work()
        except Exception as error:  # whatever the libraries raise
            traceback.print_exc()
            first = (str(error).strip().splitlines() or [""])[0]
            answer = {"error": f"{type(error).__name__}: {first}".rstrip(": .")}
        print(json.dumps(answer), file=answers, flush=True)
        if "error" in answer:
            sys.exit(1)

    reply(hello)
    server = Server(Path(sys.argv[1]), rivals)
    for line in sys.stdin:
        reply(functools.partial(server.answer, json.loads(line)))


if __name__ == "__main__":
    serve(versions, RIVALS)
