"""A stability plot draws the stored values."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from analysis.figures.curves import psi_only_epochs, stability_plot
from analysis.figures.style import BASES
from analysis.runs.conditions import conditions
from analysis.runs.records import read
from tests.analysis.figure_runs import curved, depth, seeds
from tests.analysis.filler import Filler, Spot, write

R18 = [Spot("mvtec", "capsule", "fastflow", "r18", altub) for altub in ("none", "stereotype", "cnn", "alternating")]


@pytest.fixture(scope="module")
def capsule(tmp_path_factory):
    """r18, capsule: the original, one that crashed, AltUB with three seeds; and its plot."""
    by_base = {spec.spot.altub: spec for spec in curved(Filler(only=lambda spot: spot in R18).specs())}
    by_base["cnn"].tags["status"] = "crashed"
    for points in by_base["cnn"].series.values():
        for epoch in [epoch for epoch in points if epoch > 60]:
            del points[epoch]
    specs = [*by_base.values(), *seeds(by_base["alternating"], 26, 27)]
    records = read(write(specs, tmp_path_factory.mktemp("capsule")))
    (condition,) = conditions(records.runs)
    return records, condition, stability_plot(condition)


def axes_of(drawing):
    """{metric: (curves, statistics)}."""
    made = [one for one in drawing.figure.axes if one.axison]
    pairs = list(zip(made[::2], made[1::2], strict=True))
    return {one.get_ylabel().removesuffix(" (%)"): (one, other) for one, other in pairs}


def test_every_stored_point_is_drawn_in_percent_at_its_epoch(capsule):
    records, _, drawing = capsule
    axes = axes_of(drawing)
    assert list(axes) == ["image AUROC", "pixel AUROC"]
    for name, metric in (("pixel AUROC", "pixel_auroc"), ("image AUROC", "image_auroc")):
        lines = {line.get_label().split(":")[0].split(",")[0]: line for line in axes[name][0].lines}
        for base in ("none", "stereotype", "cnn"):
            (stored,) = [run.series[metric] for run in records.runs if run.tags["altub"] == base]
            x, y = lines[BASES[base].label].get_data()
            assert dict(zip(x, y, strict=True)) == pytest.approx({e: 100 * v for e, v in stored.items()})
        several = [run.series[metric] for run in records.runs if run.tags["altub"] == "alternating"]
        assert len(several) == 3
        thin = [line.get_data() for line in axes[name][0].lines if line.get_label() == "_seed"]
        assert sorted(y[0] for _, y in thin) == pytest.approx(sorted(100 * one[1] for one in several))
        x, y = lines["AltUB"].get_data()
        assert list(x) == list(range(1, 301))
        assert y == pytest.approx(np.mean([[100 * one[e] for e in x] for one in several], axis=0))


def test_mean_sd_and_best_beside_are_those_of_the_window(capsule):
    records, _, drawing = capsule
    _, beside = axes_of(drawing)["pixel AUROC"]
    stored = [run for run in records.runs if run.tags["altub"] != "cnn"]
    windows = [[100 * v for e, v in run.series["pixel_auroc"].items() if 100 <= e <= 300] for run in stored]
    bars = [container for container in beside.containers if container.has_yerr]
    drawn = []
    for bar in bars:
        line, _, (segments,) = bar.lines
        (low, high) = segments.get_segments()[0][:, 1]
        drawn.append((line.get_ydata()[0], (high - low) / 2))
    assert np.array(sorted(drawn)) == pytest.approx(np.array(sorted((np.mean(w), np.std(w)) for w in windows)))
    stars = sorted(line.get_ydata()[0] for line in beside.lines if line.get_marker() == "*")
    assert stars == pytest.approx(sorted(100 * max(run.series["pixel_auroc"].values()) for run in stored))
    legend = " ".join(
        text.get_text() for one in drawing.figure.axes if one.get_legend() for text in one.get_legend().texts
    )
    assert f"original: {np.mean(windows[0]):.2f} ± {np.std(windows[0]):.2f}, best" in legend


def test_the_window_is_shaded_and_the_best_is_in_sight(capsule):
    records, _, drawing = capsule
    for name, (curves, _) in axes_of(drawing).items():
        (shade,) = curves.patches
        assert (shade.get_x(), shade.get_x() + shade.get_width()) == (100, 300)
        low, high = curves.get_ylim()
        metric = name.replace(" AUROC", "_auroc")
        best = max(100 * max(run.series[metric].values()) for run in records.runs)
        worst = min(
            100 * run.series[metric][e] for run in records.runs for e in range(100, 301) if e in run.series[metric]
        )
        assert low < worst
        assert best <= high


def test_epochs_that_move_psi_alone_are_ticks_of_altub_only(capsule):
    records, _, drawing = capsule
    curves, _ = axes_of(drawing)["pixel AUROC"]
    ticks = [list(line.get_xdata()) for line in curves.lines if line.get_label() == "_psi_only"]
    assert [one for one in ticks if one] == [list(range(5, 301, 5))]
    assert {run.tags["altub"] for run in records.runs if psi_only_epochs(run)} == {"alternating"}


def test_a_crash_is_named_and_has_no_statistics(capsule):
    _, _, drawing = capsule
    (note,) = drawing.missing
    assert note == (
        "CNN, seed 25: crashed after epoch 60 (its training diverged), 201 of 201 evaluations in the window missing."
    )
    assert note in drawing.caption
    assert "AltUB, 3 seeds" in " ".join(text.get_text() for text in drawing.figure.axes[2].get_legend().texts)


def test_nothing_is_clipped_or_overlaps(capsule):
    _, _, drawing = capsule
    renderer = FigureCanvasAgg(drawing.figure).get_renderer()
    drawing.figure.draw_without_rendering()
    frame = drawing.figure.bbox
    texts = [
        text
        for one in drawing.figure.axes
        for text in (one.xaxis.label, one.yaxis.label, *(one.get_legend().texts if one.get_legend() else ()))
    ]
    boxes = [text.get_window_extent(renderer) for text in texts if text.get_text()]
    assert len(boxes) > 8
    for box in boxes:
        assert box.x0 >= frame.x0 - 1
        assert box.x1 <= frame.x1 + 1
    for number, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[number + 1 :])
    assert min(text.get_fontsize() for text in texts) >= 7


def test_other_settings_get_plots_of_their_own_and_doubles_are_named(tmp_path):
    (table,) = Filler(only=lambda spot: spot == R18[0]).specs()
    (again,) = Filler(only=lambda spot: spot == R18[0], params=lambda _: {"eval.ks_every": "0"}).specs()
    (slower,) = Filler(only=lambda spot: spot == R18[3], params=lambda _: {"altub.freezing_interval": "10"}).specs()
    (altub,) = Filler(only=lambda spot: spot == R18[3]).specs()
    again.started += 1
    found = conditions(read(write([table, again, slower, altub, *depth((2, 8)).values()], tmp_path)).runs)
    plots = {one.name: one for one in map(stability_plot, found)}
    assert set(plots) == {
        "stability-mvtec-capsule-fastflow-r18-steps=8-epochs=300",
        "stability-mvtec-capsule-fastflow-r18-steps=8-epochs=200",
        "stability-mvtec-capsule-fastflow-r18-steps=2-epochs=200",
    }
    plot = plots["stability-mvtec-capsule-fastflow-r18-steps=8-epochs=300"]
    assert {run.run_id for run in plot.runs} == {table.run_id, slower.run_id, altub.run_id}
    assert f"MLflow runs {again.run_id}" in plot.caption
    legend = [text.get_text() for text in plot.figure.axes[2].get_legend().texts]
    assert any(text.startswith("AltUB, freezing_interval 10:") for text in legend)
    assert len({line.get_color() for line in plot.figure.axes[0].lines}) == 3


def test_cflow_counts_sub_epochs(tmp_path):
    spots = [Spot("mvtec", "screw", "cflow", "wrn50_tv", altub) for altub in ("none", "alternating")]
    (condition,) = conditions(read(write(Filler(only=lambda spot: spot in spots).specs(), tmp_path)).runs)
    drawing = stability_plot(condition)
    curves, _ = axes_of(drawing)["pixel AUROC"]
    assert list(curves.lines[0].get_xdata()) == list(range(8, 201, 8))
    assert "sub-epoch" in [one.get_xlabel() for one in drawing.figure.axes]
    warm = list(psi_only_epochs(condition.variants[1].runs[0]))
    assert warm[0] == 20  # ψ stays as it is in the first 16 sub-epochs


def test_a_run_before_its_first_evaluation_is_no_plot(tmp_path):
    (spec,) = Filler(only=lambda spot: spot == R18[0], state=lambda _: "running").specs()
    spec.series = {"loss": {1: 0.5}}
    (condition,) = conditions(read(write([spec], tmp_path)).runs)
    undrawn = stability_plot(condition)
    assert undrawn.sentence == (
        "MVTec AD capsule, FastFlow, ResNet-18 is not drawn: no epoch has been evaluated. original, seed 25: running "
        "after epoch 1, 201 of 201 evaluations in the window missing."
    )


def test_a_run_on_normal_images_only_is_no_plot(tmp_path):
    (spec,) = Filler(only=lambda spot: spot == R18[0]).specs()
    spec.series = {"loss": dict.fromkeys(range(1, 301), 0.5)}
    (condition,) = conditions(read(write([spec], tmp_path)).runs)
    assert stability_plot(condition).sentence == (
        "MVTec AD capsule, FastFlow, ResNet-18 is not drawn: no run has an AUROC. original, seed 25: finished after "
        "epoch 300."
    )
