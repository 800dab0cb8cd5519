"""The tracker and sync against real SQLite stores: every point arrives once, and nothing stops the training."""

from __future__ import annotations

import copy
import json
import logging
import math
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from altub_exp import sync
from altub_exp.errors import UserError
from altub_exp.runs.folder import RunFolder
from altub_exp.runs.states import RunState
from altub_exp.tracking import store
from altub_exp.tracking.store import prepare_store, reason
from altub_exp.tracking.tracker import Tracker
from altub_exp.tracking.uri import TrackingUri, database, resolve_uri, whole
from tests.stores import place_store

START = 1_700_000_000_000


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    return place_store(tmp_path_factory.mktemp("template"))


@pytest.fixture
def uri(template: Path, tmp_path: Path) -> str:
    shutil.copy(template, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path}/mlflow.db"


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "runs" / "seed25")
    folder.write_status(state=RunState.running)
    return folder


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def tracker(uri: str, folder: RunFolder, **fields) -> Tracker:
    plain = {
        "experiment": "altub",
        "name": "screw r18",
        "tags": {"model": "fastflow"},
        "params": {"seed": 25, "train.lr": 1e-3},
        "start_time": START,
    }
    return Tracker(uri=uri, folder=folder, **(plain | fields))


def append(folder: RunFolder, *epochs: int, value: float = 0.5, time: int | None = None) -> None:
    for epoch in epochs:
        row = {"epoch": epoch, "loss": value, "pixel_auroc": epoch / 1000}
        folder.journal.append(row if time is None else row | {"time": time + epoch})


def client(uri: str):
    return store.import_mlflow()(tracking_uri=uri)


def runs(uri: str, experiment: str = "altub") -> list:
    """Return all active runs of an experiment."""
    found = client(uri).get_experiment_by_name(experiment)
    return client(uri).search_runs([found.experiment_id]) if found else []


def points(uri: str, key: str = "loss") -> list[tuple[int, float]]:
    """Return every recorded (step, value) of the only run, including repeated ones."""
    (run,) = runs(uri)
    return sorted((point.step, point.value) for point in client(uri).get_metric_history(run.info.run_id, key))


@pytest.fixture
def wire(monkeypatch) -> Counter:
    """Count the calls of MLflow for each (metric, step)."""
    sent: Counter = Counter()
    mlflow_client = store.import_mlflow()
    deliver = mlflow_client.log_batch

    def log_batch(self, run_id, metrics=(), params=(), tags=(), **rest):
        assert len(metrics) <= 1000
        assert len(params) <= 100
        deliver(self, run_id, metrics, params, tags, **rest)
        sent.update((metric.key, metric.step) for metric in metrics)

    monkeypatch.setattr(mlflow_client, "log_batch", log_batch)
    return sent


