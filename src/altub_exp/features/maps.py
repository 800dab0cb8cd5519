"""The feature maps of a set of images: computed once and kept where they fit in memory, else recomputed per batch."""

from __future__ import annotations

import torch
from torch import Tensor

from altub_exp.data.images import rotate
from altub_exp.features.backbone import Backbone

PIXELS_AT_ONCE = 2**21  # 32 images of 256 px in one pass through the backbone, 8 of 512 px: bounds its memory


class FeatureMaps:
    """Feature maps by image index.

    The backbone is frozen, so that the maps of images that are not augmented are constants of a run.

    Args:
        backbone: on ``device`` already.
        images: uint8 [N, 3, S, S] on the CPU.
        batch_size: images per batch.
        device: where batches are wanted.
        memory_gb: maps of up to this many GiB are kept (on the CPU); larger ones are recomputed by :meth:`batch`.
        rotation: images are turned by up to this many degrees in :meth:`augmented`; their maps are never kept.
    """

    def __init__(
        self,
        backbone: Backbone,
        images: Tensor,
        *,
        batch_size: int,
        device: torch.device,
        memory_gb: float,
        rotation: float = 0.0,
    ) -> None:
        self._backbone, self._batch_size, self._device, self._count = backbone, batch_size, device, len(images)
        self._rotation = rotation
        first = self._compute(images[:1])
        self.shapes: list[tuple[int, int, int]] = [(m.shape[1], m.shape[2], m.shape[3]) for m in first]
        self.gib = len(images) * sum(m.nbytes for m in first) / 2**30
        self._kept: list[Tensor] | None = None
        self._images = images
        if self.gib <= memory_gb and not rotation:
            self._kept = [torch.empty(len(images), *shape) for shape in self.shapes]
            for rows in torch.split(torch.arange(len(images)), batch_size):
                for kept, maps in zip(self._kept, self._compute(images[rows]), strict=True):
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
        return self._compute(self._images[rows])

    def augmented(self, rows: Tensor, generator: torch.Generator) -> list[Tensor]:
        """The same for training: of images turned by angles drawn from the generator, if a rotation was asked for."""
        if not self._rotation:
            return self.batch(rows)
        angles = (2 * torch.rand(len(rows), generator=generator) - 1) * self._rotation
        return self._compute(rotate(self._images[rows], angles.tolist()))

    def batches(self, order: Tensor | None = None, *, drop_last: bool = False) -> list[Tensor]:
        """Indices [B] batch by batch, in the given order or as the images stand."""
        order = torch.arange(len(self)) if order is None else order
        if drop_last:
            order = order[: len(order) // self._batch_size * self._batch_size]
        return list(torch.split(order, self._batch_size))

    def _compute(self, images: Tensor) -> list[Tensor]:
        at_once = max(1, PIXELS_AT_ONCE // images[0, 0].numel())
        parts = [self._backbone(some.to(self._device)) for some in torch.split(images, at_once)]
        return [torch.cat(maps) for maps in zip(*parts, strict=True)]  # plain tensors, not inference mode's
