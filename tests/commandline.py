"""The program's command lines, small enough for tests, and their results."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import torch

from tests.stores import place_store
from tests.warm import Warm

ROOT = Path(__file__).resolve().parents[1]
TINY = [
    "experiment=demo",
    "backbone=r18",
    "backbone.weights=random",
    "dataset.image_size=32",
    "dataset.size=64",
    "dataset.train_images=10",
    "dataset.good_images=4",
    "dataset.defect_images=2",
    "model.steps=1",
    "train.epochs=6",
    "train.batch_size=4",
    "eval.ks_every=3",
    "checkpoint_seconds=0",
    "threads=1",
]

SET_HERE = ("MLFLOW_", "_MLFLOW_", "KMP_", "TORCHINDUCTOR_")
"""Prefixes of variables that the user has not set, but tests or the libraries that they import."""


def command(*arguments, module="altub_exp.train"):
    return [sys.executable, "-m", module, *arguments]


def environment(**changes):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(SET_HERE)}
    return kept | {"COLUMNS": "200", "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"} | changes


WARM = Warm(environment())


def run(cwd, *arguments, module="altub_exp.train", expect=0, seconds=240, fresh=False, **changes):
    """Run a command, check its exit status, and return (stdout, stderr).

    The libraries are not imported anew for it, unless its environment is another than these tests'. A training that
    records in ``mlflow.db`` finds an empty store there, unless it is to make a fresh one itself.
    """
    elsewhere = "MLFLOW_TRACKING_URI" in changes or any(a.startswith("tracking.uri=") for a in arguments)
    records = module == "altub_exp.train" and not {"--cfg", "sweep.dry_run=true"} & set(arguments)
    if records and expect == 0 and not (fresh or elsewhere):
        place_store(Path(cwd))
    words, env = command(*arguments, module=module), environment(**changes)
    if WARM.serves(env):
        done = WARM.run(words, cwd=cwd, env=env, seconds=seconds)
    else:
        done = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, timeout=seconds)
    assert done.returncode == expect, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout, done.stderr


def folders(cwd):
    return sorted(path.parent for path in Path(cwd).glob("runs/**/status.json"))


def journal(folder):
    """Return the rows of the journal without times."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in ("time", "seconds")} for row in rows]


def recorded(cwd, experiment="demo"):
    """Return {base: {metric: [(step, value), …]}} of MLflow, in order of arrival, and the runs."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{cwd}/mlflow.db")
    found = client.get_experiment_by_name(experiment)
    runs = client.search_runs([found.experiment_id], "tags.altub != ''")  # without the sweep's own
    histories = {
        run.data.tags["altub"]: {
            metric: [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, metric)]
            for metric in run.data.metrics
        }
        for run in runs
    }
    return histories, runs


def status(folder):
    """Return the fields of a run's status, without its seal."""
    fields = json.loads((folder / "status.json").read_text())
    return {key: value for key, value in fields.items() if key != "seal"}


def equal_models(folder, other):
    ours, theirs = (torch.load(f / "checkpoint.pt", weights_only=True)["density"] for f in (folder, other))
    assert ours.keys() == theirs.keys()
    return all(torch.equal(ours[key], theirs[key]) for key in ours)


def kill_behind_a_checkpoint(cwd, *arguments):
    """Start a run, kill it with -9 after its first checkpoint, and return its folder."""
    place_store(Path(cwd))
    with (cwd / "killed.log").open("w") as log:
        process = subprocess.Popen(command(*arguments), cwd=cwd, env=environment(), stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + 120
            while not (folders(cwd) and status(folders(cwd)[0]).get("checkpoint_epoch")):
                assert process.poll() is None, (cwd / "killed.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.005)
        finally:
            process.kill()
            process.wait()
    return folders(cwd)[0]
