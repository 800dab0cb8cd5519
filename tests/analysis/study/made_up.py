"""A made-up study: the planned runs of part a, and recorded runs whose effects are known.

The primary AUROC of seed s in epoch e is `level(data, norm, arm) + 0.001·s` plus a wave whose height is the arm's.
"""

from __future__ import annotations

import json
import math

import pytest

from analysis.paper.paper_runs import ComposedRun
from analysis.runs.run import Run
from analysis.study import grid
from analysis.study.protocol import DATA, NORMS, PARTS
from analysis.study.records import RecordedRun

EPOCHS, FIRST = 20, 7
SEEDS = (1, 2, 3, 4, 5)
START = 1_760_000_000_000

LEVELS = {"screw": 0.80, "elpv": 0.90, "hazelnut_toy": 0.95, "ksdd": 0.85}
GAINS = {"trainable": 0.02, "none": 0.005, "counted": 0.01}
"""AltUB's true effect on the mean by norm."""

WAVES = {"none": 0.02, "alternating": 0.005}


def composed(sweep):
    """Return the planned runs of a sweep: part a whole, of part c one control, the others empty."""
    if sweep == "study_a":
        return [
            planned(data, norm, base, seed)
            for data in DATA
            for norm in NORMS
            for base in ("none", "alternating")
            for seed in SEEDS
        ]
    if sweep == "study_c":
        return [planned(data, "none", "stereotype", seed) for seed in SEEDS[:3] for data in DATA[:2]]
    if sweep == "study_b":
        return [
            planned(data, norm, base, seed, "mobilenetv2")
            for seed in SEEDS[:3]
            for data in DATA[:2]
            for norm in NORMS
            for base in ("none", "alternating")
        ]
    if sweep == "study_f":
        return [planned(DATA[0], "trainable", "none", 1, steps=steps) for steps in ("8", "2")]
    assert any(sweep in sweeps for sweeps in PARTS.values())
    return []


def of_first_seed(sweep, argument):
    """Return the planned runs of a sweep with seed 1, as the command line would compose them."""
    assert argument == "seed=1"
    return [run for run in composed(sweep) if run.params["seed"] == "1"]


def planned(data, norm, base, seed, backbone="lite0", steps="8"):
    params = {
        "dataset.name": data.dataset,
        "dataset.category": data.category,
        "dataset.root": "data",
        "model.name": "fastflow",
        "model.feature_norm": norm,
        "model.steps": steps,
        "backbone.name": backbone,
        "backbone.weights": "pretrained",
        "altub.name": base,
        "altub.base": "fixed" if base == "none" else "learned",
        "eval.fitted": str(base == "none"),
        "eval.first_epoch": str(FIRST),
        "eval.last_epoch": str(EPOCHS),
        "eval.every": "1",
        "train.epochs": str(EPOCHS),
        "seed": str(seed),
    }
    tags = {"dataset": data.dataset, "category": data.category, "model": "fastflow", "altub": base}
    values = {"seed": str(seed), "model.feature_norm": norm, "altub": base, "model.steps": steps}
    return ComposedRun(params, tags | {"backbone": backbone}, values)


def level(data, norm, base):
    """Return the mean AUROC of a base without the seed's part."""
    return LEVELS[data.name] - 0.01 * NORMS.index(norm) + (GAINS[norm] if base == "alternating" else 0)


def series(data, norm, base, seed):
    """Return all metrics of a run by epoch."""
    epochs = range(1, EPOCHS + 1)
    height = WAVES.get(base, 0.01)
    auroc = {e: level(data, norm, base) + 0.001 * seed * (base != "none") + height * (-1) ** e for e in epochs}
    metrics = {
        "image_auroc": auroc if data.primary == "image_auroc" else {e: value - 0.1 for e, value in auroc.items()},
        "loss": {e: 1 - 0.05 * e for e in epochs},
        "ks": {e: 0.1 + 0.01 * (-1) ** (e + 1) * seed for e in epochs if e % 2 == 0 or e % 3 == 0},
    }
    if data.primary == "pixel_auroc":
        metrics["pixel_auroc"] = auroc
    if base == "none":
        metrics |= {
            f"{metric}_fitted": {e: value + 0.001 for e, value in metrics[metric].items()}
            for metric in ("pixel_auroc", "image_auroc")
            if metric in metrics
        }
    return metrics


def recorded(run: ComposedRun, state="finished", **changes) -> Run:
    """Return the recorded run of a planned one."""
    data = next(d for d in DATA if (d.dataset, d.category) == (run.tags["dataset"], run.tags["category"]))
    seed, norm, base = run.params["seed"], run.params["model.feature_norm"], run.params["altub.name"]
    key = "-".join([data.name, norm, base, run.tags["backbone"], run.params["model.steps"]])
    tags = {**run.tags, "seed": seed, "run_key": f"seed{seed}-{key}", "status": state, "git_commit": "0" * 40}
    tags |= {"git_dirty": "False", "versions": "python 3.11.2"}
    found = series(data, norm, base, int(seed))
    return Run(f"{key}-{seed}", key, "study", tags, {**run.params, **changes}, {}, found, START)


def kept(run: Run) -> RecordedRun:
    """Return a run as the records keep it."""
    times = {"started": START, "ended": START + 1000, "run_uid": run.run_id}
    status = {"state": run.tags["status"], "summary": {}, "versions": {}, **times}
    record = {
        "uri": "sqlite:///mlflow.db",
        "experiment": "study",
        "name": run.name,
        "tags": {key: value for key, value in run.tags.items() if key != "status"},
        "params": run.params,
        "start_time": START,
    }
    rows = [
        {"epoch": e, **{name: points[e] for name, points in run.series.items() if e in points}, "time": START + e}
        for e in range(1, EPOCHS + 1)
    ]
    files = {"config.yaml": "{}\n", "status.json": json.dumps(status), "record.json": json.dumps(record)}
    return RecordedRun(f"made-up/{run.run_id}", files, rows)


@pytest.fixture
def made_up_plan(monkeypatch):
    """Plan the made-up study's runs in place of those of the sweeps."""
    monkeypatch.setattr(grid, "composed_runs", of_first_seed)
    monkeypatch.setattr("analysis.paper.paper_runs.composed_runs", composed)


def window_mean(data, norm, arm, seed):
    """Return the mean of the primary AUROC in percent over the window."""
    base = "none" if arm == "fitted" else arm
    values = series(data, norm, base, seed)[data.primary + ("_fitted" if arm == "fitted" else "")]
    return 100 * math.fsum(values[e] for e in range(FIRST, EPOCHS + 1)) / (EPOCHS - FIRST + 1)
