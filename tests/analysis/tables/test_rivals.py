"""Rivals in Table 1: their measured cells stand beside the quoted ones, and never enter them."""

from dataclasses import replace

import pytest

from analysis.paper.cells import CellState
from analysis.paper.paper_cells import PaperCells
from analysis.paper.protocol import expected_params
from analysis.paper.values import Key, values
from analysis.runs.records import Records
from analysis.runs.run import Run
from analysis.tables.mvtec import table1


def rival(model, backbone, category="screw", **params):
    """A finished run of one epoch, with a pixel AUROC of 0.9 and an image AUROC of 0.8."""
    recorded = dict(expected_params("mvtec", model, backbone, "none", category)) | {"eval.first_epoch": "1"}
    recorded |= {"eval.last_epoch": "1", "train.epochs": "1"} | params
    tags = {"dataset": "mvtec", "category": category, "model": model, "backbone": backbone, "altub": "none"}
    tags |= {"seed": "25", "run_key": f"seed25-{model}{backbone}", "status": "finished", "source": "anomalib 2.7.0"}
    series = {"pixel_auroc": {1: 0.9}, "image_auroc": {1: 0.8}}
    return Run(f"{model}-{backbone}-{category}", model, "altub", tags, recorded, {}, series)


def made(*runs):
    table = table1(PaperCells(Records("sqlite:///nowhere.db", ("altub",), runs)))
    return table, {tuple(row[key] for key in ("category", "model", "task")): row for row in table.data}


def test_without_a_rival_the_table_is_as_the_paper_quotes_it():
    table, rows = made()
    assert rows["screw", "patchcore", "segmentation"]["state"] == CellState.quoted
    assert not any("anomalib" in remark for remark in table.remarks)


def test_a_measured_cell_keeps_the_quoted_value_beside_it():
    table, rows = made(rival("patchcore", "wrn50_tv"), rival("draem", "none"))
    quotes = values("table1")
    for task, ours in (("segmentation", 90.0), ("detection", 80.0)):
        for model, column in (("patchcore", "patchcore"), ("draem", "sspcab_draem")):
            row = rows["screw", model, task]
            assert row["best"] == pytest.approx(ours)
            assert row["paper_best"] == quotes[Key("screw", column, "", "", task)].best
            overall = rows["overall", model, task]
            assert (overall["best"], overall["cells"]) == (pytest.approx(ours), "1/15")
            assert overall["paper_best"] == quotes[Key("overall", column, "", "", task)].best
            assert rows["carpet", column, task]["state"] == CellState.quoted
    assert any("anomalib 2.7.0" in remark and "never mixed" in remark for remark in table.remarks)
    assert "DTD" in rows["screw", "draem", "segmentation"]["notes"]
    assert "Deviates" not in rows["screw", "patchcore", "segmentation"]["notes"]


def test_another_backbone_or_option_is_named_and_the_published_one_is_preferred():
    _, rows = made(rival("patchcore", "lite0", **{"model.coreset_ratio": "0.01"}), rival("draem", "none"))
    notes = rows["screw", "patchcore", "detection"]["notes"]
    assert "on the backbone lite0, the publication's on wrn50_tv" in notes
    assert "model.coreset_ratio=0.01 (paper: 0.1)" in notes
    _, rows = made(rival("patchcore", "lite0"), rival("patchcore", "wrn50_tv"))
    assert rows["screw", "patchcore", "detection"]["backbone"] == "wrn50_tv"
    plain = rival("draem", "none", **{"model.sspcab": "False"})
    _, rows = made(plain)
    assert "model.sspcab=False (paper: True)" in rows["screw", "draem", "detection"]["notes"]


def test_a_run_on_a_backbone_that_the_program_does_not_name_fills_no_cell():
    run = rival("patchcore", "lite0")
    _, rows = made(replace(run, tags=run.tags | {"backbone": "convnext_tiny.fb_in1k"}))
    assert rows["screw", "patchcore", "detection"]["state"] == CellState.quoted


def test_quoted_flows_that_this_program_has_are_measured_too():
    runs = [rival("csflow", "b5"), rival("differnet", "lite0", **{"train.epochs": "12"})]
    runs = [replace(run, tags={key: value for key, value in run.tags.items() if key != "source"}) for run in runs]
    table, rows = made(*runs)
    quotes = values("table1")
    for model, column in (("csflow", "cs_flow"), ("differnet", "differnet")):
        row = rows["screw", model, "detection"]
        assert row["best"] == pytest.approx(80)
        assert row["paper_best"] == quotes[Key("screw", column, "", "", "detection")].best
    notes = rows["screw", "differnet", "detection"]["notes"]
    assert "on the backbone lite0, the publication's on alexnet" in notes
    assert "train.epochs=12 (paper: 192)" in notes
    assert "measured by this program" in " ".join(table.remarks)
