"""The canvas, an image as the model sees it in all, and the square tiles that the model sees one by one."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from altub_exp.config.bounds import canvas_side, grid, tile_overlap
from altub_exp.config.schema import DatasetConfig


class Box(NamedTuple):
    """A rectangle of a canvas, in pixels."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class Canvas:
    """The image of H×W pixels to which every image is resized, and its tiles of S×S pixels, which overlap.

    Attributes:
        size: S, the side of a tile.
        rows: tiles above each other.
        columns: tiles beside each other.
        overlap: the part of S that neighbouring tiles share, 0 to 0.5; of no effect for a single tile.
        keep_aspect: False: an image is stretched to the canvas; True: it is fitted into it, in the middle.
    """

    size: int
    rows: int = 1
    columns: int = 1
    overlap: float = 0.0
    keep_aspect: bool = False

    @classmethod
    def of(cls, dataset: DatasetConfig) -> Canvas:
        """Return the canvas of a configuration."""
        rows, columns = grid(dataset.tiles)
        overlap = dataset.tile_overlap if rows * columns > 1 else 0.0
        return cls(dataset.image_size, rows, columns, overlap, dataset.keep_aspect)

    @property
    def height(self) -> int:
        """H in pixels."""
        return canvas_side(self.size, self.rows, self.overlap)

    @property
    def width(self) -> int:
        """W in pixels."""
        return canvas_side(self.size, self.columns, self.overlap)

    @property
    def tiles(self) -> int:
        """The number of tiles, T."""
        return self.rows * self.columns

    @property
    def is_plain(self) -> bool:
        """True if the model sees an image as a whole, stretched to a square."""
        return self.tiles == 1 and not self.keep_aspect

    def __str__(self) -> str:
        """Return the size in a few words, such as ``256 px`` or ``480×704 px in 2×3 tiles``."""
        if self.tiles == 1:
            return f"{self.size} px"
        return f"{self.height}×{self.width} px in {self.rows}×{self.columns} tiles"

    def facts(self) -> dict[str, object]:
        """Return the facts, beyond S, that identify a plan other than the plain one; {} for that."""
        if self.is_plain:
            return {}
        return {"tiles": f"{self.rows}x{self.columns}", "tile_overlap": self.overlap, "keep_aspect": self.keep_aspect}

    @functools.cached_property
    def corners(self) -> list[tuple[int, int]]:
        """The upper left pixels (top, left) of the tiles, row by row."""
        step = self.size - tile_overlap(self.size, self.overlap)
        return [(row * step, column * step) for row in range(self.rows) for column in range(self.columns)]

    def tile(self, pixels: Tensor, number: int) -> Tensor:
        """Return a tile [..., S, S], a view, of a canvas [..., H, W]."""
        top, left = self.corners[number]
        return pixels[..., top : top + self.size, left : left + self.size]

    def cut(self, canvases: Tensor) -> Tensor:
        """Return the tiles [N·T, ..., S, S] of canvases [N, ..., H, W], image by image."""
        if self.tiles == 1:
            return canvases
        return torch.stack([self.tile(canvases, number) for number in range(self.tiles)], dim=1).flatten(0, 1)

    def stitch(self, maps: Tensor) -> Tensor:
        """Return the maps [N, H, W] of canvases from those of their tiles [N·T, S, S].

        Where tiles overlap, the weight of each falls linearly towards its edge: a map has no seams, and counts little
        where the backbone and the flow see the padding around a tile instead of the image.
        """
        if self.tiles == 1:
            return maps
        canvases = maps.new_zeros(len(maps) // self.tiles, self.height, self.width)
        by_tile = maps.view(-1, self.tiles, self.size, self.size).unbind(dim=1)
        weights = self._weights.to(maps.device, maps.dtype)
        for number, (tiles, weight) in enumerate(zip(by_tile, weights, strict=True)):
            self.tile(canvases, number).addcmul_(tiles, weight)
        return canvases

    @functools.cached_property
    def _weights(self) -> Tensor:
        """Weights of the tiles, [T, S, S], whose sum is 1 at each pixel of the canvas."""
        shared = tile_overlap(self.size, self.overlap)
        rising = torch.arange(1, shared + 1, dtype=torch.float64) / (shared + 1)

        def along(number: int, count: int) -> Tensor:
            weight = torch.ones(self.size, dtype=torch.float64)
            if number > 0:
                weight[:shared] = rising
            if number < count - 1:
                weight[self.size - shared :] = rising.flip(0)
            return weight

        down = [along(row, self.rows) for row in range(self.rows)]
        across = [along(column, self.columns) for column in range(self.columns)]
        return torch.stack([torch.outer(vertical, horizontal) for vertical in down for horizontal in across])

    def box(self, width: int, height: int) -> Box:
        """Return the part of the canvas that an image of this size covers; all of it unless ``keep_aspect``."""
        if not self.keep_aspect:
            return Box(0, 0, self.height, self.width)
        scale = min(self.width / width, self.height / height)
        inner_height = min(self.height, max(1, round(scale * height)))
        inner_width = min(self.width, max(1, round(scale * width)))
        return Box((self.height - inner_height) // 2, (self.width - inner_width) // 2, inner_height, inner_width)

    def inside(self, box: Box) -> Tensor:
        """Return True for the pixels of a box, bool [H, W]."""
        inside = torch.zeros(self.height, self.width, dtype=torch.bool)
        cropped(inside, box).fill_(True)
        return inside


def cropped(canvas: Tensor, box: Box) -> Tensor:
    """Return the part of a canvas [..., H, W] that a box covers, a view."""
    return canvas[..., box.top : box.top + box.height, box.left : box.left + box.width]
