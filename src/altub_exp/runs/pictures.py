"""A run's pictures: its AUROC curve, and anomaly maps beside images and masks."""

from __future__ import annotations

import json
import math
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin
from torch import Tensor

from altub_exp.data import Sample
from altub_exp.machine.disk import replacing
from altub_exp.metrics.stability import stability
from altub_exp.text import printable

matplotlib.rcParams["text.parse_math"] = False  # a name with $ is no formula
warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a box is drawn

COLOURS = {"pixel_auroc": "#0072B2", "image_auroc": "#D55E00"}  # Okabe and Ito, https://jfly.uni-koeln.de/color
MAX_ROWS = 6
DPI = 120
LEGEND_COLUMNS = 4
COLUMNS = ("image", "mask", "map")
PANELS = "panels"


def auroc_curve(rows: Sequence[Mapping[str, float]], window: tuple[int, int], title: str, path: Path) -> None:
    """Plot AUROC in percent against the epoch, with the window of the statistics shaded and mean ± sd in the legend."""
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for metric, colour in COLOURS.items():
        series = {int(row["epoch"]): row[metric] for row in rows if metric in row}
        if not series:
            continue
        label = metric.replace("_auroc", " AUROC")
        if statistics := stability(series, *window):
            label += f": {100 * statistics.mean:.2f} ± {100 * statistics.std:.2f}, best {100 * statistics.best:.2f}"
        axes.plot(list(series), [100 * value for value in series.values()], color=colour, label=label, linewidth=1.5)
    axes.axvspan(*window, color="0.92", zorder=0, label=f"epochs {window[0]} to {window[1]}")
    axes.set(xlabel="epoch", ylabel="AUROC (%)", title=_rows(title, 80))
    axes.legend(loc="lower right", fontsize="small")
    figure.savefig(path, dpi=DPI)
    plt.close(figure)


def sweep_curves(
    curves: Mapping[str, Mapping[str, Mapping[int, float]]], window: tuple[int, int] | None, title: str, path: Path
) -> None:
    """Plot the AUROCs of several runs in percent against the epoch, one panel for pixels and one for images.

    Args:
        curves: for each run's name its series {metric: {epoch: value}}.
        window: first and last epoch of the statistics, which are shaded; None if the runs differ in it.
        title: title of the picture.
        path: the PNG to write.
    """
    metrics = [metric for metric in COLOURS if any(series.get(metric) for series in curves.values())]
    colours = matplotlib.colormaps["tab10" if len(curves) <= 10 else "turbo"]
    rows = math.ceil(len(curves) / LEGEND_COLUMNS)
    figure, grid = plt.subplots(
        1, len(metrics), figsize=(5.5 * len(metrics), 4 + 0.2 * rows), squeeze=False, layout="constrained"
    )
    for axes, metric in zip(grid[0], metrics, strict=True):
        lines = []
        for number, series in enumerate(curves.values()):
            colour = colours(number if len(curves) <= 10 else number / (len(curves) - 1))
            points = series.get(metric, {})
            percent = [100 * value for value in points.values()]
            lines += axes.plot(list(points), percent, color=colour, linewidth=1.2)
        if window:
            axes.axvspan(*window, color="0.92", zorder=0)
        axes.set(xlabel="epoch", ylabel=f"{metric.replace('_auroc', ' AUROC')} (%)")
    figure.suptitle(_rows(title, 45 * len(metrics)))
    names = [_rows(name, 30) for name in curves]
    figure.legend(lines, names, loc="outside lower center", ncols=LEGEND_COLUMNS, fontsize="small")
    with replacing(path) as unfinished:
        figure.savefig(unfinished, dpi=DPI, format="png")
    plt.close(figure)


def shown_rows(samples: Sequence[Sample]) -> list[int]:
    """Return the indices of the test images on the sheet: the first of each kind."""
    kinds: dict[str, int] = {}
    for row, sample in enumerate(samples):
        kinds.setdefault(sample.kind, row)
    return list(kinds.values())[:MAX_ROWS]