def test_uri_of_sqlite_becomes_absolute(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolve_uri("sqlite:///new/mlflow.db") == f"sqlite:///{tmp_path}/new/mlflow.db"
    assert (tmp_path / "new").is_dir()
    assert resolve_uri(f"sqlite:///{tmp_path}/a.db") == f"sqlite:///{tmp_path}/a.db"


def test_environment_wins_over_the_configuration(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000/")
    assert resolve_uri("sqlite:///mlflow.db") == "http://server:5000"
    assert resolve_uri("http://other", variable=None) == "http://other"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert resolve_uri("postgresql+psycopg://host/db") == "postgresql+psycopg://host/db"


@pytest.mark.parametrize(
    "uri",
    ["mlruns", "/tmp/mlruns", "file:///tmp/mlruns", "sqlite://x.db", "sqlite:///:memory:", "", "http://", "x://y"],
)
def test_uri_that_mlflow_refuses(uri: str):
    with pytest.raises(UserError, match="sqlite:///PATH"):
        resolve_uri(uri)


def test_uri_that_cannot_be_written(tmp_path: Path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be created"):
        resolve_uri(f"sqlite:///{tmp_path}/file/mlflow.db")
    with pytest.raises(UserError, match="cannot be written"):
        resolve_uri(f"sqlite:///{tmp_path}")
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)  # root may write everywhere
    with pytest.raises(UserError, match="cannot be written"):
        resolve_uri(f"sqlite:///{tmp_path}/mlflow.db")


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://user:secret@host:1/x", "https://host:1/x"),
        ("https://user:sec/r#e?t@host:1/x", "https://host:1/x"),
        ("postgresql://host/db?sslmode=require&password=secret", "postgresql://host/db?sslmode=require"),
        ("postgresql+psycopg://u:secret@host/db", "postgresql+psycopg://host/db"),
    ],
)
def test_credentials_come_from_the_environment_only_and_are_in_no_text(monkeypatch, uri, shown):
    with pytest.raises(UserError, match="set MLFLOW_TRACKING_URI to the whole address") as refused:
        resolve_uri(uri)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    found = resolve_uri("sqlite:///mlflow.db")
    assert (str(found), f"{found}", json.dumps({found: found})) == (shown, shown, f'{{"{shown}": "{shown}"}}')
    assert whole(found) == whole(copy.deepcopy(found)) == uri
    assert "sec" not in repr(found)
    assert "://" not in str(refused.value)
    assert reason(RuntimeError(f"cannot connect to {uri} now")) == f"cannot connect to {shown} now"


def test_a_path_with_an_at_sign_is_no_password():
    assert TrackingUri("sqlite:////a@b/mlflow.db") == "sqlite:////a@b/mlflow.db"


def test_store_that_is_none(tmp_path: Path):
    (tmp_path / "mlflow.db").write_text("this is no database, it is a text of more than a hundred bytes" * 3)
    with pytest.raises(UserError, match="not a database"):
        prepare_store(f"sqlite:///{tmp_path}/mlflow.db")


