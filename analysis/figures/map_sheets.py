"""Sheets of anomaly maps: those of all runs on the same test images, one row per run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import NamedTuple

from matplotlib.axes import Axes
from PIL import Image

from altub_exp.runs.pictures import Panels, read_panels
from altub_exp.text import file_name
from analysis.figures.captions import LONGEST_NAME
from analysis.figures.drawing import Drawing, Sketch, Undrawn, origin
from analysis.figures.style import BACKBONES, DATASETS, MODELS, PAGE, base_label, titled_figure
from analysis.runs.artifacts import Artifacts, MissingArtifact
from analysis.runs.conditions import Condition, Variant
from analysis.runs.run import Run

MAPS = "maps.png"
LABEL = 0.95
LARGEST = 1.15
HIGHEST = 9.0
GAP = 0.02
"""Inches: the column of labels, a picture's side, all of them together to fit on a page, and the gap around each."""


class Row(NamedTuple):
    """The anomaly maps of one run."""

    label: str
    run: Run
    panels: list[Panels]

    def has_images_of(self, other: Row) -> bool:
        """True if both runs were tested on the same images."""
        names, others = ([(panel.kind, panel.name) for panel in row.panels] for row in (self, other))
        return names == others and self.run.tags.get("data") == other.run.tags.get("data")


def map_sheets(conditions: Iterable[Condition], artifacts: Artifacts) -> list[Sketch]:
    """Sketch one sheet per data set, category and model, with the run of the lowest seed of every backbone and base.

    If a backbone has several conditions, the one with the most bases is drawn.
    """
    groups: dict[tuple[str, ...], dict[str, Condition]] = {}
    for condition in conditions:
        *subject, backbone = condition.subject
        backbones = groups.setdefault(tuple(subject), {})
        other = backbones.get(backbone)
        if other is None or len(condition.variants) > len(other.variants):
            backbones[backbone] = condition
    return [_sketch(sorted(group.values(), key=_backbone_order), artifacts) for group in groups.values()]


def _sketch(conditions: Sequence[Condition], artifacts: Artifacts) -> Sketch:
    dataset, category, model, _ = conditions[0].subject
    name = f"maps-{file_name('-'.join(map(file_name, (dataset, category, model))), LONGEST_NAME)}"
    subject = f"{DATASETS.get(dataset, dataset)} {category}, {MODELS.get(model, model)}"
    return Sketch(name, f"{subject}: anomaly maps", partial(map_sheet, conditions, artifacts, name, subject))


def map_sheet(conditions: Sequence[Condition], artifacts: Artifacts, name: str, subject: str) -> Drawing | Undrawn:
    """Draw image, mask, and the anomaly map of each run below each other; a column per kind of test image.

    Args:
        conditions: conditions of one data set, category and model, one per backbone.
        artifacts: the files of the runs.
        name: stem of the figure's files.
        subject: the data set, category and model as a text.
    """
    title = f"{subject}: anomaly maps"
    rows, missing = _rows(conditions, artifacts)
    if not rows:
        others = f" The same holds for {len(missing) - 1} more." if len(missing) > 1 else ""
        remedy = "a run sends them when it ends, or later by `python -m altub_exp.sync`"
        return Undrawn(name, title, f"{title} are not drawn: {missing[0][:-1]}; {remedy}.{others}")
    first = rows[0].panels
    strips: list[tuple[str, list[Image.Image]]] = [
        (key, [panel.pictures[key] for panel in first]) for key in ("image", "mask") if key in first[0].pictures
    ]
    strips += [(row.label, [panel.pictures["map"] for panel in row.panels]) for row in rows]
    side = min(LARGEST, (PAGE - LABEL) / len(first), HIGHEST / len(strips))
    width, height = max(LABEL + side * len(first), 3.5), side * len(strips) + 0.75
    with titled_figure(width, height, title + "\n", missing, w_pad=GAP, h_pad=GAP, wspace=0, hspace=0) as figure:
        grid = figure.subplots(len(strips), len(first), squeeze=False)
        for axes, (label, pictures) in zip(grid, strips, strict=True):
            _draw_strip(axes, label, pictures)
        for axes, panel in zip(grid[0], first, strict=True):
            axes.set_title(panel.kind.replace("_", " "), fontsize=7)
    runs = tuple(row.run for row in rows)
    text = (
        f"Anomaly maps of {subject} after the last epoch, dark to bright (viridis) from the 1st to the 99.9th "
        "percentile of each run's test set; the first test image of each kind, with its mask. "
        f"Of several seeds the lowest. {origin(runs, windows=False)}"
    )
    return Drawing(name, title, text, figure, runs, tuple(missing))


def _rows(conditions: Sequence[Condition], artifacts: Artifacts) -> tuple[list[Row], list[str]]:
    """Return the maps of all variants, and a sentence for each whose maps are missing."""
    rows: list[Row] = []
    missing: list[str] = []
    for condition in conditions:
        for variant in condition.variants:
            run, label = variant.runs[0], _label(condition, variant)
            try:
                row = Row(label, run, read_panels(artifacts.get(run, MAPS)))
                if rows and not row.has_images_of(rows[0]):
                    raise MissingArtifact("it was tested on other images")
                rows.append(row)
            except (MissingArtifact, ValueError) as error:
                missing.append(f"{label.replace(chr(10), ', ')}, seed {run.seed} ({run.state}): {error}.")
    return rows, missing


def _backbone_order(condition: Condition) -> int:
    """Return the place of a condition's backbone, the paper's first."""
    names = list(BACKBONES)
    return names.index(condition.subject.backbone) if condition.subject.backbone in names else len(names)


def _draw_strip(row: Sequence[Axes], label: str, pictures: Sequence[Image.Image]) -> None:
    for axes, picture in zip(row, pictures, strict=True):
        axes.imshow(picture, interpolation="antialiased")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    row[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=7)


def _label(condition: Condition, variant: Variant) -> str:
    backbone = condition.subject.backbone
    base = base_label(variant.base)
    values = {**condition.label, **variant.differences}
    lines = [BACKBONES.get(backbone, backbone), base]
    return "\n".join([*lines, *(f"{key.rpartition('.')[2]}={value}" for key, value in values.items())])
