"""Contact sheets: the anomaly maps of all runs on the same test images, one row per run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from matplotlib.axes import Axes
from PIL import Image

from altub_exp.runs.pictures import Panels, read_panels
from analysis.figures.captions import slug
from analysis.figures.drawing import Drawing, Undrawn, origin
from analysis.figures.style import BACKBONES, BASES, DATASETS, MODELS, PAGE, footnotes, head, new_figure, styled
from analysis.runs.artifacts import Absent, Artifacts
from analysis.runs.conditions import Line, Setting
from analysis.runs.records import Run

SHEET = "maps.png"
LABEL = 0.95
LARGEST = 1.15
HIGHEST = 9.0
GAP = 0.02
"""Inches: the column of labels, a picture's side, all of them together, to fit on a page, and around each."""


def contact_sheets(settings: Iterable[Setting], artifacts: Artifacts) -> list[Drawing | Undrawn]:
    """One sheet per data set, category and model: of every backbone and base the run of the lowest seed.

    Of several settings of a backbone it is the one with the most bases to compare.
    """
    found: dict[tuple[str, ...], dict[str, Setting]] = {}
    for setting in settings:
        backbones = found.setdefault(setting.place[:3], {})
        other = backbones.get(setting.place[3])
        if other is None or len(setting.lines) > len(other.lines):
            backbones[setting.place[3]] = setting
    return [contact_sheet(place, sorted(group.values(), key=_rank), artifacts) for place, group in found.items()]


def contact_sheet(place: Sequence[str], settings: Sequence[Setting], artifacts: Artifacts) -> Drawing | Undrawn:
    """Image, mask, and the anomaly map of each run below each other; a column per kind of test image.

    Args:
        place: data set, category, model.
        settings: of that place.
        artifacts: where the runs' ``maps.png`` are.
    """
    dataset, category, model = place
    name = "-".join(["maps", *map(slug, place)])
    title = f"{DATASETS.get(dataset, dataset)} {category}, {MODELS.get(model, model)}: anomaly maps"
    rows: list[tuple[str, Run, list[Panels]]] = []
    missing: list[str] = []
    for setting in settings:
        for line in setting.lines:
            run, label = line.runs[0], _label(setting, line)
            try:
                panels = read_panels(artifacts.get(run, SHEET))
                if rows and not _same_images(rows[0], (label, run, panels)):
                    raise Absent("it was tested on other images")
                rows.append((label, run, panels))
            except (Absent, ValueError) as error:
                missing.append(f"{label.replace(chr(10), ', ')}, seed {run.tags['seed']} ({run.state}): {error}.")
    if not rows:
        more = f" So it is with {len(missing) - 1} more." if len(missing) > 1 else ""
        remedy = "a run sends them when it ends, or later by `python -m altub_exp.sync`"
        return Undrawn(name, title, f"{title} are not drawn: {missing[0][:-1]}; {remedy}.{more}")
    runs = tuple(run for _, run, _ in rows)
    first = rows[0][2]
    given = [key for key in ("image", "mask") if key in first[0].pictures]
    strips = [(key, [panel.pictures[key] for panel in first]) for key in given]
    strips += [(label, [panel.pictures["map"] for panel in panels]) for label, _, panels in rows]
    side = min(LARGEST, (PAGE - LABEL) / len(first), HIGHEST / len(strips))
    with styled():
        figure = new_figure(max(LABEL + side * len(first), 3.5), side * len(strips) + 0.75)
        grid = figure.subplots(len(strips), len(first), squeeze=False)
        figure.get_layout_engine().set(w_pad=GAP, h_pad=GAP, wspace=0, hspace=0)
        for axes, (label, pictures) in zip(grid, strips, strict=True):
            _strip(axes, label, pictures)
        for axes, panel in zip(grid[0], first, strict=True):
            axes.set_title(panel.kind.replace("_", " "), fontsize=7)
        head(figure, title + "\n")
        footnotes(figure, missing)
    caption = (
        f"Anomaly maps of {title.removesuffix(': anomaly maps')} after the last epoch, dark to bright (viridis) from "
        "the 1st to the 99.9th percentile of each run's test set; the first test image of each kind, with its mask. "
        f"Of several seeds the lowest. {origin(runs, windows=False)}"
    )
    if missing:
        caption += f" Missing: {' '.join(missing)}"
    return Drawing(name, title, caption, figure, runs, tuple(missing))


def _rank(setting: Setting) -> int:
    """The paper's backbones first."""
    names = list(BACKBONES)
    return names.index(setting.place[3]) if setting.place[3] in names else len(names)


def _strip(row: Sequence[Axes], label: str, pictures: Sequence[Image.Image]) -> None:
    for axes, picture in zip(row, pictures, strict=True):
        axes.imshow(picture, interpolation="antialiased")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    row[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=7)


def _label(setting: Setting, line: Line) -> str:
    backbone = setting.place[3]
    known = BASES.get(line.base)
    further = {**setting.short, **line.differs}
    parts = [BACKBONES.get(backbone, backbone), known.label if known else line.base]
    return "\n".join([*parts, *(f"{key.rpartition('.')[2]}={value}" for key, value in further.items())])


def _same_images(one: tuple[str, Run, list[Panels]], other: tuple[str, Run, list[Panels]]) -> bool:
    names = [[(panel.kind, panel.name) for panel in panels] for _, _, panels in (one, other)]
    return names[0] == names[1] and one[1].tags.get("data") == other[1].tags.get("data")
