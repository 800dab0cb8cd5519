"""The feature maps of a set of images: computed once and kept where they fit in memory, else recomputed per batch."""

from __future__ import annotations

import torch
from torch import Tensor

from altub_exp.features.backbone import Backbone


class FeatureMaps:
    """Feature maps by image index.

    The backbone is frozen and nothing is augmented, so that the maps are constants of a run.

    Args:
        backbone: on ``device`` already.
        images: uint8 [N, 3, S, S] on the CPU.
        batch_size: images per pass through the backbone.
        device: where batches are wanted.
        memory_gb: maps of up to this many GiB are kept (on the CPU); larger ones are recomputed by :meth:`batch`.
    """

    def __init__(
        self, backbone: Backbone, images: Tensor, *, batch_size: int, device: torch.device, memory_gb: float
    ) -> None:
        self._backbone, self._batch_size, self._device, self._count = backbone, batch_size, device, len(images)
        first = [maps.cpu() for maps in backbone(images[:1].to(device))]
        self.shapes: list[tuple[int, int, int]] = [(m.shape[1], m.shape[2], m.shape[3]) for m in first]
        self.gib = len(images) * sum(m.nbytes for m in first) / 2**30
        self._kept: list[Tensor] | None = None
        self._images = images
        if self.gib <= memory_gb:
            self._kept = [torch.empty(len(images), *shape) for shape in self.shapes]
            for rows in torch.split(torch.arange(len(images)), batch_size):
                for kept, maps in zip(self._kept, backbone(images[rows].to(device)), strict=True):
                    kept[rows] = maps.cpu()
            self._images = images[:0]  # not needed any more

    def __len__(self) -> int:
        return self._count

    @property
    def kept(self) -> bool:
        """Whether the maps are held in memory."""
        return self._kept is not None

    def batch(self, rows: Tensor) -> list[Tensor]:
        """Maps [B, C, H, W] per scale of the images ``rows`` [B], on the device; plain tensors, usable in autograd."""
        if self._kept is not None:
            return [kept[rows].to(self._device) for kept in self._kept]
        return [maps.clone() for maps in self._backbone(self._images[rows].to(self._device))]

    def batches(self, order: Tensor | None = None) -> list[Tensor]:
        """Indices [B] batch by batch, in the given order or as the images stand."""
        order = torch.arange(len(self)) if order is None else order
        return list(torch.split(order, self._batch_size))
