"""The reader takes all of this program's runs from a store, and leaves the others."""

from __future__ import annotations

import math
import sqlite3
from contextlib import closing

import pytest

from altub_exp.tracking.store import import_mlflow
from altub_exp.tracking.uri import TrackingUri
from analysis.runs import records
from analysis.runs.records import read
from tests.analysis.filler import Filler, write


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    specs = Filler(only=lambda spot: spot.category == "02").specs()
    specs[1].experiment = "second"
    return write(specs, tmp_path_factory.mktemp("records")), specs


def test_everything_that_was_written_is_read(filled):
    uri, specs = filled
    found = read(uri)
    assert found.experiments == ("altub", "second")
    assert [run.run_id for run in found.runs] == [spec.run_id for spec in specs]
    for run, spec in zip(found.runs, specs, strict=True):
        assert (run.tags, run.params, run.experiment) == (spec.tags, spec.params, spec.experiment)
        assert run.series == spec.series
        assert run.metrics["pixel_auroc"] == spec.series["pixel_auroc"][300]
        assert (run.window, run.missing(), run.state, run.last_epoch) == ((100, 300), 0, "finished", 300)


def test_mlflow_itself_reads_the_store_that_was_filled(filled):
    uri, specs = filled
    client = import_mlflow()(tracking_uri=uri)
    experiments = [one.experiment_id for one in client.search_experiments()]
    found = {run.info.run_id: run for run in client.search_runs(experiments)}
    assert {run_id: run.data.tags for run_id, run in found.items()} == {spec.run_id: spec.tags for spec in specs}
    history = client.get_metric_history(specs[0].run_id, "pixel_auroc")
    assert {point.step: point.value for point in history} == specs[0].series["pixel_auroc"]


def test_only_the_experiments_asked_for(filled):
    uri, specs = filled
    assert [run.run_id for run in read(uri, ["second"]).runs] == [specs[1].run_id]


def test_a_password_is_not_repeated(monkeypatch):
    def refuse(uri, experiments):
        raise ConnectionError("nobody answers")

    monkeypatch.setattr(records, "read_database", refuse)
    with pytest.raises(records.UserError, match="postgresql://db/mlflow cannot be read") as raised:
        read(TrackingUri("postgresql://me:secret@db/mlflow"))
    assert "secret" not in str(raised.value)


def test_later_points_win_nan_is_nan_and_deleted_runs_and_parents_are_left_out(tmp_path):
    specs = Filler(only=lambda spot: spot.category == "02").specs()
    uri = write(specs, tmp_path)
    client = import_mlflow()(tracking_uri=uri)
    kept, deleted = (spec.run_id for spec in specs)
    later = specs[0].started + 10**6
    client.log_metric(kept, "pixel_auroc", 0.25, timestamp=later, step=150)
    client.log_metric(kept, "pixel_auroc", 0.75, timestamp=later - 1, step=150)
    client.log_metric(kept, "ks", math.nan, timestamp=later, step=20)
    client.delete_run(deleted)
    client.create_run(client.get_experiment_by_name("altub").experiment_id, tags={"sweep_parent": "s"})
    before = (tmp_path / "mlflow.db").read_bytes()
    (run,) = read(uri).runs
    assert run.run_id == kept
    assert run.series["pixel_auroc"][150] == 0.25
    assert math.isnan(run.series["ks"][20])
    assert run.series["ks"][30] == specs[0].series["ks"][30]
    assert (tmp_path / "mlflow.db").read_bytes() == before


def test_a_run_without_a_window_is_a_sentence(tmp_path):
    specs = Filler(only=lambda spot: spot.category == "02").specs()
    del specs[0].params["eval.first_epoch"]
    run = read(write(specs, tmp_path)).by_id[specs[0].run_id]
    with pytest.raises(records.UserError, match=r"choose one by --window"):
        run.statistics("pixel_auroc")
    assert read(f"sqlite:///{tmp_path}/mlflow.db").windowed(10, 20).by_id[run.run_id].window == (10, 20)


def test_a_store_that_is_locked_for_writing_is_read(filled):
    uri, specs = filled
    with closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as writer:
        writer.execute("BEGIN IMMEDIATE")
        assert len(read(uri).runs) == len(specs)
