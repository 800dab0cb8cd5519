"""Rivals through the real command line, with a worker that stands in for anomalib's."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from altub_exp.data import load_images, load_masks, open_category
from altub_exp.data.canvas import Canvas
from altub_exp.metrics.auroc import auroc
from tests.commandline import command, environment, folders, journal, recorded, run, status
from tests.stores import place_store

IMAGES = [
    "dataset=synthetic",
    "dataset.category=fabric",
    "dataset.image_size=32",
    "dataset.size=64",
    "dataset.train_images=6",
    "dataset.good_images=3",
    "dataset.defect_images=2",
    "threads=1",
    "tracking.experiment=demo",
    "model.timed_images=2",
    "model.python=stand-in",
]
PATCHCORE = ["model=patchcore", "backbone=r18", "backbone.weights=random", *IMAGES]
DRAEM = ["model=draem", "train.epochs=3", *IMAGES]


def install(folder, fault=""):
    """Write the Python of an environment, which starts the stand-in, with a fault, instead of the given worker."""
    file, stand_in = folder / "stand-in", Path(__file__).with_name("stand_in.py")
    file.write_text(f'#!/bin/sh\nSTAND_IN="{fault}" exec "{sys.executable}" "{stand_in}" "$3"\n')
    file.chmod(0o755)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a finished run of PatchCore, and the folder that it was started in."""
    cwd = tmp_path_factory.mktemp("finished")
    install(cwd)
    run(cwd, *PATCHCORE)
    (folder,) = folders(cwd)
    return cwd, folder


def test_a_rival_is_recorded_as_a_flow_is_with_its_source(finished):
    cwd, folder = finished
    assert folder.parent.parent.name == "patchcore-r18"
    assert folder.parent.name == "none"
    assert status(folder)["state"] == "finished"
    assert status(folder)["versions"]["anomalib"] == "2.7.0"
    files = {path.name for path in folder.iterdir()}
    assert {"auroc.png", "maps.png", "checkpoint.pt", "worker.log"} <= files
    assert "worker" not in files, "the exchanged arrays are gone"
    assert "a library's message" in (folder / "worker.log").read_text()
    _, (entry,) = recorded(cwd)
    assert entry.data.tags["source"] == "anomalib 2.7.0"
    assert entry.data.tags["model"] == "patchcore"
    assert entry.data.metrics["pixel_auroc"] == journal(folder)[0]["pixel_auroc"]
    assert {"inference_ms", "inference_ms_std", "inference_mb", "pixel_aupro", "image_ap"} <= entry.data.metrics.keys()


def test_its_metrics_are_exact_on_the_images_of_the_programs_own_reader(finished, compose, monkeypatch):
    cwd, folder = finished
    monkeypatch.chdir(cwd)
    images, canvas = open_category(compose(*PATCHCORE).dataset), Canvas(32)
    mean = (load_images(images.train, canvas, "antialias").float() / 255).mean(dim=0, keepdim=True)
    maps = (load_images(images.test, canvas, "antialias").float() / 255 - mean).square().mean(dim=1)
    (row,) = journal(folder)
    defective = np.array([sample.defective for sample in images.test])
    assert row["pixel_auroc"] == pytest.approx(auroc(maps.numpy(), load_masks(images.test, canvas).numpy()), abs=1e-6)
    assert row["image_auroc"] == pytest.approx(auroc(maps.amax(dim=(1, 2)).numpy(), defective), abs=1e-6)


def test_a_finished_one_is_not_computed_again_and_keeps_no_detector(finished):
    cwd, folder = finished
    install(cwd, "refuse")
    _, stderr = run(cwd, *PATCHCORE)
    assert stderr.startswith("finished already in ")
    name = str(folder.relative_to(cwd))
    for module, *arguments in (
        ("predict", name, "data/synthetic/fabric/test", "--output", "predicted"),
        ("export", name, "--format", "torch"),
        ("measure", name, "--timing", "2"),
    ):
        _, stderr = run(cwd, *arguments, module=f"altub_exp.{module}", expect=1)
        assert stderr == (
            f"error: The run in {name} is of model=patchcore, whose detector is anomalib's and is not kept: use a "
            "flow's run.\n"
        )


def test_one_that_breaks_off_is_failed_and_starts_anew(tmp_path):
    install(tmp_path, "die in epoch 2")
    _, stderr = run(tmp_path, *DRAEM, expect=1)
    (folder,) = folders(tmp_path)
    assert stderr.count("it was killed by signal 9") == 1
    assert "Traceback" not in stderr
    assert (status(folder)["state"], len(journal(folder))) == ("failed", 1)
    assert "it was killed by signal 9" in status(folder)["reason"]
    assert not (folder / "worker").exists()
    install(tmp_path)
    _, stderr = run(tmp_path, *DRAEM)
    assert "model=draem keeps no checkpoint: all epochs are computed anew" in stderr
    assert status(folder)["state"] == "finished"
    assert [(row["epoch"], row["loss"]) for row in journal(folder)] == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))]
    histories, _ = recorded(tmp_path)
    assert [step for step, _ in histories["none"]["image_auroc"]] == [1, 2, 3]


@pytest.mark.slow
def test_scores_that_are_no_numbers_are_a_crash(tmp_path):
    install(tmp_path, "nan")
    run(tmp_path, *DRAEM)
    (folder,) = folders(tmp_path)
    assert (status(folder)["state"], status(folder)["reason"]) == ("crashed", "an anomaly score became NaN in epoch 1")


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("refuse", "anomalib cannot compute model=draem (ValueError: this option): "),
        pytest.param("old", "model=draem needs anomalib 2.7.0, and the environment of ", marks=pytest.mark.slow),
    ],
)
def test_a_worker_that_cannot_begin_is_one_sentence_and_no_run(tmp_path, fault, sentence):
    install(tmp_path, fault)
    _, stderr = run(tmp_path, *DRAEM, expect=1)
    (error,) = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert sentence in error
    assert "make rivals" in error
    assert "Traceback" not in stderr
    assert not folders(tmp_path)


def test_without_an_environment_nothing_is_begun(tmp_path):
    _, stderr = run(tmp_path, *DRAEM, expect=1)
    assert stderr == (
        "error: model=draem is computed by anomalib in an environment of its own, and model.python=stand-in does not "
        "exist: make it by `make rivals`, or name the Python of that environment.\n"
    )
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("number", "exit_status"), [(signal.SIGINT, 130), pytest.param(signal.SIGKILL, -9, marks=pytest.mark.slow)]
)
def test_the_worker_ends_with_the_run(tmp_path, number, exit_status):
    install(tmp_path, "sleep")
    place_store(tmp_path)
    with (tmp_path / "output").open("w") as output:
        process = subprocess.Popen(command(*DRAEM), cwd=tmp_path, env=environment(), stdout=output, stderr=output)
        try:
            deadline = time.monotonic() + 120
            while not any("asleep" in log.read_text() for log in tmp_path.glob("runs/**/worker.log")):
                assert process.poll() is None, (tmp_path / "output").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.01)
            (worker,) = psutil.Process(process.pid).children()
            os.kill(process.pid, number)
            assert process.wait(timeout=60) == exit_status
            worker.wait(timeout=10)
        finally:
            process.kill()
            process.wait()
    (folder,) = folders(tmp_path)
    if number == signal.SIGINT:
        last = (tmp_path / "output").read_text().splitlines()[-1]
        assert last == "failed: interrupted; the same command computes it anew."
        assert status(folder)["interrupted"]
        assert not (folder / "worker").exists()
