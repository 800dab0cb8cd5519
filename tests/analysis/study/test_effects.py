"""Effects, verdicts and the choice of a recipe on a made-up study whose numbers are known."""

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from analysis.study.effects import Effect, contrast_effect, verdict, verdicts
from analysis.study.foretelling import correlations
from analysis.study.grid import part, settings
from analysis.study.measures import is_complete, measure
from analysis.study.protocol import (
    CHECKING,
    CHOOSING,
    CLAIMS,
    DATA,
    DECOMPOSITION,
    IMAGE,
    NORMS,
    PARTS,
    PIXEL,
    between,
)
from analysis.study.recipe import RULES, choose, plateau, smallest_ks
from tests.analysis.study.made_up import EPOCHS, FIRST, GAINS, SEEDS, composed, made_up_plan, recorded, window_mean
from tests.commandline import ROOT

pytestmark = pytest.mark.usefixtures("made_up_plan")
__all__ = ["made_up_plan"]


def whole():
    return [recorded(run) for run in composed("study_a")]


def without(runs, *dropped):
    return [run for run in runs if run.run_id not in dropped]


def test_a_planned_run_is_found_by_its_configuration():
    runs = whole()
    deviating = [replace(run, params={**run.params, "train.epochs": "300"}) for run in runs[:10]]
    grid = part("a", [*deviating, *runs[10:]])
    assert len(grid) == 5 * 4 * 3 * 2
    assert [planned.state for planned in grid] == ["missing"] * 10 + ["finished"] * 110
    assert all(planned.run is run for planned, run in zip(grid[10:], runs[10:], strict=True))


def test_paths_of_weights_and_images_do_not_count():
    run = recorded(composed("study_b")[0], **{"backbone.weights": "mobile.safetensors", "dataset.root": "elsewhere"})
    assert part("b", [run])[0].run is run
    assert part("b", [replace(run, params={**run.params, "backbone.weights": "random"})])[0].run is None


def test_duplicates_are_counted_and_the_finished_one_is_taken():
    run = whole()[0]
    broken = replace(run, run_id="other", tags={**run.tags, "status": "failed"})
    planned = part("a", [broken, run])[0]
    assert (planned.run, planned.duplicates) == (run, 1)


def test_settings_are_the_runs_that_differ_in_seeds():
    groups = settings(part("a", whole()))
    assert len(groups) == 24
    assert all([run.seed for run in group] == list(map(str, SEEDS)) for group in groups)


@pytest.mark.parametrize("norm", NORMS)
def test_effect_on_the_mean_is_the_true_one(norm):
    effect = contrast_effect(part("a", whole()), between("alternating", "none", norm), "mean")
    expected = [
        window_mean(data, norm, "alternating", seed) - window_mean(data, norm, "none", seed)
        for data in DATA
        for seed in SEEDS
    ]
    assert effect.value == pytest.approx(np.mean(expected), abs=1e-9)
    assert effect.value == pytest.approx(100 * GAINS[norm] + 0.3, abs=0.01)
    assert effect.low < effect.value < effect.high
    assert effect.counts == (20, 20, 0)
    assert effect.p == 2 / 2**20


def test_statistics_of_a_run():
    run = recorded(composed("study_a")[0])
    values = np.array([run.series["pixel_auroc"][epoch] for epoch in range(FIRST, EPOCHS + 1)])
    assert is_complete(run, "none", "pixel_auroc")
    assert measure(run, "none", "pixel_auroc", "last") == pytest.approx(100 * values[-1])
    assert math.exp(measure(run, "none", "pixel_auroc", "log_sd")) == pytest.approx(values.std())
    roughness = np.std(values[1:] - values[:-1]) / 2**0.5
    assert math.exp(measure(run, "none", "pixel_auroc", "log_roughness")) == pytest.approx(roughness)
    ks = [value for epoch, value in run.series["ks"].items() if epoch >= FIRST]
    assert measure(run, "none", "pixel_auroc", "ks") == pytest.approx(100 * np.mean(ks))
    assert math.isnan(measure(run, "fitted", "pixel_auroc", "ks"))
    constant = replace(run, series={"pixel_auroc": dict.fromkeys(range(1, EPOCHS + 1), 1.0)})
    assert measure(constant, "none", "pixel_auroc", "log_sd") == math.log(1e-4)