def test_store_of_a_newer_mlflow_is_left_alone(uri: str):
    with sqlite3.connect(database(uri)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'fffffffffff1'")
    before = database(uri).read_bytes()
    with pytest.raises(UserError, match="fffffffffff1"):
        prepare_store(uri)
    assert database(uri).read_bytes() == before


OLD_STORE = """
import sys, sqlalchemy
from alembic import command
from alembic.script import ScriptDirectory
from mlflow.store.db.utils import InitialBase, _get_alembic_config
engine = sqlalchemy.create_engine(sys.argv[1])
InitialBase.metadata.create_all(engine)
config = _get_alembic_config(sys.argv[1])
older = list(ScriptDirectory.from_config(config).walk_revisions())[3].revision
with engine.begin() as connection:
    config.attributes["connection"] = connection
    command.upgrade(config, older)
"""


@pytest.mark.slow
def test_store_of_an_older_mlflow_is_upgraded(tmp_path: Path, folder: RunFolder):
    path = tmp_path / "mlflow.db"
    subprocess.run([sys.executable, "-c", OLD_STORE, f"sqlite:///{path}"], check=True, capture_output=True)
    size = path.stat().st_size
    prepare_store(f"sqlite:///{path}")
    (backup,) = tmp_path.glob("mlflow.db.before-upgrade-*")
    (was,), (now,) = (
        sqlite3.connect(file).execute("SELECT version_num FROM alembic_version").fetchone() for file in (backup, path)
    )
    assert backup.name.endswith(was)
    assert was != now
    assert backup.stat().st_size == size
    append(folder, 1)
    assert tracker(f"sqlite:///{path}", folder).flush(1)


def test_each_point_is_sent_once(uri: str, folder: RunFolder, wire: Counter):
    track = tracker(uri, folder)
    assert track.flush(0), "the run shows before its first epoch"
    assert runs(uri)[0].info.status == "RUNNING"
    append(folder, 1, 2, 3, time=START)
    assert track.flush(2)
    assert points(uri) == [(1, 0.5), (2, 0.5)]
    assert track.flush(2)
    append(folder, 4, time=START)
    assert track.flush(4)
    assert points(uri, "pixel_auroc") == [(epoch, epoch / 1000) for epoch in (1, 2, 3, 4)]
    assert set(wire.values()) == {1}
    assert track.sent == 8
    (run,) = runs(uri)
    history = client(uri).get_metric_history(run.info.run_id, "loss")
    assert [point.timestamp for point in history] == [START + epoch for epoch in (1, 2, 3, 4)]


def test_run_carries_name_tags_params_and_times(uri: str, folder: RunFolder):
    params = {f"key{number}": number for number in range(250)} | {"long": "x" * 7000, "none": None}
    assert tracker(uri, folder, params=params).flush(0)
    (run,) = runs(uri)
    assert run.info.run_name == "screw r18"
    assert run.info.start_time == START
    assert len(run.data.params) == 252
    assert run.data.params["key7"] == "7"
    assert len(run.data.params["long"]) == 6000
    tags = {"model": "fastflow", "status": "running", "run_uid": folder.run_uid()}
    assert tags.items() <= run.data.tags.items()


def test_more_points_than_one_call_takes(uri: str, folder: RunFolder, wire: Counter):
    lines = [json.dumps({"epoch": e, "time": START, "a": 1, "b": 2, "c": 3, "d": 4}) for e in range(1, 301)]
    folder.journal.file.write_text("\n".join(lines) + "\n")
    assert tracker(uri, folder).flush(300)
    assert len(wire) == 1200
    assert points(uri, "d") == [(epoch, 4.0) for epoch in range(1, 301)]


def test_nan_and_infinity_arrive(uri: str, folder: RunFolder, wire: Counter):
    for epoch, value in enumerate((math.nan, math.inf, -math.inf, 0.1), start=1):
        append(folder, epoch, value=value)
    assert tracker(uri, folder).flush(4)
    assert tracker(uri, folder).flush(4)
    (_, first), *others = points(uri)
    assert math.isnan(first)
    largest = sys.float_info.max  # SQL has no infinity: MLflow stores the largest double
    assert others == [(2, largest), (3, -largest), (4, 0.1)]
    assert set(wire.values()) == {1}


def test_resumed_process_sends_no_point_again(uri: str, folder: RunFolder, wire: Counter):
    append(folder, 1, 2, 3, 4)
    assert tracker(uri, folder).finish(RunState.failed, {}, [])
    assert runs(uri)[0].info.status == "FAILED"
    folder.write_status(state=RunState.running)
    folder.journal.truncate(2)
    append(folder, 3, 4, 5, time=START)  # computed again, at another time
    track = tracker(uri, folder, params={"seed": 26, "new": 1}, tags={"model": "fastflow", "git_commit": "abc"})
    assert track.flush(5), "a param of another value is no reason to stop recording"
    assert points(uri) == [(epoch, 0.5) for epoch in (1, 2, 3, 4, 5)]
    assert set(wire.values()) == {1}
    (run,) = runs(uri)
    assert run.info.status == "RUNNING"
    assert run.data.tags["status"] == "running"
    assert run.data.tags["git_commit"] == "abc"
    assert run.data.params == {"seed": "25", "train.lr": "0.001", "new": "1"}


def test_finish_records_the_end_and_may_be_called_again(uri: str, folder: RunFolder, wire: Counter, caplog):
    append(folder, 1, 2)
    folder.config.write_text("seed: 25\n")
    (folder.path / "auroc.png").write_bytes(b"png")
    summary = {"pixel_auroc_mean": 0.5, "pixel_auroc_std": math.nan}
    track = tracker(uri, folder)
    assert track.finish(RunState.finished, summary, folder.artifacts())
    ended = folder.status()["ended"]
    time.sleep(0.01)
    uploads = []
    for again in (track, tracker(uri, folder)):
        log_artifact = type(client(uri)).log_artifact
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(client(uri)), "log_artifact", lambda *args: uploads.append(args))
            assert again.finish(RunState.finished, summary, folder.artifacts())
        assert type(client(uri)).log_artifact is log_artifact
    assert uploads == []
    assert set(wire.values()) == {1}
    (run,) = runs(uri)
    assert run.info.status == "FINISHED"
    assert run.info.end_time == ended
    assert run.data.tags["status"] == "finished"
    assert points(uri, "pixel_auroc_mean") == [(2, 0.5)]
    assert math.isnan(points(uri, "pixel_auroc_std")[0][1])
    assert {file.path for file in client(uri).list_artifacts(run.info.run_id)} == {"config.yaml", "auroc.png"}
    assert (folder.path.parents[1] / "mlartifacts" / "altub" / run.info.run_id).is_dir(), "beside the database"
    assert caplog.records == []
    (folder.path / "auroc.png").write_bytes(b"a longer png")
    assert track.finish(RunState.finished, summary, folder.artifacts())
    assert client(uri).list_artifacts(run.info.run_id)[0].file_size == len(b"a longer png")


