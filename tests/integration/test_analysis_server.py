"""The analysis reads the same from a real MLflow server as was sent to it."""

from __future__ import annotations

import pytest

from altub_exp.tracking.store import import_mlflow
from analysis.runs import readers
from analysis.runs.records import read
from tests.analysis.conftest import TABLES, table
from tests.analysis.figure_runs import capsule_units, files, latents
from tests.analysis.filler import Filler, log
from tests.commandline import run

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def sent(server):
    specs = Filler(only=lambda spot: spot.dataset == "btad" and spot.category != "03", experiment="btad").specs()
    log(specs, import_mlflow()(tracking_uri=server.uri))
    return {spec.run_id: spec for spec in specs}


def check(uri, sent):
    found = read(uri, ["btad"])
    assert {one.run_id for one in found.runs} == set(sent)
    for one in found.runs:
        assert one.series == sent[one.run_id].series
        assert one.params == sent[one.run_id].params
        assert sent[one.run_id].tags.items() <= one.tags.items()


def test_all_points_through_the_bulk_endpoint(server, sent, monkeypatch):
    monkeypatch.setattr("mlflow.MlflowClient.get_metric_history", None)  # it would show
    check(server.uri, sent)


def test_what_one_request_cannot_hold_is_asked_for_in_parts(server, sent, monkeypatch):
    monkeypatch.setattr(readers, "POINTS_AT_ONCE", 500)  # one run has 300 of some metrics, four have 1200
    monkeypatch.setattr("mlflow.MlflowClient.get_metric_history", None)
    check(server.uri, sent)
    monkeypatch.undo()
    monkeypatch.setattr(readers, "POINTS_AT_ONCE", 200)  # less than a run has: left to the client
    check(server.uri, sent)


def test_a_server_without_the_endpoint_is_read_through_the_client(server, sent, monkeypatch):
    monkeypatch.setattr(readers, "BULK", "/api/2.0/mlflow/metrics/no-such-endpoint")
    check(server.uri, sent)


def test_other_errors_are_no_reason_to_go_another_way(server, sent, monkeypatch, tmp_path):
    monkeypatch.setattr(readers, "RUNS_AT_ONCE", 2)
    monkeypatch.setattr(readers, "SERIES", ("pixel_auroc",))
    monkeypatch.setattr(readers, "BULK", "/ajax-api/2.0/mlflow/runs/get")  # answers 400: no run_id that it knows
    with pytest.raises(Exception, match="cannot be read"):
        read(server.uri, ["btad"])
    _, stderr = run(tmp_path, "all", "--tracking-uri", "http://127.0.0.1:9", module=TABLES, expect=1)
    assert "MLflow at http://127.0.0.1:9 cannot be read (no connection)" in stderr
    assert "Traceback" not in stderr


def test_tables_through_the_command_line(server, sent, tmp_path):
    arguments = ("--experiment", "btad")
    stdout, _ = run(tmp_path, "table4", *arguments, module=TABLES, MLFLOW_TRACKING_URI=server.uri)
    assert server.uri in stdout
    rows = {(row["category"], row["altub"]): row for row in table(tmp_path / "results" / "tables", "table4")}
    assert (float(rows["01", "alternating"]["mean"]), rows["03", "none"]["state"]) == (96.7, "missing")
    assert rows["overall", "none"]["cells"] == "2/3"


def test_figures_download_the_files_of_runs_from_the_server(server, tmp_path):
    spec = capsule_units()
    spec.experiment = "units"
    client = import_mlflow()(tracking_uri=server.uri)
    log([spec], client)
    client.log_artifact(spec.run_id, str(files(tmp_path, spec, normality=latents()) / "normality.json"))
    stdout, _ = run(tmp_path, "fig1", "--tracking-uri", server.uri, "--experiment", "units", module="analysis.figures")
    assert "results/figures/fig1.png" in stdout
    assert (tmp_path / "results/figures/fig1.png").stat().st_size > 10_000