def map_sheet(
    samples: Sequence[Sample], images: Mapping[int, Tensor], masks: NDArray[np.bool_] | None, maps: Tensor, path: Path
) -> None:
    """Draw one test image of each kind, its mask, and its anomaly map on the test set's common scale.

    The PNG's text ``panels`` has the positions of the pictures, from which :func:`read_panels` cuts them out.

    Args:
        samples: samples of the test set.
        images: the images of :func:`shown_rows`, by their indices, uint8 [3, H, W].
        masks: bool [N, H, W], or None.
        maps: anomaly maps [N, H, W]; NaN where there is none.
        path: the PNG to write.
    """
    chosen = [(printable(samples[row].kind), printable(samples[row].image.name), row) for row in shown_rows(samples)]
    low, high = np.nanpercentile(maps.numpy(), [1, 99.9])
    figure, grid = plt.subplots(
        len(chosen), 3, figsize=(7, 2.3 * len(chosen)), dpi=DPI, squeeze=False, layout="constrained"
    )
    for axes, (kind, name, row) in zip(grid, chosen, strict=True):
        axes[0].imshow(images[row].permute(1, 2, 0).numpy())
        axes[0].set_ylabel(f"{_rows(kind, 26)}\n{_rows(name, 26)}")
        if masks is not None:
            axes[1].imshow(masks[row], cmap="gray", vmin=0, vmax=1)
        heat_map = axes[2].imshow(maps[row].numpy(), cmap="viridis", vmin=low, vmax=high)
        figure.colorbar(heat_map, ax=axes[2], fraction=0.046)
        for panel in axes:
            panel.set(xticks=[], yticks=[])
    for axis, title in zip(grid[0], ("image", "mask" if masks is not None else "no mask", "anomaly map"), strict=True):
        axis.set_title(title)
    figure.draw_without_rendering()  # computes the layout
    figure.set_layout_engine("none")  # saving would change the layout again
    columns = [column for column in COLUMNS if column != "mask" or masks is not None]
    panels = [
        {
            "kind": kind,
            "name": name,
            "boxes": {column: _box(axes[COLUMNS.index(column)]) for column in columns},
        }
        for axes, (kind, name, _) in zip(grid, chosen, strict=True)
    ]
    figure.savefig(path, dpi=DPI, metadata={PANELS: json.dumps(panels)})
    plt.close(figure)


def _rows(text: str, letters: int) -> str:
    """Break a text into rows of at most this many letters."""
    return textwrap.fill(printable(text), letters)


def _box(axes: Axes) -> list[float]:
    """Return the left, upper, right and lower edge as fractions of the picture's width and height."""
    position = axes.get_position()
    return [position.x0, 1 - position.y1, position.x1, 1 - position.y0]


@dataclass(frozen=True)
class Panels:
    """One row of a sheet of anomaly maps.

    Attributes:
        kind: kind of defect, or the normal kind.
        name: file name of the image.
        pictures: ``image``, ``map`` and, if there are masks, ``mask``.
    """

    kind: str
    name: str
    pictures: dict[str, Image.Image]


def read_panels(path: Path) -> list[Panels]:
    """Cut out the pictures of a sheet of :func:`map_sheet`, row by row.

    Raises:
        ValueError: the file is not such a sheet.
        OSError: the file cannot be read.
    """
    with Image.open(path) as opened:
        sheet = opened.convert("RGB")
        if PANELS not in opened.info:
            raise ValueError(f"{path.name} lacks the positions of its pictures: this program did not draw it")
    return [
        Panels(row["kind"], row["name"], {name: _cut(sheet, box) for name, box in row["boxes"].items()})
        for row in json.loads(opened.info[PANELS])
    ]


def _cut(sheet: Image.Image, box: Sequence[float]) -> Image.Image:
    """Cut out a box of :func:`_box`, without its frame."""
    left, upper, right, lower = (part * side for part, side in zip(box, 2 * sheet.size, strict=True))
    return sheet.crop((math.ceil(left) + 2, math.ceil(upper) + 2, math.floor(right) - 2, math.floor(lower) - 2))


def write_map(values: Tensor, path: Path, kind: str, limits: tuple[float, float]) -> Path:
    """Write one anomaly map.

    Args:
        values: the map [H, W].
        path: the file without its suffix.
        kind: ``png`` has 16 bits: 0 and 65535 are the limits, at which values are cut off, and the file's texts
            ``minimum`` and ``maximum`` name them. ``tiff`` has the values in 32-bit floating point.
        limits: smallest and largest value of the scale.

    Returns:
        The file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.with_name(f"{path.name}.{kind}")
    if kind == "tiff":
        Image.fromarray(values.float().numpy()).save(file)
        return file
    texts = PngImagePlugin.PngInfo()
    for name, limit in zip(("minimum", "maximum"), limits, strict=True):
        texts.add_text(name, repr(limit))
    levels = np.round(65535 * _on_scale(values, limits)).astype(np.uint16)
    Image.fromarray(levels).save(file, pnginfo=texts)
    return file


def overlay(picture: Image.Image, values: Tensor, limits: tuple[float, float], path: Path) -> Path:
    """Write an image of unchanged size with its anomaly map in colours over it.

    More anomalous pixels are more opaque, so that a normal image stays almost unchanged.

    Args:
        picture: the image, RGB.
        values: the map [H, W].
        limits: smallest and largest value of the scale of colours.
        path: the file without its suffix.

    Returns:
        The PNG file.
    """
    scale = Image.fromarray(_on_scale(values, limits).astype(np.float32))
    heat = np.asarray(scale.resize(picture.size, Image.Resampling.BILINEAR))[..., None]
    colours = 255 * matplotlib.colormaps["inferno"](heat[..., 0])[..., :3]
    opacity = 0.8 * heat**3  # most pixels, in the middle of the scale, stay almost clear
    blended = (1 - opacity) * np.asarray(picture) + opacity * colours
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.with_name(f"{path.name}.png")
    Image.fromarray(blended.round().astype(np.uint8)).save(file)
    return file


def _on_scale(values: Tensor, limits: tuple[float, float]) -> NDArray[np.float64]:
    """Scale a map so that the limits become 0 and 1."""
    low, high = limits
    return np.clip((values.double().numpy() - low) / (high - low or 1.0), 0, 1)
