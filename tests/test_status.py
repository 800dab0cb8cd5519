"""The overview of runs through the real command line; only runs whose process has died are marked."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from altub_exp import sync
from altub_exp.metrics.stability import END_METRICS
from altub_exp.runs import overview
from altub_exp.runs.folder import DIED, RunFolder
from altub_exp.runs.journal import now_ms
from altub_exp.runs.states import RunState
from altub_exp.status import main
from altub_exp.tracking.tracker import Tracker
from tests.commandline import (
    TINY,
    command,
    environment,
    equal_models,
    folders,
    journal,
    kill_behind_a_checkpoint,
    recorded,
    run,
    status,
)
from tests.stores import place_store

CONFIG = """
model: {name: fastflow}
backbone: {key: r18, name: resnet18.tv_in1k}
dataset: {name: mvtec, category: '01'}
altub: {name: none}
train: {epochs: 300}
seed: 25
"""


def rows(cwd, *arguments):
    """Return the output of --json."""
    out = StringIO()
    with redirect_stdout(out):
        assert main([str(cwd / "runs"), "--json", *arguments]) == 0
    return json.loads(out.getvalue())


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """A run that was shown in its middle and then finished: (working folder, rows shown then)."""
    cwd = tmp_path_factory.mktemp("watched")
    place_store(cwd)
    with (cwd / "out.log").open("w") as log:
        process = subprocess.Popen(command(*TINY), cwd=cwd, env=environment(), stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + 120
            while not (folders(cwd) and status(folders(cwd)[0]).get("checkpoint_epoch")):
                assert process.poll() is None, (cwd / "out.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.005)
            process.send_signal(signal.SIGSTOP)  # it keeps its lock, and gives us time to look
            before = folders(cwd)[0].joinpath("status.json").read_bytes()
            seen = [rows(cwd), rows(cwd, "--dry-run")]
            assert folders(cwd)[0].joinpath("status.json").read_bytes() == before
            process.send_signal(signal.SIGCONT)
            assert process.wait(timeout=120) == 0, (cwd / "out.log").read_text()
        finally:
            process.kill()
            process.wait()
    return cwd, seen


def make(root: Path, name: str, state: RunState | None = RunState.running, epochs: int = 3, **config: str) -> RunFolder:
    """Make a folder like that of a run."""
    folder = RunFolder(root / "runs" / "mvtec" / "01" / "fastflow-r18" / "none" / name)
    folder.path.mkdir(parents=True)
    folder.config.write_text(CONFIG + "".join(f"{key}: {value}\n" for key, value in config.items()))
    lines = [
        json.dumps({"epoch": e, "loss": 0.5, "pixel_auroc": 0.9, "image_auroc": 0.8, "seconds": 2.0, "time": now_ms()})
        for e in range(1, epochs + 1)
    ]
    folder.journal.file.write_text("".join(f"{line}\n" for line in lines))
    folder.write_status(state=state, reason="ValueError: no" if state == RunState.failed else None)
    return folder


@pytest.mark.slow
def test_a_run_that_is_running_is_shown_and_left_alone(watched):
    _, (seen, dry) = watched
    for (row,) in (seen, dry):
        assert row["state"] == "running"
        assert 1 <= row["epoch"] <= row["epochs"] == 6
        assert row["seconds_left"] >= 0
        assert (row["reason"], row["damage"], row["ended"]) == (None, None, None)


def test_a_finished_run(watched, capsys):
    cwd, _ = watched
    (row,) = rows(cwd)
    last = journal(folders(cwd)[0])[-1]
    names = ("dataset", "category", "model", "backbone", "altub", "seed", "sweep", "state", "epoch", "epochs")
    summary = status(folders(cwd)[0])["summary"]
    assert row["end_metrics"] == {name: summary[name] for name in END_METRICS}
    assert [row[name] for name in names] == [
        *("synthetic", "fabric", "fastflow", "r18", "alternating", 25, None, "finished", 6, 6)
    ]
    assert [row[m] for m in ("pixel_auroc", "image_auroc")] == [last[m] for m in ("pixel_auroc", "image_auroc")]
    assert (row["host"], row["seconds_left"]) == (socket.gethostname(), None)
    assert main([str(cwd / "runs")]) == 0
    head, _, line, count = capsys.readouterr().out.splitlines()
    assert head.split() == ["run", "model", "base", "seed", "state", "epoch", "pixel", "image", "left", "host", "why"]
    percent = [f"{100 * last[m]:.2f}" for m in ("pixel_auroc", "image_auroc")]
    expected = ["synthetic/fabric", "fastflow-r18", "alternating", "25", "finished", "6/6", *percent]
    assert line.split() == [*expected, socket.gethostname()]
    assert count == "1 run: 1 finished"


@pytest.mark.slow
def test_a_killed_run_is_marked_here_and_in_mlflow_and_resumes_with_the_same_numbers(watched, tmp_path, capsys):
    cwd, _ = watched
    killed = [*TINY, f"tracking.uri=sqlite:///{cwd}/mlflow.db", "tracking.experiment=killed"]
    folder = kill_behind_a_checkpoint(tmp_path, *killed)
    assert status(folder)["state"] == "running"
    done, last_sign = status(folder)["checkpoint_epoch"], folder.joinpath("train.log").stat().st_mtime * 1000
    assert rows(tmp_path, "--dry-run")[0]["reason"] == DIED
    assert "without --dry-run to record the failure" in capsys.readouterr().err
    assert status(folder)["state"] == "running"

    assert [(row["state"], row["reason"]) for row in rows(tmp_path)] == [("failed", DIED)]
    assert capsys.readouterr().err == (
        "The process of 1 run has died: marked as failed; the same command completes it.\n"
    )
    assert (status(folder)["state"], status(folder)["reason"]) == ("failed", DIED)
    assert status(folder)["ended"] == pytest.approx(last_sign, abs=1000), "when it died, not when that was noticed"
    histories, (record,) = recorded(cwd, "killed")
    assert (record.info.status, record.data.tags["status"]) == ("FAILED", "failed")
    assert record.info.end_time == status(folder)["ended"]
    assert {step for step, _ in histories["alternating"]["loss"]} == set(range(1, done + 1))
    assert [(row["state"], row["reason"]) for row in rows(tmp_path)] == [("failed", DIED)]
    assert sync.main([str(tmp_path / "runs")]) == 0
    assert capsys.readouterr() == (f"{folder}: nothing missing\n", "")

    _, stderr = run(tmp_path, *killed)
    assert f"from epoch {done + 1}" in stderr
    (reference,) = folders(cwd)
    assert journal(folder) == journal(reference)
    assert equal_models(folder, reference)
    (row,) = rows(tmp_path)
    assert (row["state"], row["epoch"], row["reason"]) == ("finished", 6, None)
    assert recorded(cwd, "killed")[1][0].info.status == "FINISHED"


def test_without_a_server_the_mark_stands_and_sync_tells_it_later(watched, tmp_path, monkeypatch, capsys):
    shutil.copy(watched[0] / "mlflow.db", tmp_path)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    dead = [make(tmp_path, name) for name in ("seed25-a", "seed25-b")]
    for folder in dead:
        folder.write_status(checkpoint_epoch=2)
        tags = {"altub": folder.path.name}
        assert Tracker(uri, "gone", folder.path.name, tags, {}, folder, now_ms()).flush(1)
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    assert [row["state"] for row in rows(tmp_path)] == ["failed", "failed"]
    marked, told = capsys.readouterr().err.splitlines()
    assert marked.startswith("The processes of 2 runs have died: marked as failed")
    assert told == (
        f"MLflow at {address} does not record (no connection). "
        f"`python -m altub_exp.sync {tmp_path / 'runs'}` sends it later."
    )
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert {record.info.status for record in recorded(tmp_path, "gone")[1]} == {"RUNNING"}
    assert sync.main([str(tmp_path / "runs")]) == 0
    histories, records = recorded(tmp_path, "gone")
    assert [record.info.status for record in records] == ["FAILED", "FAILED"]
    assert {name: sorted(of["loss"]) for name, of in histories.items()} == {
        folder.path.name: [(1, 0.5), (2, 0.5)] for folder in dead
    }


def test_sync_marks_a_dead_run_as_status_does(tmp_path, capsys):
    folders = [make(tmp_path / name, "seed25-a") for name in "ab"]
    assert main([str(tmp_path / "a")]) == sync.main([str(tmp_path / "b")]) == 0
    ours, theirs = (folder.status() for folder in folders)
    assert (ours["state"], ours["reason"]) == (theirs["state"], theirs["reason"]) == ("failed", DIED)
    assert ours.keys() == theirs.keys()


def test_a_run_that_ends_or_is_resumed_during_the_look_is_not_marked(tmp_path, monkeypatch):
    ends, resumes = make(tmp_path, "seed25-ends"), make(tmp_path, "seed25-resumes")
    first = {folder.path: overview.read(folder) for folder in (ends, resumes)}
    monkeypatch.setattr("altub_exp.status.read", lambda folder: first.pop(folder.path, None) or overview.read(folder))
    ends.write_status(state=RunState.finished)  # behind the first look
    with resumes.lock():
        assert [row["state"] for row in rows(tmp_path)] == ["finished", "running"]
    assert resumes.status()["state"] == "running"


def test_a_lock_that_cannot_be_opened_proves_nothing(tmp_path):
    folder = make(tmp_path, "seed25-a")
    (folder.path / ".lock").mkdir()
    (row,) = rows(tmp_path)
    assert row["state"] == "running"
    assert "Its process cannot be checked" in row["damage"]


def test_damage_is_shown_in_its_row_and_stops_nothing(tmp_path, capsys):
    for name, content in {"a": b"{", "b": b'{"host": "x"}', "c": b"\xff"}.items():
        make(tmp_path, f"seed25-{name}").status_file.write_bytes(content)
    make(tmp_path, "seed25-d", RunState.finished).journal.file.write_text('{"epoch": 1}\n{"epo\n{"epoch": 3}\n')
    make(tmp_path, "seed25-e", RunState.finished).config.write_text("model: [")
    make(tmp_path, "seed25-f", RunState.finished).config.unlink()
    make(tmp_path, "seed25-g").journal.file.write_text("{\n{\n")
    make(tmp_path, "seed25-h", RunState.crashed)
    found = {row["folder"][-1]: row for row in rows(tmp_path)}
    states = {name: row["state"] for name, row in found.items()}
    assert states == dict.fromkeys("abc", "damaged") | dict.fromkeys("def", "finished") | {
        "g": "failed",
        "h": "crashed",
    }
    files = dict.fromkeys("abc", "status.json") | {"d": "metrics.jsonl, line 2"} | dict.fromkeys("ef", "config.yaml")
    for name, file in files.items():
        assert file in found[name]["damage"], name
    assert found["a"]["category"] == "01"
    assert (found["d"]["epoch"], found["d"]["pixel_auroc"], found["d"]["epochs"]) == (None, None, 300)
    assert (found["e"]["dataset"], found["e"]["epochs"], found["e"]["epoch"]) == (None, None, 3)
    assert found["g"]["reason"] == DIED
    assert "line 1 is damaged" in found["g"]["damage"]
    assert found["h"]["damage"] is None
    assert main([str(tmp_path / "runs")]) == 0
    out = capsys.readouterr().out
    assert "8 runs: 3 finished, 1 failed, 1 crashed, 3 damaged" in out
    assert "?/300" in out
    assert "3/?" in out
    assert [row["folder"][-1] for row in rows(tmp_path, "--state", "damaged,crashed")] == ["a", "b", "c", "h"]


def test_selection_by_sweep_state_and_put_aside(tmp_path, capsys):
    make(tmp_path, "seed1-a", RunState.failed, tracking="{uri: x, sweep: table1}")
    make(tmp_path, "seed2-b", RunState.finished, tracking="{uri: x, sweep: table1}")
    other = make(tmp_path, "seed3-c", RunState.running, tracking="{uri: x, sweep: null}")
    make(tmp_path, "seed4-d.old-1", RunState.finished)

    def names(*arguments):
        return [row["folder"].rpartition("/")[2] for row in rows(tmp_path, *arguments)]

    assert names("--sweep", "table1") == ["seed1-a", "seed2-b"]
    assert other.status()["state"] == "running", "what is not asked for is not touched"
    assert names("--sweep", "table1", "--state", "failed") == ["seed1-a"]
    assert names("--sweep", "null") == []
    assert names("--state", "failed,running") == ["seed1-a", "seed3-c"]
    assert names("--all") == ["seed1-a", "seed2-b", "seed3-c", "seed4-d.old-1"]
    assert main([str(tmp_path / "runs"), "--sweep", "table2"]) == 0
    assert capsys.readouterr().out == f"There are no such runs below {tmp_path / 'runs'}.\n"


def test_time_left_and_the_last_evaluated_epoch(tmp_path):
    folder = make(tmp_path, "seed25-a", epochs=100)
    with folder.path.joinpath("metrics.jsonl").open("a") as file:
        file.write(json.dumps({"epoch": 101, "loss": 0.5, "seconds": 2.0, "time": now_ms() - 50_000}) + "\n")
    with folder.lock():
        (row,) = rows(tmp_path)
    assert row["seconds_left"] == pytest.approx(199 * 2.0 - 50, abs=5)
    assert (row["epoch"], row["pixel_auroc"], row["image_auroc"]) == (101, 0.9, 0.8)


def test_240_runs_one_line_each(tmp_path, capsys):
    states = [RunState.finished, RunState.failed, RunState.crashed]
    for number in range(240):
        make(tmp_path, f"seed{number}", states[number % 3], epochs=300)
    assert main([str(tmp_path / "runs")]) == 0
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 240 + 3
    assert out[-1] == "240 runs: 80 finished, 80 failed, 80 crashed"
    assert sum(line.rstrip().endswith("ValueError: no") for line in out) == 80


def test_watch_refreshes_on_a_terminal_and_shows_once_elsewhere(tmp_path, monkeypatch, capsys):
    folder = make(tmp_path, "seed25-a", RunState.finished)
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 2:
            raise KeyboardInterrupt
        folder.write_status(state=RunState.failed, reason="[brackets] stay")

    monkeypatch.setattr("altub_exp.status.time.sleep", sleep)
    assert main([str(tmp_path / "runs"), "--watch", "2.5"]) == 0
    assert slept == []
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "160")
    assert main([str(tmp_path / "runs"), "--watch", "2.5"]) == 0
    assert slept == [2.5, 2.5]
    out = capsys.readouterr().out
    assert "1 run: 1 finished" in out
    assert "[brackets] stay" in out


def test_what_a_person_gets_wrong_is_one_sentence(tmp_path, capsys):
    assert main([str(tmp_path / "absent")]) == 1
    assert capsys.readouterr().err == (
        f"error: There is no folder {tmp_path / 'absent'}; name the one that holds the runs.\n"
    )
    for wrong in (["--state", "broken"], ["--watch", "0"], ["--watch", "1", "--json"]):
        with pytest.raises(SystemExit):
            main([str(tmp_path), *wrong])
        assert "error: " in capsys.readouterr().err
    assert main([str(tmp_path)]) == 0
    assert rows_of_nothing(tmp_path, capsys) == []


def rows_of_nothing(tmp_path, capsys):
    capsys.readouterr()
    assert main([str(tmp_path), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_command_itself_imports_neither_torch_nor_mlflow(tmp_path):
    make(tmp_path, "seed25-a", RunState.finished)
    for arguments, said in ((["--help"], "--state failed,crashed"), ([], "1 run: 1 finished")):
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-m", "altub_exp.status", *arguments],
            cwd=tmp_path,
            env=environment(),
            check=True,
            capture_output=True,
            text=True,
        )
        assert said in done.stdout
        assert not {"mlflow", "torch"} & {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert os.listdir(tmp_path) == ["runs"]