@pytest.mark.parametrize("state", [RunState.failed, RunState.crashed])
def test_run_that_did_not_finish(uri: str, folder: RunFolder, state: RunState):
    append(folder, 1)
    assert tracker(uri, folder).finish(state, {}, [])
    (run,) = runs(uri)
    assert (run.info.status, run.data.tags["status"]) == ("FAILED", state)


def test_lost_reply_doubles_nothing(uri: str, folder: RunFolder, wire: Counter, clock: Clock, monkeypatch, caplog):
    mlflow_client = store.import_mlflow()
    lost = []

    def lose(name: str) -> None:
        deliver = getattr(mlflow_client, name)

        def once(*args, **kwargs):
            result = deliver(*args, **kwargs)
            if (name, bool(kwargs.get("metrics"))) not in lost:
                lost.append((name, bool(kwargs.get("metrics"))))
                raise ConnectionError("the reply was lost")
            return result

        monkeypatch.setattr(mlflow_client, name, once)

    for name in ("create_experiment", "create_run", "log_batch"):
        lose(name)
    append(folder, 1, 2)
    track = tracker(uri, folder, clock=clock)
    for _ in range(10):
        if track.flush(2):
            break
        clock.now += 1000
    assert lost == [("create_experiment", False), ("create_run", False), ("log_batch", False), ("log_batch", True)]
    assert points(uri) == [(1, 0.5), (2, 0.5)]
    assert set(wire.values()) == {1}


def test_outage_is_told_once_and_attempts_become_rare(uri: str, folder: RunFolder, clock: Clock, caplog, monkeypatch):
    caplog.set_level(logging.INFO, logger="altub_exp")
    path = database(uri)
    track = tracker(uri, folder, clock=clock)
    append(folder, 1)
    assert track.flush(1)
    path.rename(path.with_name("away"))
    attempts = []
    connect = store.connect
    monkeypatch.setattr("altub_exp.tracking.tracker.connect", lambda uri: attempts.append(clock.now) or connect(uri))
    append(folder, 2)
    while clock.now < 200:
        assert not track.flush(2)
        clock.now += 0.5
    assert attempts == [0, 5, 15, 35, 75, 135, 195]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "training continues" in caplog.text
    assert uri in caplog.text
    path.with_name("away").rename(path)
    clock.now = 256
    assert track.flush(2)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert points(uri) == [(1, 0.5), (2, 0.5)]
    path.rename(path.with_name("away"))
    append(folder, 3)
    assert not track.flush(3), "a new outage is told again"
    assert not track.finish(RunState.finished, {}, [])
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO", "WARNING", "WARNING"]
    assert "python -m altub_exp.sync" in caplog.records[-1].getMessage()


