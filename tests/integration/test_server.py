"""The tracker and sync against a real MLflow server that is killed, loses replies and comes back."""

from __future__ import annotations

import logging
import math
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path

import pytest

from altub_exp.runs.folder import RunFolder
from altub_exp.runs.states import RunState
from altub_exp.tracking import store
from altub_exp.tracking.tracker import Tracker


@pytest.fixture
def experiment() -> str:
    return f"altub {uuid.uuid4().hex}"


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "runs" / "seed25")
    folder.write_status(state=RunState.running)
    return folder


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def tracker(uri: str, experiment: str, folder: RunFolder, clock: Clock | None = None) -> Tracker:
    params = {f"key{number}": number for number in range(120)}
    tags = {"model": "fastflow"}
    return Tracker(uri, experiment, folder.path.name, tags, params, folder, 1_700_000_000_000, clock or Clock())


def append(folder: RunFolder, *epochs: int) -> None:
    for epoch in epochs:
        folder.journal.append({"epoch": epoch, "loss": math.nan if epoch == 3 else -epoch, "pixel_auroc": epoch / 1000})


def only_run(uri: str, experiment: str):
    client = store.import_mlflow()(tracking_uri=uri)
    (run,) = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    return client, run


def steps(uri: str, experiment: str, key: str = "loss") -> list[int]:
    client, run = only_run(uri, experiment)
    return sorted(point.step for point in client.get_metric_history(run.info.run_id, key))


def test_a_whole_run(server, experiment: str, folder: RunFolder, caplog, capfd):
    track = tracker(server.uri, experiment, folder)
    append(folder, 1, 2, 3, 4)
    assert track.flush(3)
    folder.config.write_text("seed: 25\n")
    (folder.path / "auroc.png").write_bytes(b"png")
    for again in (track, tracker(server.uri, experiment, folder)):
        assert again.finish(RunState.finished, {"pixel_auroc_mean": 0.002}, folder.artifacts())
    assert again.sent == 0
    client, run = only_run(server.uri, experiment)
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [point.step for point in history] == [1, 2, 3, 4]
    assert math.isnan(history[2].value)
    assert [history[step].value for step in (0, 1, 3)] == [-1, -2, -4]
    assert [point.timestamp for point in history] == [row["time"] for row in folder.journal.rows()]
    assert run.info.status == "FINISHED"
    assert run.info.start_time == 1_700_000_000_000
    assert run.info.end_time == folder.status()["ended"]
    assert len(run.data.params) == 120
    files = {file.path: file.file_size for file in client.list_artifacts(run.info.run_id)}
    assert files == {"auroc.png": 3, "config.yaml": 9}
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


def test_infinity_becomes_the_largest_double(server, experiment: str, folder: RunFolder):
    folder.journal.append({"epoch": 1, "loss": math.inf})
    folder.journal.append({"epoch": 2, "loss": -math.inf})
    assert tracker(server.uri, experiment, folder).flush(2)
    client, run = only_run(server.uri, experiment)
    values = [point.value for point in client.get_metric_history(run.info.run_id, "loss")]
    assert values == [sys.float_info.max, -sys.float_info.max]


def test_lost_replies_double_nothing(server, proxy, experiment: str, folder: RunFolder):
    clock = Clock()
    track = tracker(proxy.uri, experiment, folder, clock)
    append(folder, 1, 2)
    expected = ["experiments/create", "runs/create", "runs/log-batch", "runs/log-batch+metrics"]
    proxy.lose = list(expected)
    attempts = 0
    while not track.flush(2):
        attempts += 1
        assert attempts < 10
        clock.now += 1000
    assert proxy.lost == expected
    assert attempts == 4
    assert steps(server.uri, experiment) == [1, 2]
    append(folder, 3)
    assert track.flush(3)
    assert steps(server.uri, experiment, "pixel_auroc") == [1, 2, 3]
    assert set(proxy.points.values()) == {1}, "no point was even sent twice"


def test_several_runs_create_their_experiment_at_once(server, experiment: str, tmp_path: Path):
    folders = [RunFolder(tmp_path / "runs" / str(number)) for number in range(4)]
    arrived = {}

    def work(folder: RunFolder) -> None:
        folder.write_status(state=RunState.running)
        append(folder, 1, 2)
        arrived[folder.path.name] = tracker(server.uri, experiment, folder).flush(2)

    threads = [threading.Thread(target=work, args=(folder,)) for folder in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert arrived == {str(number): True for number in range(4)}
    client = store.import_mlflow()(tracking_uri=server.uri)
    runs = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    assert sorted(run.info.run_name for run in runs) == ["0", "1", "2", "3"]


def test_killed_server_comes_back(server, experiment: str, folder: RunFolder, tmp_path: Path, caplog):
    caplog.set_level(logging.INFO, logger="altub_exp")
    clock = Clock()
    track = tracker(server.uri, experiment, folder, clock)
    append(folder, 1, 2, 3)
    assert track.flush(2)
    late = RunFolder(tmp_path / "runs" / "late")
    late.write_status(state=RunState.running)
    append(late, 1, 2)
    server.kill()
    try:
        began = time.monotonic()
        for epoch in range(3, 40):
            append(folder, *([epoch] if epoch > 3 else []))
            assert not track.flush(epoch)
            clock.now += 1
        assert time.monotonic() - began < 5
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert not tracker(server.uri, experiment, late).finish(RunState.finished, {"pixel_auroc_mean": 0.5}, [])
        command = [sys.executable, "-m", "altub_exp.sync", str(tmp_path / "runs")]
        away = subprocess.run(command, capture_output=True, text=True, check=False)
        assert away.returncode == 1
        assert away.stderr == f"error: MLflow at {server.uri} does not record (no connection).\n"
    finally:
        server.start()
    clock.now += 60
    assert track.flush(39)
    assert caplog.records[-1].getMessage().endswith("the missing points have arrived.")
    assert steps(server.uri, experiment) == list(range(1, 40))
    assert steps(server.uri, experiment, "pixel_auroc") == list(range(1, 40))
    folder.write_status(checkpoint_epoch=39)
    synced = subprocess.run(command, capture_output=True, text=True, check=False)
    assert synced.stderr == ""
    assert synced.stdout.splitlines() == [
        f"{late.path}: 5 points sent",
        f"{folder.path}: nothing missing; its process has died: marked as failed, the same command completes it",
    ]
    assert synced.returncode == 0


def test_it_answers_to_its_machines_name_and_says_what_to_do_of_another(server):
    address = f"{server.uri}/api/2.0/mlflow/experiments/get-by-name?experiment_name=Default"

    def called(name: str) -> urllib.request.Request:
        return urllib.request.Request(address, headers={"Host": f"{name}:{server.port}"})

    assert urllib.request.urlopen(called(socket.gethostname()), timeout=30).status == 200
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(called("mlflow.example.org"), timeout=30)
    assert refused.value.code == 403
    assert "start it with --allowed-hosts" in store.reason(RuntimeError(refused.value.read().decode()))
