"""A frozen timm model as feature extractor."""

from __future__ import annotations

import contextlib
import functools
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor, nn

from altub_exp.errors import UserError, did_you_mean
from altub_exp.features.packaged import renamed, weights_file, weights_package
from altub_exp.features.passes import Passes
from altub_exp.machine.memory import collection_paused
from altub_exp.machine.precision import without_tf32
from altub_exp.machine.terminal import console

StateDict = Mapping[str, Tensor]


class Backbone(nn.Module):
    """Feature maps of the chosen stages of a timm model, by its ``forward_intermediates``; its parameters are constant.

    Prefix tokens of transformers (cls, dist) are dropped, and the others are laid out as maps.

    Args:
        name: timm's name of the model, with the tag of its weights.
        stages: indices of timm's intermediates: layer1 … layer3 of a ResNet are 1, 2, 3; those of a transformer are
            blocks.
        weights: ``pretrained`` (timm's, fetched once from the Hugging Face hub), ``random``, or a .safetensors or
            .pth file, or ``package:NAME`` (see :mod:`altub_exp.features.packaged`); ``mean``, ``std`` and
            ``pad_type`` in a file's metadata replace timm's.
        final_norm: True to apply the model's own final norm to the maps (transformers).
        extra_blocks: True to let the stages also count the blocks between (timm's option, of its EfficientNets).
        passes: sizes of the image, and pooling of the maps; it is rotated by
            :func:`~altub_exp.features.extraction.batch`.
        seed: seed of the random weights.

    Raises:
        UserError: there is no such model, stage or file, or the weights do not fit or cannot be fetched.
    """

    mean: Tensor
    std: Tensor
    model: Any  # timm's models share no base class beyond nn.Module

    def __init__(
        self,
        name: str,
        stages: Sequence[int],
        *,
        weights: str = "pretrained",
        final_norm: bool = False,
        extra_blocks: bool = False,
        passes: Passes | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        timm = timm_and_alexnet()
        self.name, self.stages, self.final_norm, self.passes = name, list(stages), final_norm, passes or Passes()
        self._blocks = {"extra_blocks": True} if extra_blocks else {}
        if not timm.is_model(name.split(".")[0]):
            raise UserError(f"timm has no model {name!r}{did_you_mean(name.split('.')[0], timm.list_models(), n=3)}.")
        metadata: dict[str, str] = {}
        state: StateDict = {}
        if (file := weights_file(weights)) is not None:
            state, metadata = read_weights(file)
        self.pad_type = metadata.get("pad_type")
        self.model = create(name, fetch=weights == "pretrained", seed=seed, pad_type=self.pad_type)
        if final_norm and not isinstance(getattr(self.model, "norm", None), nn.Module):
            raise UserError(f"{name} has no final norm of its own: set model.feature_norm=trainable.")
        if (package := weights_package(weights)) is not None:
            if package.model != name.split(".")[0]:
                raise UserError(f"backbone.weights={weights} is of {package.model}, not of backbone.name={name}.")
            state = renamed(state, self.model.state_dict())
        self._select_stages()
        if state:
            load_strictly(self.model, state, source=weights)
        cfg: dict[str, Any] = self.model.pretrained_cfg
        for statistic in ("mean", "std"):
            values = [float(v) for v in metadata[statistic].split(",")] if statistic in metadata else cfg[statistic]
            self.register_buffer(statistic, torch.tensor(values).view(1, 3, 1, 1))
        self.requires_grad_(False).eval()

    def _select_stages(self) -> None:
        """Drop the layers after the last stage; raise a UserError for stages that the model does not have."""
        try:
            self.model.prune_intermediate_layers(
                self.stages, prune_norm=not self.final_norm, prune_head=True, **self._blocks
            )
        except TypeError:
            raise UserError(f"{self.name} has no blocks between its stages: set backbone.extra_blocks=false.") from None
        except AttributeError:
            raise UserError(f"{self.name} gives no intermediate feature maps in this version of timm.") from None
        except (AssertionError, IndexError) as error:
            raise UserError(f"{self.name} has no stage of backbone.stages={self.stages}: {error}.") from None

    def train(self, mode: bool = True) -> Backbone:
        """Stay in evaluation mode, whatever the mode of the module around it: batch norm statistics are frozen too."""
        return super().train(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return one float32 map [B, C, H, W] per size and stage of uint8 images [B, 3, S, S], size by size.

        Raises:
            UserError: the model does not take images of these sizes.
        """
        if torch.compiler.is_compiling():  # an exported graph knows no modes
            return self._maps(images)
        try:
            with torch.inference_mode(), without_tf32():
                return self._maps(images)
        except (AssertionError, RuntimeError) as error:
            if "memory" in str(error):
                raise
            sizes = " and ".join(map(str, self.passes.sizes(images.shape[-1])))
            wanted = self.model.pretrained_cfg["input_size"][-1] * max(self.passes.divisors)
            raise UserError(
                f"{self.name} does not take images of {sizes} px ({str(error).rstrip('.')}): set "
                f"dataset.image_size={wanted}."
            ) from error

    def _maps(self, images: Tensor) -> list[Tensor]:
        x = (images.float() / 255 - self.mean) / self.std
        maps: list[Tensor] = []
        for size in self.passes.sizes(x.shape[-1]):
            resized = x if size == x.shape[-1] else F.interpolate(x, size=(size, size))  # nearest, as published
            maps += self.model.forward_intermediates(
                resized,
                indices=self.stages,
                norm=self.final_norm,
                stop_early=True,
                intermediates_only=True,
                **self._blocks,
            )
        if self.passes.halved:
            maps = [F.avg_pool2d(scale, kernel_size=3, stride=2, padding=1) for scale in maps]
        return [scale.mean(dim=(2, 3), keepdim=True) for scale in maps] if self.passes.pooled else maps


def timm_and_alexnet() -> Any:
    """Import timm, register AlexNet there, and return timm.

    This takes seconds, and a run whose features are all in the cache does not need it.
    """
    with collection_paused():
        import timm

        from altub_exp.features import alexnet  # noqa: F401
    return timm


OWN_TERMS = {
    "dinov3-license": "Meta's DINOv3 License (https://ai.meta.com/resources/models-and-libraries/dinov3-license)",
}
"""Licences of weights, by timm's names, that are written for one family of models."""


@functools.cache
def print_own_terms(name: str) -> None:
    """Print the licence of a model's weights, once in a process, if it is one of :data:`OWN_TERMS`."""
    if (terms := OWN_TERMS.get(licence(name))) is not None:
        text = f"The weights of {name} are under {terms}, which has terms of its own for use and redistribution"
        console.print(text, highlight=False, soft_wrap=True)


def licence(name: str) -> str:
    """Return timm's name of the licence of a model's weights; ``unknown`` if timm has none."""
    config = timm_and_alexnet().get_pretrained_cfg(name)
    return getattr(config, "license", None) or "unknown"


def create(name: str, *, fetch: bool, seed: int, pad_type: str | None = None) -> nn.Module:
    """Return the timm model without its classifier, with weights fetched or drawn from ``seed``."""
    timm = timm_and_alexnet()
    if fetch:
        print_own_terms(name)
    options: dict[str, Any] = {} if pad_type is None else {"pad_type": pad_type}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            with hub_offline_if_unreachable():
                model: nn.Module = timm.create_model(name, pretrained=fetch, num_classes=0, **options)
        except (OSError, RuntimeError, TypeError, ValueError) as error:
            if not fetch:
                raise UserError(f"timm cannot build {name}: {error}.") from error
            reason = str(error).strip().splitlines()[0].rstrip(".")
            cfg: Any = timm.get_pretrained_cfg(name)
            server = "the Hugging Face hub" if cfg is None or cfg.hf_hub_id else urlsplit(cfg.url).hostname
            raise UserError(
                f"The pretrained weights of {name} could not be fetched from {server} ({reason}): "
                "connect this machine once, or set backbone.weights to a .safetensors or .pth file of them "
                "(backbone.weights=random trains on untrained features)."
            ) from error
    return model


@contextlib.contextmanager
def hub_offline_if_unreachable() -> Iterator[None]:
    """If there is no network, look only in the hub's local cache; the hub's client would retry for 45 seconds."""
    from huggingface_hub import constants

    host = urlsplit(constants.ENDPOINT).hostname
    before = constants.HF_HUB_OFFLINE
    if not getproxies():  # a proxy resolves names itself
        try:
            socket.getaddrinfo(host, 443)
        except OSError:
            constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def read_weights(path: Path) -> tuple[StateDict, dict[str, str]]:
    """Return state dict and metadata of a .safetensors or .pth file; from a .pth file only plain tensors are read."""
    try:
        if path.suffix == ".safetensors":
            with safe_open(str(path), "pt") as file:
                return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
        state = torch.load(path, map_location="cpu", weights_only=True)
        for wrapping in ("state_dict", "model"):
            state = state.get(wrapping, state)
        return {key.removeprefix("module."): value for key, value in state.items()}, {}
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"backbone.weights={path} cannot be read as weights: {reason}.") from error


def load_strictly(model: nn.Module, state: StateDict, source: str) -> None:
    """Load the weights of the kept stages, whose keys and shapes must all match.

    The file may hold weights of stages and heads that were dropped, but no other keys.

    Raises:
        UserError: the weights do not match.
    """
    wanted = model.state_dict()
    missing = sorted(set(wanted) - set(state))
    misshapen = sorted(key for key in set(wanted) & set(state) if wanted[key].shape != state[key].shape)
    top = {key.split(".")[0] for key in wanted}
    unexpected = sorted(
        key for key in set(state) - set(wanted) if key.split(".")[0] in top and not _dropped(key, wanted)
    )
    for problem, names in (("lacks", missing), ("has another shape for", misshapen), ("has unknown", unexpected)):
        if names:
            shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
            raise UserError(f"{source} does not fit the backbone: it {problem} {len(names)} keys ({shown}).")
    model.load_state_dict({key: state[key] for key in wanted})


def _dropped(key: str, wanted: Mapping[str, Tensor]) -> bool:
    """True if a key belongs to a numbered block that was dropped, such as ``blocks.6.0.conv.weight``."""
    head, _, rest = key.partition(".")
    number = rest.split(".")[0]
    return number.isdigit() and not any(name.startswith(f"{head}.{number}.") for name in wanted)