def test_locked_database_is_an_outage(uri: str, folder: RunFolder, clock: Clock, monkeypatch, caplog):
    monkeypatch.setattr(store, "SQLITE_WAIT", 0.2)
    append(folder, 1, 2)
    track = tracker(uri, folder, clock=clock)
    assert track.flush(1)
    writer = sqlite3.connect(database(uri), isolation_level=None)
    writer.execute("BEGIN EXCLUSIVE")
    began = time.monotonic()
    assert not track.flush(2)
    assert time.monotonic() - began < 2
    assert "database is locked" in caplog.text
    writer.rollback()
    writer.close()
    clock.now += 5
    assert track.flush(2)
    assert points(uri) == [(1, 0.5), (2, 0.5)]


def test_server_that_never_answers_holds_up_for_one_time_out(folder: RunFolder, clock: Clock, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    store.import_mlflow()  # its seconds do not count below
    with socket.create_server(("127.0.0.1", 0)) as silent:
        track = tracker(f"http://127.0.0.1:{silent.getsockname()[1]}", folder, clock=clock)
        began = time.monotonic()
        assert not track.flush(0)
        assert 0.9 < time.monotonic() - began < 4
        assert not track.flush(0)
        assert time.monotonic() - began < 4
    assert "no answer within 1 s" in caplog.text


def seconds_without_store(uri: str, folder: RunFolder, clock: Clock) -> float:
    """Return the seconds that a run of nine epochs and its end take while nothing of it arrives."""
    track = tracker(uri, folder, clock=clock)
    began = time.monotonic()
    for epoch in range(9):
        assert not track.flush(epoch)
        clock.now += 1000
    assert not track.finish(RunState.finished, {}, [])
    return time.monotonic() - began


@pytest.mark.parametrize("scheme", ["postgresql+psycopg", pytest.param("http", marks=pytest.mark.slow)])
def test_a_store_that_never_answers_costs_a_run_ten_seconds_in_all(scheme, folder: RunFolder, clock: Clock, caplog):
    store.import_mlflow()
    append(folder, *range(1, 9))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}/mlflow"
        assert seconds_without_store(uri, folder, clock) < 10.5
    assert caplog.text.count("does not record") == 2
    assert not tracker(uri, folder, clock=clock).flush(8)  # of another object, as after a failure: nobody listens
    assert "python -m altub_exp.sync" in caplog.text


def test_a_database_that_is_away_delays_nothing(folder: RunFolder, clock: Clock, caplog):
    """MLflow itself tries ten times to connect, for 100 seconds."""
    store.import_mlflow()
    with socket.create_server(("127.0.0.1", 0)) as closed:
        uri = f"postgresql+psycopg://127.0.0.1:{closed.getsockname()[1]}/mlflow"
    assert seconds_without_store(uri, folder, clock) < 5
    assert "onnection refused" in caplog.text


def test_run_that_was_deleted_is_created_anew(uri: str, folder: RunFolder, clock: Clock):
    append(folder, 1)
    track = tracker(uri, folder, clock=clock)
    assert track.flush(1)
    (old,) = runs(uri)
    client(uri).delete_run(old.info.run_id)
    append(folder, 2)
    assert not track.flush(2)
    clock.now += 5
    assert track.flush(2)
    assert runs(uri)[0].info.run_id != old.info.run_id
    assert points(uri) == [(1, 0.5), (2, 0.5)]


def test_store_that_was_replaced_gets_everything(uri: str, template: Path, folder: RunFolder, tmp_path: Path):
    append(folder, 1, 2)
    assert tracker(uri, folder).flush(2)
    shutil.copy(template, tmp_path / "mlflow.db")  # in place, as a restored backup
    assert tracker(uri, folder).flush(2)
    assert points(uri) == [(1, 0.5), (2, 0.5)]


def test_deleted_experiment_is_told_with_its_remedy(uri: str, folder: RunFolder, caplog):
    assert tracker(uri, folder).flush(0)
    client(uri).delete_experiment(runs(uri)[0].info.experiment_id)
    append(folder, 1)
    assert not tracker(uri, folder).flush(1)
    assert "mlflow experiments restore -x 1" in caplog.text


