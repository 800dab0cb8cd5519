"""Many writers at once to a server over PostgreSQL, and a server that asks for a password."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from altub_exp.runs.folder import RunFolder
from altub_exp.runs.states import RunState
from altub_exp.tracking import store
from altub_exp.tracking.tracker import Tracker
from tests.integration.conftest import Server

pytestmark = pytest.mark.server

WRITERS = 40
EPOCHS = 200
METRICS = 10
PASSWORD = "correct horse battery"


def tracker(uri: str, experiment: str, path: Path) -> Tracker:
    folder = RunFolder(path)
    folder.write_status(state=RunState.running)
    return Tracker(uri, experiment, path.name, {"model": "fastflow"}, {"seed": 25}, folder, 1_700_000_000_000)


def test_forty_writers_at_once_lose_and_double_no_point(postgresql_server, postgresql, tmp_path, monkeypatch, caplog):
    # a burst of 40 keeps two cores busy for longer than the tracker waits; here only the server's own errors count
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "120")
    store.import_mlflow()  # before the threads, which would import it all at once
    finished = []

    def write(number: int) -> None:
        track = tracker(postgresql_server.uri, "writers", tmp_path / "runs" / f"{number}")
        for epoch in range(1, EPOCHS + 1):
            track.folder.journal.append(
                {"epoch": epoch} | {f"metric{index}": number + epoch for index in range(METRICS)}
            )
            if epoch % 10 == 0:
                track.flush(epoch)
        finished.append(track.finish(RunState.finished, {}, []))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [record.getMessage() for record in caplog.records] == []
    assert finished == [True] * WRITERS
    counts = "SELECT run_uuid, count(*), count(DISTINCT (key, step)), sum(value - step)"
    tables = "metrics JOIN runs USING (run_uuid) JOIN experiments USING (experiment_id)"
    rows = postgresql.query(f"{counts} FROM {tables} WHERE experiments.name = 'writers' GROUP BY run_uuid")
    assert [row[1:3] for row in rows] == [(EPOCHS * METRICS, EPOCHS * METRICS)] * WRITERS
    assert sorted(row[3] for row in rows) == [number * EPOCHS * METRICS for number in range(WRITERS)]


def test_a_server_that_asks_for_a_password(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO, logger="altub_exp")
    server = Server(tmp_path)
    options = [
        "--port",
        str(server.port),
        "--app-name",
        "basic-auth",
        "--artifacts-destination",
        str(tmp_path / "files"),
    ]
    server.command = [sys.executable, "-m", "altub_exp.server", *options]
    server.environment["MLFLOW_AUTH_ADMIN_PASSWORD"] = PASSWORD
    try:
        server.start()
        track = tracker(server.uri, "secret", tmp_path / "runs" / "seed25")
        track.folder.journal.append({"epoch": 1, "loss": 1.5})
        assert not track.flush(1)
        assert [record.getMessage() for record in caplog.records] == [
            f"MLflow at {server.uri} does not record (it asks for a name and a password: set MLFLOW_TRACKING_USERNAME "
            "and MLFLOW_TRACKING_PASSWORD); training continues, the points stay in the run's folder and are sent later."
        ]
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong")
        assert not track.finish(RunState.finished, {}, [])
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
        picture = track.folder.path / "auroc.png"
        picture.write_bytes(b"png")
        assert track.finish(RunState.finished, {}, [picture])
        client = store.import_mlflow()(tracking_uri=server.uri)
        (run,) = client.search_runs([client.get_experiment_by_name("secret").experiment_id])
        assert run.data.metrics == {"loss": 1.5}
        assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["auroc.png"]
    finally:
        server.process.terminate()
        assert server.process.wait(timeout=60) == 0
    assert not server.answers()


def test_ctrl_c_ends_a_server_with_one_line(tmp_path):
    server = Server(tmp_path)
    server.command = [sys.executable, "-m", "altub_exp.server", "--port", str(server.port)]
    server.start()
    os.killpg(server.process.pid, signal.SIGINT)
    assert server.process.wait(timeout=60) == 130
    log = (tmp_path / "server.log").read_text()
    assert log.splitlines()[-1] == "interrupted"
    assert "Traceback" not in log
    assert not server.answers()