def test_an_unfinished_window_is_not_complete():
    run = recorded(composed("study_a")[0])
    short = {name: dict(list(points.items())[:-1]) for name, points in run.series.items()}
    assert not is_complete(replace(run, series=short), "none", "pixel_auroc")
    assert not is_complete(replace(run, tags={**run.tags, "status": "running"}), "none", "pixel_auroc")
    assert not is_complete(None, "none", "pixel_auroc")


def test_missing_pairs_are_counted_and_too_few_exclude_a_data_set():
    runs = whole()
    gone = {f"screw-none-none-lite0-8-{seed}" for seed in (1, 2)}
    effect = contrast_effect(part("a", without(runs, *gone)), between("alternating", "none", "none"), "mean")
    assert effect.counts == (18, 20, 0)
    assert effect.missing == []
    gone |= {"screw-none-alternating-lite0-8-3"}
    effect = contrast_effect(part("a", without(runs, *gone)), between("alternating", "none", "none"), "mean")
    assert effect.counts == (15, 20, 0)
    assert effect.missing == ["screw"]
    words = {(v.claim.name, v.norm): v.word for v in verdicts(part("a", without(runs, *gone)))}
    assert words["H1", "none"] == "missing"
    assert words["H1", "trainable"] == "supported"


def test_a_crashed_run_leaves_its_pair_out_and_is_counted():
    runs = [recorded(run, "crashed" if number == 0 else "finished") for number, run in enumerate(composed("study_a"))]
    effect = contrast_effect(part("a", runs), between("alternating", "none", "trainable"), "mean")
    assert effect.counts == (19, 20, 1)


def test_families_and_verdicts():
    grid = part("a", whole())
    primary, secondary = verdicts(grid), verdicts(grid, IMAGE)
    assert (len(primary), len(secondary)) == (12, 9)
    words = {(v.claim.name, v.norm): v.word for v in primary}
    assert {words["H1", norm] for norm in NORMS} == {words["H2", norm] for norm in NORMS} == {"supported"}
    # the last epoch is even, a crest of the wave, which is higher without AltUB: 1.5 points against the norm's gain
    assert words["H3", "none"] == "refuted"
    # equal KS statistics: no difference, p = 1
    assert {words["H4", norm] for norm in NORMS} == {"unsupported"}
    ps = [v.p for v in primary if v.claim.name == "H1"]
    assert ps == [pytest.approx(12 * 2 / 2**20)] * 3


@pytest.mark.parametrize(
    ("low", "high", "sign", "p", "word"),
    [
        (0.1, 0.5, 1, 0.01, "supported"),
        (0.1, 0.5, 1, 0.06, "unsupported"),
        (-0.1, 0.5, 1, 0.01, "unsupported"),
        (-0.5, -0.1, 1, 0.9, "refuted"),
        (-0.5, -0.1, -1, 0.01, "supported"),
        (0.1, 0.5, -1, 0.01, "refuted"),
    ],
)
def test_verdict_follows_the_protocol(low, high, sign, p, word):
    assert verdict(Effect("", (), 0.0, low, high, 0.5), sign, p) == word


def test_decomposition_adds_up():
    grid = part("a", whole())
    effects = {contrast.name: contrast_effect(grid, contrast, "mean").value for contrast in DECOMPOSITION}
    for norm in NORMS:
        altub = contrast_effect(grid, between("alternating", "none", norm), "mean").value
        assert effects[f"standardising, norm {norm}"] == pytest.approx(0.1)
        assert effects[f"standardising, norm {norm}"] + effects[f"alternating, norm {norm}"] == pytest.approx(altub)
    assert effects["removing the norm, `none`"] == pytest.approx(-1)
    assert effects["counting the norm, `none`"] == pytest.approx(-2)
    repair = 100 * (GAINS["trainable"] - GAINS["none"])
    assert effects["AltUB as a repair of the norm"] == pytest.approx(repair)


