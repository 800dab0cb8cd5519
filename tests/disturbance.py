"""Disturbed sweeps: callers in the background, runs in the middle of their epochs, and the expected results."""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import ClassVar

import psutil
import pytest
from mlflow import MlflowClient

from tests.commandline import TINY, command, environment, equal_models, folders, journal, run, status

EPOCHS = 60
SMALL = [*TINY, f"train.epochs={EPOCHS}", "eval.ks_every=0", "dataset.train_images=6"]


def sweep(seeds, *more):
    """Return the overrides of two runs per seed, small enough for epochs of some hundredths of a second."""
    return ["-m", *SMALL, "altub=none,alternating", f"seed=range(1,{seeds + 1})", "tracking.sweep=night", *more]


def wait_for(true, seconds=300.0, what="what the test waits for"):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"{what} did not come within {seconds:.0f} s"
        time.sleep(0.02)


class Caller:
    """Start `-m` in the background; :func:`no_caller_stays` ends the callers that a failed test leaves."""

    started: ClassVar[list[subprocess.Popen[bytes]]] = []

    def __init__(self, cwd: Path, *arguments: str, **changes: str):
        self.log = cwd / f"caller-{time.monotonic_ns()}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command(*arguments), cwd=cwd, env=environment(**changes), stdout=log, stderr=log
            )
        self.started.append(self.process)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self, expect: int, seconds: float = 900) -> str:
        code = self.process.wait(seconds)
        text = self.log.read_text()
        assert code == expect, text
        assert "Traceback" not in text
        return text


@pytest.fixture(autouse=True)
def no_caller_stays():
    yield
    while Caller.started:
        process = Caller.started.pop()
        process.kill()
        process.wait()


def computing(cwd: Path) -> list[Path]:
    """Return the folders of runs that are in the middle of their epochs."""
    found = []
    for folder in folders(cwd):
        state = status(folder)
        rows = len((folder / "metrics.jsonl").read_text().splitlines()) if (folder / "metrics.jsonl").exists() else 0
        if state["state"] == "running" and 2 <= rows < EPOCHS - 15 and psutil.pid_exists(state["pid"]):
            found.append(folder)
    return found


def one_computing(cwd: Path, but: set[Path]) -> Path:
    """Wait for a run in the middle of its epochs that is not in ``but``, and add it there."""
    found: list[Path] = []

    def look() -> bool:
        found.extend(folder for folder in computing(cwd) if folder not in but)
        return bool(found)

    wait_for(look, what="a run in the middle of its epochs")
    but.add(found[0])
    return found[0]


def assert_as_undisturbed(
    cwd: Path, undisturbed: Path, uri: str | None = None, experiment: str = "demo", sync: bool = True
) -> None:
    """Assert that every run is finished with bitwise equal numbers, and that MLflow has every epoch exactly once.

    Args:
        cwd: where the sweep's command was given.
        undisturbed: likewise, of the same sweep without a fault.
        uri: where it recorded, if not in ``mlflow.db``.
        experiment: likewise.
        sync: whether ``python -m altub_exp.sync`` comes first; otherwise the sweep's caller has sent all.
    """
    ours, theirs = folders(cwd), folders(undisturbed)
    assert [f.relative_to(cwd) for f in ours] == [f.relative_to(undisturbed) for f in theirs]
    for mine, reference in zip(ours, theirs, strict=True):
        assert status(mine)["state"] == "finished"
        assert journal(mine) == journal(reference), mine
        assert equal_models(mine, reference)
    if sync:
        run(cwd, module="altub_exp.sync")
    client = MlflowClient(uri or f"sqlite:///{cwd}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    children = {r.data.tags["run_key"]: r for r in runs if "run_key" in r.data.tags}
    parents = [r for r in runs if "sweep_parent" in r.data.tags]
    assert len(children) == len(ours) == len(runs) - 1
    assert parents[0].info.status == "FINISHED"
    for folder in ours:
        child = children[folder.name]
        assert child.info.status == "FINISHED"
        assert child.data.tags["mlflow.parentRunId"] == parents[0].info.run_id
        rows = journal(folder)
        for metric in ("loss", "pixel_auroc", "image_auroc"):
            points = client.get_metric_history(child.info.run_id, metric)
            assert Counter(p.step for p in points) == Counter(range(1, len(rows) + 1)), (folder, metric)
            assert {p.step: p.value for p in points} == {row["epoch"]: row[metric] for row in rows}


IN_A_POOL = ["hydra/launcher=gpu_pool", "hydra.launcher.cpu_slots=2", "hydra.launcher.poll_seconds=0.05", "device=cpu"]
