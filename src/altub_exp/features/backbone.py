"""A frozen timm model as feature extractor."""

from __future__ import annotations

import contextlib
import difflib
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch
from safetensors import safe_open
from torch import Tensor, nn

from altub_exp.errors import UserError
from altub_exp.machine.memory import collection_paused
from altub_exp.machine.precision import without_tf32

Weights = Mapping[str, Tensor]


class Backbone(nn.Module):
    """Images → feature maps of the chosen stages, by timm's ``forward_intermediates``; no parameter moves.

    Prefix tokens of transformers (cls, dist) are dropped and the rest laid out as maps.

    Args:
        name: timm model name, with the tag of its weights.
        stages: indices of timm's intermediates: 1, 2, 3 of a ResNet are layer1 … layer3; of a transformer, blocks.
        weights: ``pretrained`` (timm's, fetched once from the Hugging Face hub), ``random``, or a .safetensors or
            .pth file, whose metadata ``mean``, ``std`` and ``pad_type`` are honoured where it has them.
        final_norm: send the maps through the model's own final norm (transformers).
        seed: of the random weights.

    Raises:
        UserError: no such model, stage or file; weights that do not fit or cannot be fetched.
    """

    mean: Tensor
    std: Tensor
    model: Any  # timm's models share no base class beyond nn.Module

    def __init__(
        self, name: str, stages: Sequence[int], *, weights: str = "pretrained", final_norm: bool = False, seed: int = 0
    ) -> None:
        super().__init__()
        with collection_paused():
            import timm  # here: seconds, which a run with all of its features in the cache does not need

        self.name, self.stages, self.final_norm = name, list(stages), final_norm
        if not timm.is_model(name.split(".")[0]):
            close = difflib.get_close_matches(name.split(".")[0], timm.list_models(), n=3)
            raise UserError(
                f"timm has no model {name!r}{': did you mean ' + ' or '.join(close) + '?' if close else '.'}"
            )
        metadata: dict[str, str] = {}
        state: Weights = {}
        if weights not in ("pretrained", "random"):
            state, metadata = read_weights(Path(weights).expanduser())
        self.model = create(name, fetch=weights == "pretrained", seed=seed, pad_type=metadata.get("pad_type"))
        if final_norm and not isinstance(getattr(self.model, "norm", None), nn.Module):
            raise UserError(f"{name} has no final norm of its own: set model.feature_norm=trainable.")
        self._select_stages()
        if state:
            load_strictly(self.model, state, source=weights)
        cfg: dict[str, Any] = self.model.pretrained_cfg
        for statistic in ("mean", "std"):
            values = [float(v) for v in metadata[statistic].split(",")] if statistic in metadata else cfg[statistic]
            self.register_buffer(statistic, torch.tensor(values).view(1, 3, 1, 1))
        self.requires_grad_(False).eval()

    def _select_stages(self) -> None:
        """Drop what lies behind the last stage; complain about stages that the model does not have."""
        try:
            self.model.prune_intermediate_layers(self.stages, prune_norm=not self.final_norm, prune_head=True)
        except AttributeError:
            raise UserError(f"{self.name} gives no intermediate feature maps in this version of timm.") from None
        except (AssertionError, IndexError) as error:
            raise UserError(f"{self.name} has no stage of backbone.stages={self.stages}: {error}.") from None

    def train(self, mode: bool = True) -> Backbone:
        """Stay in evaluation mode, whatever the module around it does: batch norm statistics are frozen too."""
        return super().train(False)

    @torch.inference_mode()
    def forward(self, images: Tensor) -> list[Tensor]:
        """uint8 images [B, 3, S, S] → one float32 map [B, C, H, W] per stage.

        Raises:
            UserError: the model does not take images of this size.
        """
        x = (images.float() / 255 - self.mean) / self.std
        try:
            with without_tf32():
                maps = self.model.forward_intermediates(
                    x, indices=self.stages, norm=self.final_norm, stop_early=True, intermediates_only=True
                )
        except (AssertionError, RuntimeError) as error:
            if "memory" in str(error):
                raise
            size = images.shape[-1]
            wanted = self.model.pretrained_cfg["input_size"][-1]
            raise UserError(
                f"{self.name} does not take images of {size} px ({str(error).rstrip('.')}): set "
                f"dataset.image_size={wanted}."
            ) from error
        return list(maps)


def create(name: str, *, fetch: bool, seed: int, pad_type: str | None = None) -> nn.Module:
    """The timm model without its classifier, with weights fetched or drawn from ``seed``."""
    import timm

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
            raise UserError(
                f"The pretrained weights of {name} could not be fetched from the Hugging Face hub ({reason}): "
                "connect this machine once, or set backbone.weights to a .safetensors or .pth file of them "
                "(backbone.weights=random trains on untrained features)."
            ) from error
    return model


@contextlib.contextmanager
def hub_offline_if_unreachable() -> Iterator[None]:
    """Without a network, look only in the hub's local cache instead of retrying for three quarters of a minute."""
    from huggingface_hub import constants

    host = urlsplit(constants.ENDPOINT).hostname
    before = constants.HF_HUB_OFFLINE
    if not getproxies():  # behind a proxy, names need not resolve here
        try:
            socket.getaddrinfo(host, 443)
        except OSError:
            constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def read_weights(path: Path) -> tuple[Weights, dict[str, str]]:
    """State dict and metadata of a .safetensors or .pth file; .pth files are read as plain tensors only."""
    if not path.is_file():
        raise UserError(f"backbone.weights={path} is no file: give pretrained, random, or an existing weights file.")
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


def load_strictly(model: nn.Module, state: Weights, source: str) -> None:
    """Load what the kept stages need; every one of their keys must be there in its shape.

    Keys of the file that belong to stages or heads that were dropped do not matter; others are an error.
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
    """Whether a key belongs to a numbered block that was dropped, such as ``blocks.6.0.conv.weight``."""
    head, _, rest = key.partition(".")
    number = rest.split(".")[0]
    return number.isdigit() and not any(name.startswith(f"{head}.{number}.") for name in wanted)
