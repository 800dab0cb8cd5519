"""Sweeps (`-m`): their runs, the computation of only the missing ones, and failed runs."""

import json
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from mlflow import MlflowClient

from altub_exp.data.visa import COUNTS as VISA
from bench import sweep as bench
from tests.commandline import TINY, command, environment, equal_models, folders, journal, run, status
from tests.data.conftest import draw_btad, draw_visa
from tests.stores import place_store

SMALL = [*TINY, "train.epochs=2", "eval.ks_every=0"]


def listed(stderr):
    """Return (state, folder) of each run as printed by `sweep.dry_run=true`."""
    return [tuple(line.split()) for line in stderr.splitlines() if "  runs/" in line]


def runs_in_mlflow(cwd, experiment="demo"):
    client = MlflowClient(f"sqlite:///{cwd}/mlflow.db")
    found = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    return {r.data.tags["mlflow.runName"]: r for r in found}


def test_all_stands_for_the_categories_of_each_jobs_own_data_set(tmp_path):
    draw_btad(tmp_path / "data/btad")
    draw_visa(tmp_path / "data/visa", *VISA)
    arguments = ["backbone=r18,mobilenetv2", "backbone.weights=random", "dataset=visa,btad"]
    _, stderr = run(tmp_path, "-m", *arguments, "dataset.category=all", "altub=none,alternating", "sweep.dry_run=true")
    found = [Path(folder).relative_to("runs").parts[:4] for _, folder in listed(stderr)]
    expected = {
        (dataset, category, f"fastflow-{backbone}", base)
        for dataset, categories in (("visa", VISA), ("btad", ("01", "02", "03")))
        for category in categories
        for backbone in ("r18", "mobilenetv2")
        for base in ("none", "alternating")
    }
    assert len(found) == 60
    assert set(found) == expected
    assert "60 runs: 60 new; 60 to compute." in stderr
    assert "Work: 18,000 epochs" in stderr
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["altub=none,alternate"], "altub=alternate does not exist"),
        (["train.epoch=3,4"], "did you mean train.epochs"),
        (["train.epochs=3,x"], "train.epochs: Value 'x'"),
        (["seed=1,-1"], "seed=-1 is too small"),
        (["dataset.category=fabric,linen"], "linen"),
        (["backbone.weights=random,none.pth"], "none.pth is not a file"),
    ],
)
def test_what_is_wrong_with_one_run_is_said_before_the_first_begins(tmp_path, arguments, sentence):
    _, stderr = run(tmp_path, "-m", *SMALL, *arguments, expect=1)
    (error,) = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert sentence in error
    assert "Traceback" not in stderr
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "mlflow.db").exists()


