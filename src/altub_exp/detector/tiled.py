"""The anomaly maps and scores of images from those of their tiles."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from altub_exp.data.canvas import Canvas
from altub_exp.method.scoring import Scoring


def canvas_scores(
    scoring: Scoring,
    positions: Sequence[Tensor],
    extremes: Sequence[float],
    canvas: Canvas,
    insides: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Compute the maps and scores of images from those of their tiles: an image's score is the largest of its tiles'.

    Args:
        scoring: the scoring of the model.
        positions: the numbers per position of the N·T tiles, image by image.
        extremes: see :meth:`Scoring.extremes`.
        canvas: the canvas of T tiles.
        insides: True for the pixels that belong to an image, bool [N, H, W], on the device of the positions; the others
            and tiles without such a pixel do not count. None: all belong to it.

    Returns:
        Maps [N, H, W] of whole canvases, and scores [N].
    """
    maps = scoring.maps(positions, canvas.size, extremes)
    if insides is None:
        scores = scoring.image_scores(positions, maps)
    else:
        inside = canvas.cut(insides)
        scores = scoring.image_scores(positions, maps.masked_fill(~inside, -torch.inf))
        scores = scores.masked_fill(~inside.any(dim=2).any(dim=1), -torch.inf)
    if canvas.tiles > 1:
        scores = scores.view(-1, canvas.tiles).amax(dim=1)
    return canvas.stitch(maps), scores
