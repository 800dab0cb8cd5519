"""Figures 1 and 3 and the heat map draw the stored values, in colours that can be distinguished."""

import itertools

import numpy as np
import pytest
from colorspacious import cspace_convert, deltaE
from matplotlib.colors import to_rgb
from matplotlib.patches import StepPatch

from analysis.figures.depth import comparison, draw_depth, order
from analysis.figures.heatmap import COLUMNS, Difference, differences, draw_grid, heat_map
from analysis.figures.latents import draw_normality
from analysis.figures.style import BASES, DIFFERENCES, STEPS, new_figure
from analysis.paper.paper_cells import PaperCells
from analysis.paper.values import Key, categories, values
from analysis.runs.records import read
from tests.analysis.figure_runs import depth, latents
from tests.analysis.filler import Filler, write

PAIR = ("none", "alternating")


def test_fig_1_draws_the_recorded_histograms_and_the_units_values():
    document = latents()
    figure = draw_normality(document, "Fig. 1", [])
    for axes, test in zip(figure.axes, ("shapiro_wilk", "kolmogorov_smirnov"), strict=False):
        stairs = [patch for patch in axes.patches if isinstance(patch, StepPatch)]
        for drawn, sample in zip(stairs, ("train", "test_good"), strict=True):
            counts, edges, _ = drawn.get_data()
            stored = np.array(document[sample][test]["histogram"])
            assert counts == pytest.approx(100 * stored / stored.sum())
            assert (edges[0], edges[-1]) == (0, 1)
        assert [line.get_xdata()[0] for line in axes.lines] == [0.05]
        told = axes.get_legend().texts[0].get_text()
        assert f"{100 - 100 * document['train'][test]['rejected']:.1f} % have p > 0.05" in told
    unit = document["train"]["example"]["values"]
    bars = figure.axes[2].patches
    assert sum(bar.get_height() * bar.get_width() for bar in bars) == pytest.approx(1)
    assert min(bar.get_x() for bar in bars) == pytest.approx(min(unit))
    standard, fitted = figure.axes[2].lines
    assert standard.get_ydata().max() == pytest.approx(1 / np.sqrt(2 * np.pi), rel=1e-3)
    assert fitted.get_xdata()[fitted.get_ydata().argmax()] == pytest.approx(np.mean(unit), abs=0.05)


@pytest.fixture(scope="module")
def depths(tmp_path_factory):
    """({steps: run}, their tests of normality)."""
    specs = depth()
    records = read(write(specs.values(), tmp_path_factory.mktemp("depths")))
    return {step: records.by_id[spec.run_id] for step, spec in specs.items()}, {s: latents(seed=s) for s in (1, 4, 16)}


def test_fig_3_draws_units_curves_and_losses(depths):
    runs, documents = depths
    figure = draw_depth(runs, documents, "Fig. 3", [])
    left, auroc, loss, right = figure.axes
    (line,) = left.lines
    units = [documents[step]["train"] for step in (1, 4, 16)]
    assert list(line.get_xdata()) == [1, 4, 16]
    assert line.get_ydata() == pytest.approx([100 * unit["ks_statistic"] for unit in units])
    assert right.lines[0].get_ydata() == pytest.approx([unit["mean_square"] for unit in units])
    for axes, metric, factor in ((auroc, "pixel_auroc", 100), (loss, "loss", 1)):
        assert len(axes.lines) == 5
        for one, (step, run) in zip(axes.lines, sorted(runs.items()), strict=True):
            assert one.get_label().split()[0] == str(step)
            assert list(one.get_xdata()) == list(range(1, 201))
            assert one.get_ydata() == pytest.approx([factor * value for value in run.series[metric].values()])
    assert loss.get_ylabel() == "loss (nats per dimension)"
    assert next(text.get_text() for text in figure.legends[0].texts) == "1 step"


def test_fig_3_without_tests_of_normality_says_that_they_are_missing(depths):
    runs, _ = depths
    left, *others = draw_depth(runs, {}, "Fig. 3", []).axes
    assert len(others) == 2
    assert [text.get_text() for text in left.texts] == ["missing"]
    assert not [*left.lines, *left.get_yticks(), *left.get_xticks()]


