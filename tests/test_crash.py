"""Runs and sweeps that are killed at every operation on the disk in turn, and the same command again.

What a kill leaves is copied before each operation of one command (tests.snapshots); equal states are tried once.
`make test-crash` takes every CRASH_STRIDE-th operation (1 by default), beginning with CRASH_FIRST.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.commandline import TINY, folders, journal, status
from tests.snapshots import COMPILER, snapshots, train
from tests.stores import place_store

pytestmark = [pytest.mark.crash, pytest.mark.skipif(COMPILER is None, reason="no C compiler for the layer that kills")]

IMAGES = ["dataset.train_images=4", "dataset.good_images=1", "dataset.defect_images=1"]
SHORT = [*TINY, *IMAGES, "train.epochs=2", "eval.every=1", "eval.ks_every=2"]
SWEEP = ["-m", *SHORT, "altub=none,alternating", "tracking.sweep=night"]
CFLOW = ["model=cflow", "dataset.image_size=64", "model.fibre_batch=16", "train.cycle=1", "train.warmup_epochs=1"]
STRIDE = int(os.environ.get("CRASH_STRIDE", "1"))
FIRST = int(os.environ.get("CRASH_FIRST", "1"))


@pytest.fixture(scope="module")
def layer(tmp_path_factory):
    return tmp_path_factory.mktemp("layer")


def series(cwd: Path) -> dict[str, Any]:
    """Return {run: (status, points of all metrics)} of the store; the key of a sweep's own run is the sweep's name."""
    with closing(sqlite3.connect(cwd / "mlflow.db")) as store:
        names = "SELECT run_uuid, value FROM tags WHERE key IN ('run_key', 'sweep_parent')"
        uuids = dict(store.execute(names))
        states = dict(store.execute("SELECT run_uuid, status FROM runs"))
        assert uuids.keys() == states.keys(), "a run is there twice, or without its tags"
        assert len(set(uuids.values())) == len(uuids)
        points = "SELECT run_uuid, key, step, value, is_nan FROM metrics WHERE key != 'seconds' ORDER BY 1, 2, 3, 4"
        held: dict[str, list[Any]] = {name: [] for name in uuids.values()}
        for uuid, *point in store.execute(points):
            held[uuids[uuid]].append(point)
        return {name: (states[uuid], held[name]) for uuid, name in uuids.items()}


def assert_equal(ours: object, theirs: object) -> None:
    """Assert that two checkpoints are equal bit for bit."""
    if isinstance(ours, torch.Tensor):
        assert torch.equal(ours, theirs)
    elif isinstance(ours, dict):
        assert ours.keys() == theirs.keys()
        for key in ours:
            assert_equal(ours[key], theirs[key])
    else:
        assert ours == theirs


def assert_as_undisturbed(cwd: Path, undisturbed: Path) -> None:
    ours, theirs = folders(cwd), folders(undisturbed)
    assert [folder.relative_to(cwd) for folder in ours] == [folder.relative_to(undisturbed) for folder in theirs]
    for mine, reference in zip(ours, theirs, strict=True):
        assert status(mine)["state"] == "finished"
        assert journal(mine) == journal(reference)
        assert_equal(*(torch.load(folder / "checkpoint.pt", weights_only=True) for folder in (mine, reference)))
    assert series(cwd) == series(undisturbed)
    files = {str(file.relative_to(cwd)) for file in cwd.rglob("*")}
    left = {name for name in files if ".tmp" in name or ".part" in name or name.endswith(("-journal", "-wal"))}
    assert not left, "files of the killed process are left"


@pytest.mark.parametrize("flow", [["model=fastflow"], CFLOW], ids=["fastflow", "cflow"])
@pytest.mark.parametrize("arguments", [[*SHORT, "hydra.mode=RUN"], SWEEP], ids=["run", "sweep"])
def test_killed_at_every_operation_and_given_again(layer, arguments, flow, tmp_path):
    words = [*arguments, *flow]
    undisturbed, cwd = tmp_path / "undisturbed", tmp_path / "killed"
    cwd.mkdir()
    place_store(cwd)
    copies = snapshots(layer, cwd, *words)
    given, failures = {copies.state(copies.take())}, []
    cwd.rename(undisturbed)
    total, strikes = len(copies.taken), range(FIRST, len(copies.taken) + 1, STRIDE)
    for at in strikes:
        left = copies.taken[at - 1]
        if (state := copies.state(left)) in given:
            continue
        given.add(state)
        cwd.mkdir()
        copies.restore(left, cwd)
        try:
            train(layer, cwd, *words)
            assert_as_undisturbed(cwd, undisturbed)
        except AssertionError as failure:
            failures.append(f"operation {at} of {total}: {failure}")
        shutil.rmtree(cwd)
    print(f"{flow[0]}: {total} operations, killed at {len(strikes)}, which left {len(given) - 1} states")
    assert len(given) > 1
    assert not failures, f"{len(failures)} of {len(given) - 1}:\n" + "\n\n".join(failures)