SWEEP = ["-m", *SMALL, "seed=1,2,3", "tracking.sweep=trial"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    cwd = tmp_path_factory.mktemp("undisturbed")
    _, stderr = run(cwd, *SWEEP)
    assert "3 runs: 3 new; 3 to compute." in stderr
    assert "3 runs: 3 finished." in stderr
    return cwd


def test_the_runs_of_a_sweep_are_children_of_one_run_in_mlflow(undisturbed):
    runs = runs_in_mlflow(undisturbed)
    parent = runs.pop("trial")
    assert parent.info.status == "FINISHED"
    assert "seed=1,2,3" in parent.data.tags["mlflow.note.content"]
    assert set(runs) == {f"fabric · alternating · seed {seed}" for seed in (1, 2, 3)}
    assert parent.data.tags["mlflow.source.name"] == "altub_exp.train"
    assert "3 runs: 3 finished" in parent.data.tags["mlflow.note.content"]
    assert "| fabric · alternating · seed 2 | finished | " in parent.data.tags["mlflow.note.content"]
    client = MlflowClient(f"sqlite:///{undisturbed}/mlflow.db")
    files = [file.path for file in client.list_artifacts(parent.info.run_id)]
    assert files == ["auroc-synthetic-fabric.png", "stability.csv", "stability.md"]
    assert len(runs) == 3
    for child in runs.values():
        assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert child.data.tags["sweep"] == "trial"
        assert child.data.tags["mlflow.source.name"] == "altub_exp.train"
        assert child.data.tags["mlflow.note.content"].startswith("pixel AUROC ")
        (images,) = child.inputs.dataset_inputs
        assert (images.dataset.name, images.dataset.digest) == ("synthetic/fabric", child.data.tags["data"])
        assert json.loads(images.dataset.profile) == {
            "training images": 10,
            "normal test images": 4,
            "defective test images": 6,
        }
        assert child.data.tags["code_changed"] == "False"


@pytest.mark.slow
def test_failing_and_half_done_runs(undisturbed, tmp_path):
    """One run fails on a damaged image, one was killed, one is new; then the image is repaired."""
    place_store(tmp_path)
    one, two, three = folders(undisturbed)
    shutil.copytree(undisturbed / "data", tmp_path / "data")
    killed = tmp_path / two.relative_to(undisturbed)
    shutil.copytree(two, killed)
    left = {k: v for k, v in status(two).items() if k not in ("summary", "ended")}
    (killed / "status.json").write_text(json.dumps(left | {"state": "running", "checkpoint_epoch": 0}))
    (killed / "checkpoint.pt").unlink()
    image = next((tmp_path / "data/synthetic/fabric/train/good").glob("*.png"))
    size = image.stat().st_size
    whole = image.read_bytes()
    image.write_bytes(bytes(size))  # other contents: other runs

    _, stderr = run(tmp_path, *SWEEP, expect=1)
    assert "3 runs: 3 new; 3 to compute." in stderr
    assert stderr.count("cannot be read (damaged or truncated)") == 3
    assert "3 runs: 3 failed." in stderr
    image.write_bytes(whole)
    _, stderr = run(tmp_path, *SWEEP, "sweep.retry_failed=true")
    assert "3 runs: 2 new, 1 half-done; 3 to compute." in stderr
    assert "3 runs: 3 finished." in stderr
    for mine, theirs in zip(folders(tmp_path), (one, two, three), strict=True):
        assert mine.name == theirs.name
        assert journal(mine) == journal(theirs)
        assert equal_models(mine, theirs)
    _, stderr = run(tmp_path, *SWEEP)
    assert "3 runs: 3 finished; 0 to compute." in stderr
    assert "s/epoch" not in stderr


def failed(folder, reason, interrupted):
    state = status(folder) | {"state": "failed", "reason": reason, "interrupted": interrupted}
    (folder / "status.json").write_text(json.dumps({k: v for k, v in state.items() if k != "summary"}))


def test_how_runs_stand(undisturbed, tmp_path):
    shutil.copytree(undisturbed, tmp_path, dirs_exist_ok=True)
    one, two, three = folders(tmp_path)
    failed(one, "RuntimeError: no more memory", interrupted=False)
    failed(two, "interrupted", interrupted=True)
    (three / "status.json").write_text(
        json.dumps(status(three) | {"state": "crashed", "reason": "the loss became nan"})
    )
    _, stderr = run(tmp_path, *SWEEP, "sweep.dry_run=true")
    assert [standing for standing, _ in listed(stderr)] == ["failed", "half-done", "crashed"]
    assert "3 runs: 1 half-done, 1 failed, 1 crashed; 1 to compute." in stderr
    assert "about" in stderr  # the speed is known from the journals
    _, stderr = run(tmp_path, *SWEEP, "sweep.dry_run=true", "sweep.retry_failed=true")
    assert "2 to compute" in stderr
    _, stderr = run(tmp_path, *SWEEP, expect=1)
    assert "no more memory" in stderr
    assert "the loss became nan" in stderr
    assert "3 runs: 1 failed, 1 finished, 1 crashed." in stderr
    assert "sweep.retry_failed=true tries the failed ones again" in stderr
    assert status(one)["state"] == "failed"


@pytest.mark.slow
def test_two_at_once_compute_each_run_once_and_an_interrupt_stops_the_sweep(undisturbed, tmp_path):
    shutil.copytree(undisturbed / "data", tmp_path / "data")
    with (tmp_path / "log").open("w") as log:
        both = [
            subprocess.Popen(command(*SWEEP, "train.epochs=4"), cwd=tmp_path, env=environment(), stdout=log, stderr=log)
            for _ in range(2)
        ]
        for process in both:
            process.wait(240)
    said = (tmp_path / "log").read_text()
    assert all(status(folder)["state"] == "finished" for folder in folders(tmp_path)), said
    assert [[row["epoch"] for row in journal(folder)] for folder in folders(tmp_path)] == [[1, 2, 3, 4]] * 3
    runs = runs_in_mlflow(tmp_path)
    assert len(runs) == 4
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    for name, child in runs.items():
        if name != "trial":
            points = client.get_metric_history(child.info.run_id, "loss")
            assert [point.step for point in points] == [1, 2, 3, 4]
    process = subprocess.Popen(
        command(*SWEEP, "train.epochs=500"), cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True
    )
    for line in process.stderr:
        if "epoch " in line:
            process.send_signal(signal.SIGINT)
            break
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 130, rest
    assert "Traceback" not in rest
    assert len(folders(tmp_path)) == 4  # the second run was not begun
    assert client.get_run(runs["trial"].info.run_id).info.status == "KILLED"


@pytest.mark.slow
def test_a_sweep_of_240_finished_runs_has_nothing_to_do(tmp_path):
    """`python -m bench.sweep` measures the time."""
    bench.draw(tmp_path / "data/mvtec")
    assert bench.finish(tmp_path) == 240
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    _, stderr = run(tmp_path, *bench.ARGUMENTS, fresh=True)
    assert "240 runs: 240 finished; 0 to compute." in stderr
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == before


def test_a_run_notices_that_the_code_has_changed_since_its_sweep_began(tmp_path):
    _, stderr = run(tmp_path, *SMALL, "train.epochs=1", "tracking.code=0123abcd")
    assert "The program's code has changed since this sweep was started" in stderr
    (folder,) = folders(tmp_path)
    assert status(folder)["code_changed"] is True
    assert status(folder)["code"] != "0123abcd"
    (child,) = runs_in_mlflow(tmp_path).values()
    assert child.data.tags["code_changed"] == "True"