def test_the_order_is_of_means_over_whole_windows(depths):
    runs, _ = depths
    means = {step: np.mean([run.series["pixel_auroc"][e] for e in range(100, 201)]) for step, run in runs.items()}
    assert order(runs, "pixel_auroc") == sorted(means, key=means.get) == [1, 16, 8, 4, 2]
    assert "it does not agree" in comparison("AUROC", [2, 16, 8, 4, 1], (1, 16, 8, 4, 2))
    assert "it agrees in the 2 that are there" in comparison("AUROC", [16, 2], (1, 16, 8, 4, 2))


@pytest.fixture(scope="module")
def heat(tmp_path_factory):
    """r18 and wrn50 with the paper's numbers, but for a run that is missing and one that has not ended."""

    def only(spot):
        return spot.model == "fastflow" and spot.dataset == "mvtec" and spot.backbone in ("r18", "wrn50")

    filler = Filler(
        only=lambda spot: only(spot) and spot.altub in PAIR and (spot.category, spot.backbone) != ("tile", "r18"),
        state=lambda spot: "running" if (spot.category, spot.backbone) == ("pill", "wrn50") else "finished",
    )
    return PaperCells(read(write(filler.specs(), tmp_path_factory.mktemp("heat"))))


def test_the_heat_map_shows_the_papers_differences_and_hatches_what_is_missing(heat):
    drawing = heat_map(heat)
    mean, paper_mean, std, paper_std = drawing.figure.axes[:4]
    rows, columns = list(categories("table_a1")), list(COLUMNS)
    missing = {("tile", "r18"), ("pill", "wrn50")}
    for axes, statistic in ((mean, "mean"), (std, "std")):
        texts = {text.get_position(): text.get_text() for text in axes.texts}
        for category, backbone in itertools.product(rows, ("r18", "wrn50")):
            place = (columns.index(backbone) + 0.5, rows.index(category) + 0.5)
            if (category, backbone) in missing:
                assert place not in texts
                continue
            without, altub = (
                getattr(values("table_a1")[Key(category, "fastflow", backbone, base, "segmentation")], statistic)
                for base in PAIR
            )
            assert float(texts[place].replace("−", "-")) == pytest.approx(altub - without, abs=0.0051)
        assert len(texts) == 28
        assert len([patch for patch in axes.patches if patch.get_hatch()]) == 75 - 28
    assert len(paper_mean.texts) == len(paper_std.texts) == 75
    assert not paper_mean.patches
    assert "46 missing, 1 running, of 75" in drawing.caption
    assert "in 54 of 60 cells, the sd smaller in 53" in drawing.caption
    assert len(drawing.runs) == 56


def test_missing_cells_have_no_colour(heat):
    found = differences(heat)
    figure = new_figure(3, 3)
    axes = figure.subplots()
    draw_grid(axes, found, list(categories("table_a1")), "mean", "ours")
    coloured = np.ma.getmaskarray(axes.collections[0].get_array())
    assert (~coloured).sum() == 28
    hatched = {patch.get_xy() for patch in axes.patches}
    assert hatched == {(column, row) for row, column in zip(*np.nonzero(coloured), strict=True)}
    assert isinstance(found[0], Difference)


def seen(colour, kind):
    """A colour as the colour-blind see it, in sRGB."""
    space = {"name": "sRGB1+CVD", "cvd_type": kind, "severity": 100}
    return np.clip(cspace_convert(to_rgb(colour), space, "sRGB1"), 0, 1)


def lightness(colour):
    return cspace_convert(to_rgb(colour), "sRGB1", "CIELab")[0]


@pytest.mark.parametrize("kind", ["deuteranomaly", "protanomaly", "tritanomaly"])
def test_the_colour_blind_tell_bases_steps_and_differences_apart(kind):
    neighbours = [*itertools.combinations([look.colour for look in BASES.values()], 2), *itertools.pairwise(STEPS)]
    neighbours.append((DIFFERENCES(0.0), DIFFERENCES(1.0)))
    for one, other in neighbours:
        assert deltaE(seen(one, kind), seen(other, kind)) > 12, (one, other)


def test_in_grey_lines_differ_by_lightness_or_by_line_and_marker():
    for one, other in itertools.combinations(BASES.values(), 2):
        assert one.marker != other.marker
        assert one.line != other.line
        assert abs(lightness(one.colour) - lightness(other.colour)) > 5
    steps = [lightness(colour) for colour in STEPS]
    assert all(before - after > 8 for before, after in itertools.pairwise(steps))
    assert all(lightness(look.colour) < 75 for look in BASES.values()), "too pale on white"