def test_correlation_is_over_the_epochs_that_have_both():
    (screw, *_), (ks, *_) = DATA, correlations(part("a", whole()))
    assert (ks.indicator, ks.data) == ("ks", screw)
    assert len(ks.within) == 30
    # KS and AUROC move against each other
    assert ks.negative == 30
    gains = [found for found in correlations(part("a", whole())) if found.indicator == "norm_gain"]
    assert [found.within for found in gains] == [()] * 4


def test_recipe_is_chosen_on_two_data_sets_and_checked_on_the_others():
    choice = choose(part("a", whole()))
    means = {
        (norm, arm): np.mean([window_mean(data, norm, arm, seed) for data, seed in product(CHOOSING, SEEDS)])
        for norm, arm in product(NORMS, ("none", "fitted", "alternating"))
    }
    assert {(c.norm, c.arm): c.mean for c in choice.candidates} == pytest.approx(means)
    assert choice.recipe == ("trainable", "alternating")
    assert choice.fixed_epoch == 10
    assert [regret.rule for regret in choice.regrets] == [*RULES, "fixed epoch 10", "best epoch (needs labels)"]
    # even epochs are crests of the wave: a gain of 0.5 points on the window's mean
    assert choice.regrets[0].by_set["screw"] == pytest.approx(-0.5)
    for check, base in zip(choice.checks, ("none", "alternating"), strict=True):
        assert [pairs.data for pairs in check.pairs] == list(CHECKING)
        assert check.counts == (10, 10, 0)
        expected = 0.8 if base == "none" else 0.0  # gain 2 + 0.3 + crest 0.5 − crest 2
        assert check.value == pytest.approx(expected)


def test_no_recipe_is_chosen_while_runs_are_missing():
    gone = {f"elpv-counted-none-lite0-8-{seed}" for seed in (1, 2, 3)}
    choice = choose(part("a", without(whole(), *gone)))
    assert (choice.recipe, choice.checks) == (None, ())
    assert [(c.norm, c.arm) for c in choice.candidates if c.mean is None] == [
        ("counted", "none"),
        ("counted", "fitted"),
    ]


def test_rules_for_when_to_stop():
    run = recorded(composed("study_a")[0])
    assert smallest_ks(run) == 2
    longer = {"eval.last_epoch": "60", "train.epochs": "60"}
    falling = {epoch: -0.01 * min(epoch, 30) for epoch in range(1, 61)}
    run = replace(run, params={**run.params, **longer}, series={"loss": falling})
    expected = next(
        epoch
        for epoch in range(20, 61)
        if np.mean([falling[e] for e in range(epoch - 9, epoch - 4)])
        - np.mean([falling[e] for e in range(epoch - 4, epoch + 1)])
        < 0.01
    )
    assert plateau(run) == expected
    assert plateau(replace(run, series={"loss": {epoch: -0.01 * epoch for epoch in range(1, 61)}})) == 60


def test_claims_data_sets_and_parts_are_those_of_the_document():
    lines = (ROOT / "docs" / "study-protocol.md").read_text().splitlines()
    rows = {line[2:].split(" | ")[0]: line for line in lines if line.startswith("| ")}
    for claim in CLAIMS:
        assert rows[f"{claim.name} {claim.text}"].endswith(f"| {'+' if claim.sign > 0 else '−'} |")
    for data in DATA:
        assert f"| `dataset={data.dataset} dataset.category={data.category}` |" in rows[data.name]
        assert rows[data.name].endswith(f"| {'yes' if data.primary == PIXEL else 'no'} |")
    assert [name for name in rows if len(name) == 1] == list(PARTS)
