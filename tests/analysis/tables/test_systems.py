"""The table of systems, from runs whose numbers are known."""

from __future__ import annotations

import pytest

from analysis.runs.records import Records
from analysis.runs.run import Run
from analysis.tables.systems import systems


def one(system, altub="none", category="screw", seed="1", pixel=0.9, state="finished", metrics=None, **params):
    """A run of two epochs, whose pixel AUROC is 0.02 lower in the first."""
    model, backbone = system.split("-")
    tags = {"dataset": "mvtec", "category": category, "model": model, "backbone": backbone, "altub": altub}
    tags |= {"seed": seed, "status": state, "device": "a processor"}
    recorded = {"eval.first_epoch": "1", "eval.last_epoch": "2", "train.epochs": "2", "dataset.image_size": "128"}
    series = {"pixel_auroc": {1: pixel - 0.02, 2: pixel}, "image_auroc": {1: 0.8, 2: 0.8}}
    name = "-".join((system, altub, category, seed, *params.values()))
    return Run(name, name, "altub", tags, recorded | params, metrics or {}, series)


COST = {"inference_ms": 12.34, "inference_mb": 56.7, "pixel_aupro": 0.75}


def table(*runs):
    return systems(Records("sqlite:///nowhere.db", ("altub",), runs))


def texts(made):
    return [[entry.text for entry in line] for line in made.lines]


def test_systems_on_the_same_images_stand_below_one_another_with_their_cost():
    made = table(
        one("fastflow-lite0", pixel=0.93, metrics=COST),
        one("fastflow-lite0", altub="alternating", pixel=0.95),
        one("patchcore-lite0", pixel=0.94, metrics=COST),
        one("patchcore-lite0", category="bottle"),
    )
    assert [len(block) for block in made.blocks] == [3, 1]
    assert texts(made)[:3] == [
        [
            "mvtec/screw",
            "fastflow-lite0",
            "none",
            "128",
            "1–2",
            "1",
            "92.00 ± 1.00",
            "80.00 ± 0.00",
            "75.00",
            "12.3",
            "57",
        ],
        ["", "fastflow-lite0", "alternating", "128", "1–2", "1", "94.00 ± 1.00", "80.00 ± 0.00", "—", "—", "—"],
        ["", "patchcore-lite0", "none", "128", "1–2", "1", "93.00 ± 1.00", "80.00 ± 0.00", "75.00", "12.3", "57"],
    ]
    assert [line[6].bold for line in made.lines] == [False, True, False, True]
    assert all(line[7].bold for line in made.lines), "equal values are all the best"
    assert "Time and memory measured on a processor." in made.remarks
    assert any(remark.startswith("Without time and memory: 2 of 4 runs; `python -m") for remark in made.remarks)
    assert made.summary == "4 systems on 2 categories"


def test_seeds_are_averaged_and_only_complete_runs_count():
    lacking = one("cflow-lite0", seed="3")
    del lacking.series["image_auroc"][2]
    made = table(
        one("cflow-lite0", pixel=0.90, metrics=COST),
        one("cflow-lite0", seed="2", pixel=0.94),
        lacking,
        one("csflow-lite0", state="crashed"),
    )
    first, second = texts(made)
    assert first[5:] == ["2", "91.00 ± 1.00", "80.00 ± 0.00", "—", "12.3", "57"], "no AUPRO of one of two seeds"
    assert second[5:] == ["1 crashed", "—", "—", "—", "—", "—"]
    row = made.data[0]
    assert (row["seeds"], row["states"], row["pixel_mean"]) == (2, "3 finished", pytest.approx(91))
    assert len(row["run_ids"].split(";")) == len(made.run_ids) == 2


def test_a_single_epoch_has_no_standard_deviation():
    (line,) = texts(table(one("patchcore-lite0", **{"eval.first_epoch": "2"})))
    assert line[4:8] == ["2–2", "1", "90.00", "80.00"]


def test_settings_of_one_system_are_told_apart_but_not_by_keys_that_came_later():
    made = table(
        one("fastflow-lite0", **{"model.steps": "4"}),
        one("fastflow-lite0", seed="2", **{"model.steps": "4", "dataset.keep_aspect": "False"}),
        one("fastflow-lite0", **{"model.steps": "8"}),
    )
    assert [line[1] for line in texts(made)] == ["fastflow-lite0 model.steps=4", "fastflow-lite0 model.steps=8"]
    assert [row["seeds"] for row in made.data] == [2, 1]
