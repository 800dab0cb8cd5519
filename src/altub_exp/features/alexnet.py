"""AlexNet for timm, which has none: torchvision's layers and weights, under timm's name ``alexnet.tv_in1k``.

Source: Krizhevsky 2014, https://arxiv.org/abs/1404.5997, the network of DifferNet (https://arxiv.org/abs/2008.12577).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}

default_cfgs = generate_default_cfgs(
    {
        "alexnet.tv_in1k": {
            "url": "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
            "input_size": (3, 224, 224),
            "num_classes": 0,
            **IMAGENET,
        }
    }
)


class AlexNet(nn.Module):
    """The convolutional part of AlexNet; its stages 0, 1, 2 end with the three max poolings."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        from torchvision.models import AlexNet as Published

        with torch.device("meta"):  # the classifier, 94 % of the parameters, is never made
            layers = Published().features
        self.features: nn.Sequential = layers.to_empty(device="cpu")
        for layer in self.features:
            if isinstance(layer, nn.Conv2d):
                layer.reset_parameters()

    @property
    def stage_ends(self) -> list[int]:
        """The number of layers up to the end of each stage."""
        return [number for number, layer in enumerate(self.features, 1) if isinstance(layer, nn.MaxPool2d)]

    def prune_intermediate_layers(self, indices: Sequence[int], **options: bool) -> None:
        """Drop the layers after the last of these stages; raise an IndexError if there is no such stage."""
        self.features = self.features[: self.stage_ends[max(indices)]]

    def forward_intermediates(self, x: Tensor, indices: Sequence[int], **options: bool) -> list[Tensor]:
        """Return the maps of the stages of images [B, 3, H, W]."""
        maps, begin = [], 0
        for end in self.stage_ends:
            x = self.features[begin:end](x)
            maps.append(x)
            begin = end
        return [maps[index] for index in indices]


def _convolutional(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if key.startswith("features.")}


@register_model  # type: ignore[untyped-decorator]  # timm has no types
def alexnet(pretrained: bool = False, **options: Any) -> AlexNet:
    """Make the model for :func:`timm.create_model`."""
    made = build_model_with_cfg(AlexNet, "alexnet", pretrained, pretrained_filter_fn=_convolutional, **options)
    return cast("AlexNet", made)