def test_sync_sends_what_is_missing(uri: str, folder: RunFolder, wire: Counter, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr(store, "SQLITE_WAIT", 0.2)
    finished, crashed, dead, held, early = (RunFolder(folder.path.with_name(name)) for name in "abcde")
    for run in (finished, crashed, dead, held):
        run.write_status(state=RunState.running)
        append(run, 1, 2, 3)
        run.config.write_text("seed: 25\n")
    early.write_status(state=RunState.running)
    writer = sqlite3.connect(database(uri), isolation_level=None)
    writer.execute("BEGIN EXCLUSIVE")
    assert not tracker(uri, finished, name="a").finish(RunState.finished, {"pixel_auroc_mean": 0.5}, [])
    assert not tracker(uri, crashed, name="b").finish(RunState.crashed, {}, [])
    dead.write_status(checkpoint_epoch=2)
    tracker(uri, dead, name="c")
    tracker(uri, held, name="d")
    shutil.rmtree(folder.path)
    assert sync.main([str(tmp_path / "runs")]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"error: MLflow at {uri} does not record")
    assert "database is locked" in err
    assert err.count("\n") == 1

    writer.rollback()
    writer.close()
    for sent in ([7, 6, 4], None):
        with held.lock():
            assert sync.main([str(tmp_path / "runs")]) == 0
        told = dict(line.rsplit("/", 1)[1].split(": ", 1) for line in capsys.readouterr().out.splitlines())
        counts = [f"{number} points sent" for number in sent] if sent else ["nothing missing"] * 3
        assert told["a"] == counts[0]
        assert told["b"] == counts[1]
        died = "; its process has died: marked as failed, the same command completes it" if sent else ""
        assert told["c"] == counts[2] + died
        assert told["d"] == "still being computed, skipped"
        assert told["e"] == "ended before anything was recorded, skipped"
    found = {run.info.run_name: run for run in runs(uri)}
    assert {name: run.info.status for name, run in found.items()} == {"a": "FINISHED", "b": "FAILED", "c": "FAILED"}
    assert found["a"].data.metrics["pixel_auroc_mean"] == 0.5
    assert found["a"].info.end_time == finished.status()["ended"]
    assert [file.path for file in client(uri).list_artifacts(found["a"].info.run_id)] == ["config.yaml"]
    history = client(uri).get_metric_history(found["c"].info.run_id, "loss")
    assert [point.step for point in history] == [1, 2], "a resumed run computes the third epoch again"


def test_sync_to_another_place_leaves_the_record(uri: str, template: Path, folder: RunFolder, tmp_path: Path, capsys):
    append(folder, 1)
    tracker(uri, folder).finish(RunState.finished, {}, [])
    shutil.copy(template, tmp_path / "other.db")
    other = f"sqlite:///{tmp_path}/other.db"
    for expected in ("2 points sent", "nothing missing"):
        assert sync.main([str(tmp_path / "runs"), "--uri", other, "--experiment", "copy"]) == 0
        assert capsys.readouterr().out == f"{folder.path}: {expected}\n"
    assert len(runs(other, "copy")) == 1
    assert sync.main([str(tmp_path / "runs")]) == 0
    assert capsys.readouterr().out == f"{folder.path}: nothing missing\n"
    assert points(uri) == [(1, 0.5)]


def test_sync_goes_on_after_a_damaged_run(uri: str, folder: RunFolder, tmp_path: Path, capsys):
    damaged = RunFolder(tmp_path / "runs" / "damaged")
    damaged.path.mkdir()
    damaged.status_file.write_text("{")
    append(folder, 1)
    tracker(uri, folder).folder.write_status(state=RunState.finished)
    assert sync.main([str(tmp_path / "runs")]) == 1
    first, second = capsys.readouterr().out.splitlines()
    assert "damaged" in first
    assert second.endswith("2 points sent")


def test_sync_goes_on_after_a_run_that_mlflow_refuses_and_a_store_that_is_away(
    uri: str, folder: RunFolder, tmp_path: Path, capsys
):
    with socket.create_server(("127.0.0.1", 0)) as free:
        dead = f"http://127.0.0.1:{free.getsockname()[1]}"
    refused, *away = (RunFolder(folder.path.with_name(name)) for name in "abc")
    for run in (refused, *away, folder):
        run.write_status(state=RunState.running)
        append(run, 1)
        tracker(dead if run in away else uri, run, params={"a:?": 1} if run is refused else {}).folder.write_status(
            state=RunState.finished
        )
    assert sync.main([str(tmp_path / "runs")]) == 1
    out, err = capsys.readouterr()
    first, second = out.splitlines()
    assert first.startswith(f"{refused.path}: MLflow at {uri} does not record (Invalid value")
    assert second == f"{folder.path}: 2 points sent"
    assert err == f"error: MLflow at {dead} does not record (no connection).\n", "asked once, not once for each run"


def test_sync_to_a_dead_server(folder: RunFolder, tmp_path: Path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as free:
        dead = f"http://127.0.0.1:{free.getsockname()[1]}"
    tracker("sqlite:///x.db", folder)
    assert sync.main([str(tmp_path / "runs"), "--uri", dead]) == 1
    assert capsys.readouterr().err == f"error: MLflow at {dead} does not record (no connection).\n"


def test_sync_without_a_folder(tmp_path: Path, capsys):
    assert sync.main([str(tmp_path / "absent")]) == 1
    assert "There is no folder" in capsys.readouterr().err
    assert sync.main([str(tmp_path)]) == 0
    assert "There are no runs" in capsys.readouterr().out


def test_sync_help_needs_no_mlflow():
    command = [sys.executable, "-X", "importtime", "-m", "altub_exp.sync", "--help"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "python -m altub_exp.sync runs --uri http" in done.stdout
    assert not {"mlflow", "torch"} & {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}


WORKER = """
import sys
from pathlib import Path
from altub_exp.runs.folder import RunFolder
from altub_exp.runs.states import RunState
from altub_exp.tracking.store import prepare_store
from altub_exp.tracking.tracker import Tracker
from altub_exp.tracking.uri import resolve_uri
number = int(sys.argv[1])
uri = resolve_uri("sqlite:///mlflow.db")
prepare_store(uri)
folder = RunFolder(Path(f"runs/{number}"))
folder.write_status(state=RunState.running)
tracker = Tracker(uri, "altub", str(number), {}, {"seed": number}, folder, 1_700_000_000_000)
for epoch in range(1, 21):
    folder.journal.append({"epoch": epoch, "loss": number + epoch / 100})
    if epoch % 5 == 0:
        tracker.flush(epoch)
for attempt in range(20):
    if tracker.finish(RunState.finished, {"mean": number}, []):
        break
"""


@pytest.mark.slow
def test_eight_processes_open_a_fresh_store_at_once(tmp_path: Path):
    command = [sys.executable, "-c", WORKER]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    workers = [subprocess.Popen([*command, str(number)], cwd=tmp_path, **pipes) for number in range(8)]
    try:
        told = [worker.communicate(timeout=180)[0] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    assert told == [""] * 8, "MLflow is quiet"
    assert [worker.returncode for worker in workers] == [0] * 8
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    found = runs(uri)
    assert sorted(run.info.run_name for run in found) == list("01234567")
    for run in found:
        number = int(run.info.run_name)
        history = client(uri).get_metric_history(run.info.run_id, "loss")
        assert [(p.step, p.value) for p in history] == [(e, number + e / 100) for e in range(1, 21)]
        assert run.info.status == "FINISHED"
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".lock") == ["mlflow.db", "runs"]
