"""A password given in every possible way is in no file, no message and no command line of the program."""

import contextlib
import threading
import time
from pathlib import Path

import pytest

from tests.commandline import TINY, run

MARKER = "Hunter2-marker"
FEW = [*TINY, "train.epochs=2"]


@contextlib.contextmanager
def command_lines(seen):
    """Collect the command lines of all processes while the block runs."""
    ended = threading.Event()

    def watch():
        while not ended.wait(0.02):
            for file in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    seen.add(file.read_bytes())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def holding(folder):
    """Return the files below a folder that hold the marker, in their name or content."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if MARKER.encode() in path.read_bytes() or MARKER in str(path)]


@pytest.mark.slow
def test_a_password_from_the_environment_is_nowhere(server, tmp_path):
    uri, seen = server.uri.replace("://", f"://runs:{MARKER}@"), set()
    changes, said = {"MLFLOW_TRACKING_URI": uri}, []
    pool = ["-m", "hydra/launcher=gpu_pool", "hydra.launcher.cpu_slots=2", "tracking.experiment=secret"]
    with command_lines(seen):
        said += run(tmp_path, *pool, *FEW, "altub=none,alternating", **changes)
        said += run(tmp_path, "runs", module="altub_exp.sync", **changes)
        said += run(tmp_path, "stability", "--experiment", "secret", module="analysis.tables", **changes)
        said += run(tmp_path, "--experiment", "secret", module="analysis.report", **changes)
        away = uri.replace(str(server.port), "9")
        said += run(tmp_path, *FEW, "seed=2", MLFLOW_TRACKING_URI=away)
        said += run(tmp_path, "stability", module="analysis.tables", expect=1, MLFLOW_TRACKING_URI=away)
    assert any(b"altub_exp.train" in line for line in seen)
    assert not [line for line in seen if MARKER.encode() in line]
    assert not [text for text in said if MARKER in text]
    assert "127.0.0.1" in "".join(said)
    assert (tmp_path / "results/report.html").stat().st_size > 10_000
    assert len(list(tmp_path.glob("runs/**/record.json"))) == 3
    assert holding(tmp_path) == []
    time.sleep(0.5)  # the server writes its log
    assert holding(server.folder) == []


def recipe(cwd, uri):
    (cwd / "own/experiment").mkdir(parents=True)
    (cwd / "own/experiment/mine.yaml").write_text(f"# @package _global_\ntracking: {{uri: '{uri}'}}\n")


@pytest.mark.parametrize(
    ("module", "arguments", "variable"),
    [
        ("altub_exp.train", [*FEW, "tracking.uri='{}'"], "MLFLOW_TRACKING_URI"),
        ("altub_exp.train", ["-m", *FEW, "tracking.uri=sqlite:///mlflow.db,'{}'"], "MLFLOW_TRACKING_URI"),
        ("altub_exp.train", ["-m", "hydra/launcher=gpu_pool", *FEW, "tracking.uri='{}'"], "MLFLOW_TRACKING_URI"),
        ("altub_exp.train", ["--config-dir=own", *FEW, "+experiment@_global_=mine"], "MLFLOW_TRACKING_URI"),
        ("altub_exp.sync", ["runs", "--uri", "{}"], "MLFLOW_TRACKING_URI"),
        ("analysis.tables", ["stability", "--tracking-uri", "{}"], "MLFLOW_TRACKING_URI"),
        ("altub_exp.server", ["--backend-store-uri", "{}"], "MLFLOW_BACKEND_STORE_URI"),
    ],
)
@pytest.mark.parametrize("uri", [f"http://me:{MARKER}/a#b@127.0.0.1:9", f"postgresql://db/mlflow?password={MARKER}"])
def test_a_password_that_others_could_read_is_refused_before_anything_is_recorded(
    tmp_path, module, arguments, variable, uri
):
    recipe(tmp_path / "elsewhere", uri)
    (tmp_path / "cwd/runs").mkdir(parents=True)
    (tmp_path / "cwd/own").symlink_to(tmp_path / "elsewhere/own")
    said = run(tmp_path / "cwd", *(argument.format(uri) for argument in arguments), module=module, expect=1)
    assert f"set {variable} to the whole address" in said[1]
    assert said[1].count("\n") == 1
    assert MARKER not in "".join(said)
    assert {path.name for path in (tmp_path / "cwd").iterdir()} <= {"own", "runs", "data"}  # drawn images
    assert not any((tmp_path / "cwd/runs").iterdir())
