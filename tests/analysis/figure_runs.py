"""Runs of the paper's figures as the filler writes them, with curves that look like trainings and real files.

uri = write([*depth().values(), *curved(Filler().specs())], tmp_path)
files(tmp_path, spec, normality=latents(...))
"""

import json
from dataclasses import replace

import numpy as np

from altub_exp.metrics.normality import UnitNormality
from tests.analysis.filler import Filler, Spot

STEPS = (1, 2, 4, 8, 16)
PILL = [Spot("mvtec", "pill", "fastflow", "cait", altub) for altub in ("none", "alternating")]


def training(level, spread, epochs, seed, sign=1.0):
    """{epoch: value} of a noisy training that comes near a level: what it will be, and what was seen of it."""
    random = np.random.default_rng(seed)
    noise = np.zeros(epochs)
    for epoch in range(1, epochs):
        noise[epoch] = 0.9 * noise[epoch - 1] + random.normal(scale=0.44 * spread)
    epoch = np.arange(1, epochs + 1)
    return {int(e): float(level - sign * 0.2 * np.exp(-e / 8) + n) for e, n in zip(epoch, noise, strict=True)}


def curved(specs):
    """The same runs with AUROCs like trainings; not the paper's numbers any more."""
    for number, spec in enumerate(specs):
        epochs = int(spec.params["train.epochs"])
        spread = 0.0008 if spec.spot.altub == "alternating" else 0.002
        for metric in ("pixel_auroc", "image_auroc"):
            level = min(0.995, np.mean(list(spec.series[metric].values())[-50:]))
            spec.series[metric] = {
                epoch: min(value, 1.0)
                for epoch, value in training(level, spread, epochs, number).items()
                if epoch in spec.series[metric]
            }
        yield spec


def depth(steps=STEPS, **changes):
    """The runs of Fig. 3: FastFlow of several depths on r18, capsule, 200 epochs; {steps: spec}."""
    spot = Spot("mvtec", "capsule", "fastflow", "r18", "none")
    found = {}
    for number, step in enumerate(steps):
        params = {
            "model.steps": str(step),
            "train.epochs": "200",
            "eval.last_epoch": "200",
            **changes,
        }
        spec = Filler(params=lambda _, params=params: params).spec(spot)
        epochs = int(params["train.epochs"])
        level = {1: 0.955, 16: 0.965, 8: 0.972, 4: 0.978, 2: 0.983}[step]
        spec.series["pixel_auroc"] = training(level, 0.001, epochs, number)
        spec.series["loss"] = {
            epoch: -0.4 - 0.5 * np.log2(1 + step) + 3 * np.exp(-epoch / 20) + 0.004 * (number + epoch % 3)
            for epoch in range(1, epochs + 1)
        }
        found[step] = spec
    return found


def capsule_units():
    """The run of Fig. 1."""
    spot = Spot("mvtec", "capsule", "fastflow", "cait", "none")
    return Filler().spec(spot)


def latents(shift=1.0, images=40, seed=0):
    """The content of `normality.json` for latents of normal units whose means have that spread, of half variance."""
    random = np.random.default_rng(seed)
    found = {}
    for name, count in (("train", images), ("test_good", images // 2)):
        means = random.normal(scale=shift, size=(1, 6, 5, 5))
        units = UnitNormality()
        units.add((means + 0.7 * random.normal(size=(count, 6, 5, 5))).astype(np.float32), 0)
        found[name] = units.to_json()
    return found


def files(folder, spec, **content):
    """Put files where MLflow looks for a filled run's: `name=` an object is NAME.json."""
    place = folder / "artifacts" / spec.run_id / "artifacts"
    place.mkdir(parents=True, exist_ok=True)
    for name, value in content.items():
        (place / f"{name}.json").write_text(json.dumps(value))
    return place


def seeds(spec, *numbers):
    """The same run with other seeds, its curves moved a little."""
    for number in numbers:
        series = {
            metric: {epoch: value - 0.0005 * (number % 7) for epoch, value in points.items()}
            for metric, points in spec.series.items()
        }
        tags = spec.tags | {"seed": str(number), "run_key": f"seed{number}-{spec.run_id[:8]}"}
        run_id = f"{number:04d}{spec.run_id[4:]}"
        yield replace(
            spec, seed=number, tags=tags, params=spec.params | {"seed": str(number)}, series=series, run_id=run_id
        )
