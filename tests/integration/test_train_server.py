"""Training through the command line while the MLflow server dies, comes back, or stays away."""

import json
import signal
import subprocess
import sys
import time

import pytest

from altub_exp.tracking import store

pytestmark = pytest.mark.server

TINY = [
    "experiment=demo",
    "altub=alternating",
    "dataset.image_size=32",
    "dataset.size=64",
    "dataset.train_images=6",
    "dataset.good_images=3",
    "dataset.defect_images=1",
    "model.steps=1",
    "train.batch_size=6",
    "eval.ks_every=7",
    "checkpoint_seconds=0",
    "threads=1",
]


def train(cwd, uri, *arguments):
    command = [sys.executable, "-m", "altub_exp.train", *TINY, f"tracking.uri={uri}", *arguments]
    with (cwd / "output.log").open("w") as log:
        return subprocess.Popen(command, cwd=cwd, stdout=log, stderr=log)


def journal(cwd):
    files = list(cwd.glob("runs/**/metrics.jsonl"))
    return [json.loads(line) for line in files[0].read_text().splitlines()] if files else []


def wait(condition, process, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the run ended too soon"
        assert time.monotonic() < deadline
        time.sleep(0.05)


def recorded(uri, experiment):
    client = store.import_mlflow()(tracking_uri=uri)
    (run,) = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    names = ("loss", "pixel_auroc", "image_auroc", "ks")
    return run, {name: client.get_metric_history(run.info.run_id, name) for name in names}


def sync(cwd, uri):
    command = [sys.executable, "-m", "altub_exp.sync", "runs", "--uri", uri]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def check(cwd, uri, experiment, epochs):
    rows = journal(cwd)
    assert [row["epoch"] for row in rows] == list(range(1, epochs + 1))
    run, histories = recorded(uri, experiment)
    assert run.info.status == "FINISHED"
    assert run.data.tags["status"] == "finished"
    for name, history in histories.items():
        expected = [(row["epoch"], row[name]) for row in rows if name in row]
        assert sorted((point.step, point.value) for point in history) == expected, name


@pytest.mark.slow
def test_server_killed_in_mid_run_and_started_again_loses_and_doubles_no_point(server, tmp_path):
    process = train(tmp_path, server.uri, "train.epochs=250", "tracking.experiment=killed")
    try:
        wait(lambda: len(journal(tmp_path)) >= 20, process)
        server.kill()
        wait(lambda: "does not record" in (tmp_path / "output.log").read_text(), process)
        away = len(journal(tmp_path))
        wait(lambda: len(journal(tmp_path)) >= away + 5, process)  # training continues
        process.send_signal(signal.SIGSTOP)  # on a busy machine it would end before the server is back
        server.start()
        process.send_signal(signal.SIGCONT)
        assert process.wait(240) == 0, (tmp_path / "output.log").read_text()
    finally:
        process.kill()
        process.wait()
        if not server.answers():
            server.start()
    output = (tmp_path / "output.log").read_text()
    assert "training continues" in output
    assert "Traceback" not in output
    if "when MLflow can be reached again" in output:  # the run was over before the server was back
        sync(tmp_path, server.uri)
    check(tmp_path, server.uri, "killed", 250)


def test_no_server_at_all_trains_to_the_end_and_sync_brings_it_later(server, tmp_path):
    process = train(tmp_path, "http://127.0.0.1:9", "train.epochs=5", "tracking.experiment=later")
    assert process.wait(240) == 0, (tmp_path / "output.log").read_text()
    output = (tmp_path / "output.log").read_text()
    assert "python -m altub_exp.sync" in output
    assert "finished in" in output
    for expected in ("points sent", "nothing missing"):
        assert expected in sync(tmp_path, server.uri)
        check(tmp_path, server.uri, "later", 5)
