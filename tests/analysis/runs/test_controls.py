"""Base distributions beside the paper's: their order and labels, and that they never stand for the paper's."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from altub_exp.config.compose import options
from altub_exp.tracking.lifecycle import flatten
from analysis.figures.curves import psi_only_epochs
from analysis.figures.style import BASES as LOOKS
from analysis.figures.style import CONTROLS as LABELS
from analysis.figures.style import base_label, looks
from analysis.paper.protocol import deviations
from analysis.paper.selection import Selection
from analysis.paper.values import Key
from analysis.runs.conditions import conditions
from analysis.runs.records import BASES, CONTROLS, Records, base_order
from analysis.runs.run import Run


@pytest.fixture
def recorded(compose):
    """A function that makes a finished run of a command, with its tags and params."""

    def make(*overrides):
        config = compose("dataset.category=screw", *overrides)
        params = {key: str(value) for key, value in flatten(asdict(config)).items()}
        tags = {"dataset": "mvtec", "category": "screw", "model": config.model.name, "backbone": "r18"}
        tags |= {"altub": config.altub.name, "seed": "25", "status": "finished", "run_key": " ".join(overrides)}
        series = {"pixel_auroc": dict.fromkeys(range(1, 301), 0.9)}
        return Run(" ".join(overrides), "name", "altub", tags, params, {}, series)

    return make


def test_every_option_has_a_label_and_a_place_after_the_papers():
    assert set(options("altub")) == {*BASES, *CONTROLS}
    assert tuple(LABELS) == CONTROLS
    assert [base_order(base) for base in (*BASES, *CONTROLS)] == list(range(10))
    assert base_order("sinh_arcsinh") == 10
    labels = [base_label(base) for base in (*BASES, *CONTROLS)]
    assert len(set(labels)) == 10
    assert [look.label for look in looks([*BASES, *CONTROLS])] == labels
    drawn = {(look.colour, look.line, look.marker) for look in looks([*BASES, *CONTROLS])}
    assert len(drawn) == 10
    assert set(LOOKS) == set(BASES)


@pytest.mark.parametrize("base", CONTROLS)
def test_a_control_is_no_run_of_a_papers_row(recorded, base):
    runs = (recorded(f"altub={base}"), recorded("altub=none"))
    selection = Selection(Records("uri", ("altub",), runs))
    for row in BASES:
        selected = selection.runs_of("mvtec", Key("screw", "fastflow", "r18", row, "segmentation"))
        assert [run.run_id for run in selected.runs] == (["altub=none"] if row == "none" else [])
    assert selection.used == {"altub=none"}


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        ("altub=alternating altub.base=channelwise", "altub.base"),
        ("altub=alternating altub.base=split_prior", "altub.base"),
        ("altub=stereotype altub.learned_by=sgd", "altub.learned_by"),
        ("altub=stereotype altub.learned_by=moments", "altub.learned_by"),
        ("altub=alternating altub.freezing_unit=cycle", "altub.freezing_unit"),
        ("altub=alternating altub.idle=joint", "altub.idle"),
    ],
)
def test_another_reading_under_a_papers_name_deviates(recorded, overrides, key):
    assert list(deviations(recorded(*overrides.split()))) == [key]


def test_the_other_loss_of_psi_only_epochs_deviates(recorded):
    run = recorded("model=cflow", "backbone=wrn50_tv", "altub.psi_loss=nats")
    run.tags["backbone"] = "wrn50_tv"
    assert deviations(run) == {"altub.psi_loss": ("nats", "objective")}


def test_fitted_scores_beside_its_own_leave_a_run_as_it_is(recorded):
    run = recorded("altub=none", "eval.fitted=true")
    assert deviations(run) == {}
    (condition,) = conditions([run, recorded("altub=alternating"), recorded("altub=mu_only")])
    assert [variant.base for variant in condition.variants] == ["none", "alternating", "mu_only"]


def test_ticks_mark_whole_cycles_where_the_interval_counts_them(recorded):
    run = recorded("model=cflow", "altub.freezing_unit=cycle")
    frozen = {(epoch - 1) // 8 + 1 for epoch in psi_only_epochs(run)}
    assert frozen == {5, 10, 15, 20, 25, 30, 35}  # meta-epochs, as far as 300 sub-epochs
    assert psi_only_epochs(run)[:9] == [*range(33, 41), 73]
    assert psi_only_epochs(recorded("altub=constant")) == []
    assert psi_only_epochs(recorded("altub=mu_only"))[:2] == [5, 10]
