"""Fills an MLflow store with the paper's own numbers, for tests of tables, figures and report.

    from tests.analysis.filler import Filler

    uri = Filler().fill(tmp_path)                       # all of the tables: 164 runs, experiment "altub"
    Filler(only=lambda spot: spot.category == "capsule").fill(tmp_path)
    filler = Filler(state=lambda spot: "crashed" if spot.category == "pill" else "finished")

Series have exactly the paper's mean and standard deviation over the window, and its best where one can be had; ks, its
spread and the times are those of Tables 5 and 7. A `Spot` names a run; every option is a function of it:

    only    whether there is such a run at all
    state   finished | crashed | running | failed; those that are not finished end at epoch `ends`
    gaps    how many evaluations in the window are left out
    params  overrides of params, as strings: {"train.epochs": "30"}
    seeds   which seeds

`specs` gives what `fill` writes, to be changed before `write(specs, folder)` (doubled, in another experiment, …), and
`log(specs, client)` sends them through MLflow's own client.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path

import numpy as np

from altub_exp.metrics.stability import stability
from altub_exp.sweep import paper_sweeps
from altub_exp.tracking.lifecycle import flatten
from analysis.paper.values import BACKBONES, Key, backbone_choice, categories, values
from tests.stores import place_store

START = 1_760_000_000_000
CHANNELS = {"r18": 448, "wrn50": 1792, "deit": 768, "cait": 768}
SMALLER = {"transistor": "128", **dict.fromkeys(("cable", "capsule", "hazelnut", "metal_nut", "pill"), "256")}
"""Input sizes of CFLOW-AD where they are not 512 px."""


@dataclass(frozen=True)
class Spot:
    """A run of the grid."""

    dataset: str
    category: str
    model: str
    backbone: str
    altub: str


@dataclass
class Spec:
    """One run as it is written."""

    spot: Spot
    seed: int
    params: dict[str, str]
    tags: dict[str, str]
    series: dict[str, dict[int, float]]
    last: dict[str, float]
    state: str = "finished"
    experiment: str = "altub"
    started: int = START
    run_id: str = field(default_factory=lambda: uuid.uuid4().hex)


def spots() -> list[Spot]:
    """The 164 runs of Tables 1 to 7 and A1."""
    found = [
        Spot("mvtec", category, "fastflow", backbone, altub)
        for category in categories("table_a1")
        for backbone in BACKBONES
        for altub in ("none", "alternating")
    ]
    found += [Spot("mvtec", "capsule", "fastflow", b, altub) for b in BACKBONES for altub in ("stereotype", "cnn")]
    found += [
        Spot("mvtec", c, "cflow", "wrn50_tv", altub) for c in categories("table1") for altub in ("none", "alternating")
    ]
    found += [
        Spot("btad", c, "fastflow", "wrn50", altub) for c in ("01", "02", "03") for altub in ("none", "alternating")
    ]
    return found


@cache
def configuration(dataset: str, model: str, backbone: str, altub: str) -> Mapping[str, str]:
    """The configuration that the sweeps compose, of one category."""
    arguments = [f"experiment={model}-{backbone}", f"altub={altub}"]
    arguments += ["dataset.category=capsule"] if dataset == "mvtec" else ["dataset=btad", "dataset.category='01'"]
    (job,) = paper_sweeps.jobs("table1", *arguments)
    return {key: str(value) for key, value in flatten(asdict(job.config)).items()}


def two_valued(mean: float, std: float, best: float | None, count: int) -> np.ndarray:
    """`count` fractions with exactly this mean and standard deviation in percent and none above `best`, if possible.

    k of them lie above the mean by std·√((n−k)/k), the others below it.
    """
    for upper in range(count // 2, count):
        above = std * np.sqrt((count - upper) / upper)
        if mean + above <= min(best if best is not None else 100, 100) + 1e-9 or upper == count - 1:
            break
    if mean + above > 100:  # printed as 100.0 all the same
        mean = 100 - above
    below = std * np.sqrt(upper / (count - upper))
    found = np.concatenate([np.full(upper, mean + above), np.full(count - upper, mean - below)]) / 100
    return np.random.default_rng(0).permutation(found)


def curve(mean: float, std: float, best: float | None, first: int, last: int, every: int) -> dict[int, float]:
    """A series {epoch: fraction} over all evaluations, with its best before the window where that is above it."""
    due = [epoch for epoch in range(1, last + 1) if epoch % every == 0]
    window = [epoch for epoch in due if epoch >= first]
    inside = two_valued(mean, std, best, len(window))
    early = [epoch for epoch in due if epoch < first]
    low = inside.min() - 0.01
    series = {epoch: low * (0.5 + 0.5 * place / len(early)) for place, epoch in enumerate(early, start=1)}
    if best is not None and best / 100 > inside.max():
        series[early[-1]] = best / 100
    return series | dict(zip(window, map(float, inside), strict=True))


def paper(spot: Spot, task: str) -> tuple[float, float, float | None] | None:
    """Mean, sd and best of a cell, from the paper; None where the paper has nothing."""
    key = Key(spot.category, spot.model, spot.backbone, spot.altub, task)
    if spot.dataset == "btad":
        value, best = values("table4").get(key), values("table3").get(key)
        return value and (value.mean, value.std, best.best)
    if spot.model == "cflow":
        short = Key(spot.category, "cflow", "", spot.altub, task)
        value = values("table2")[short]
        return value.mean, value.std, values("table1")[short].best
    value = values("table_a1").get(key) or values("table6").get(key)
    if value is None:
        return None
    best = None
    if spot.altub == "alternating" and spot.backbone in backbone_choice(spot.category).backbones:
        best = values("table1")[Key(spot.category, "fastflow", "", "alternating", task)].best
    return (value.mean, value.std, best) if value.mean is not None else None


@dataclass
class Filler:
    """See the module. `toothbrush` chooses between the two standard deviations that the paper prints for one cell."""

    only: Callable[[Spot], bool] = lambda spot: True
    state: Callable[[Spot], str] = lambda spot: "finished"
    gaps: Callable[[Spot], int] = lambda spot: 0
    params: Callable[[Spot], Mapping[str, str]] = lambda spot: {}
    seeds: Callable[[Spot], Iterable[int]] = lambda spot: (25,)
    ends: int = 150
    toothbrush: str = "table_a1"
    experiment: str = "altub"

    def specs(self) -> list[Spec]:
        """The runs to write, in the order of `spots`."""
        return [self.spec(spot, seed) for spot in spots() if self.only(spot) for seed in self.seeds(spot)]

    def spec(self, spot: Spot, seed: int = 25) -> Spec:
        params = dict(configuration(spot.dataset, spot.model, spot.backbone, spot.altub))
        params |= {"dataset.category": spot.category, "seed": str(seed)}
        if spot.model == "cflow":
            params["dataset.image_size"] = SMALLER.get(spot.category, "512")
        params |= self.params(spot)
        first, last, every = (int(params[f"eval.{key}"]) for key in ("first_epoch", "last_epoch", "every"))
        series: dict[str, dict[int, float]] = {}
        crashes = False
        for task, metric in (("segmentation", "pixel_auroc"), ("detection", "image_auroc")):
            told = paper(spot, task)
            if told is None and task == "segmentation":
                crashes = True
            mean, std, best = told or (90.0, 0.5, None)
            if (spot.category, spot.backbone, spot.altub) == ("toothbrush", "cait", "alternating"):
                std = {"table_a1": 0.35, "table2": 0.06}[self.toothbrush] if task == "segmentation" else std
            series[metric] = curve(mean, std, best, first, last, every)
        series["loss"] = {epoch: 0.5 - epoch / 1000 for epoch in range(1, int(params["train.epochs"]) + 1)}
        series |= self.normality(spot, range(10, int(params["train.epochs"]) + 1, 10))
        window = [epoch for epoch in series["pixel_auroc"] if epoch >= first]
        for epoch in window[: self.gaps(spot)]:
            del series["pixel_auroc"][epoch], series["image_auroc"][epoch]
        state = "crashed" if crashes else self.state(spot)
        key = Key("capsule", spot.model, spot.backbone, spot.altub)
        last_values = {}
        if state == "finished":
            if spot.dataset == "mvtec" and spot.category == "capsule" and key in values("table7"):
                last_values = {"inference_ms": values("table7")[key].mean, "inference_ms_std": 0.1}
        else:
            series = {name: {e: v for e, v in points.items() if e <= self.ends} for name, points in series.items()}
        if state in ("finished", "crashed"):
            for metric in ("pixel_auroc", "image_auroc"):
                if (found := stability(series[metric], first, last)) is not None:
                    values_of = {"mean": found.mean, "std": found.std, "best": found.best}
                    last_values |= {f"{metric}_{name}": value for name, value in values_of.items()}
        digest = uuid.uuid5(uuid.NAMESPACE_OID, str((spot, seed, sorted(params.items())))).hex[:8]
        tags = {
            "model": spot.model,
            "backbone": spot.backbone,
            "dataset": spot.dataset,
            "category": spot.category,
            "altub": spot.altub,
            "seed": str(seed),
            "weights": params["backbone.weights"],
            "run_key": f"seed{seed}-{digest}",
            "run_folder": f"/runs/{spot.dataset}/{spot.category}/{spot.model}-{spot.backbone}/{spot.altub}/seed{seed}",
            "git_commit": "0123456789abcdef0123456789abcdef01234567",
            "git_dirty": "False",
            "device": "NVIDIA A100",
            "host": "node1",
            "code_changed": "False",
            "versions": "python 3.11.2, torch 2.15.0",
            "status": state,
        }
        return Spec(spot, seed, params, tags, series, last_values, state, self.experiment)

    @staticmethod
    def normality(spot: Spot, epochs: range) -> dict[str, dict[int, float]]:
        """ks and its companions, so that over all channels and epochs they come to Table 5."""
        channels = CHANNELS.get(spot.backbone, 3584)
        told = values("table5").get(Key("capsule", spot.model, spot.backbone, spot.altub))
        mean, width = (told.mean, told.interval) if told and told.mean and told.interval else (6.0, 0.02)
        total = channels * len(epochs)
        std = width / 1.96 * np.sqrt(total)
        wave = np.where(np.arange(len(epochs)) % 2, 1, -1) * 0.1 * (len(epochs) > 1)
        wave -= wave.mean()
        inside = np.sqrt((std**2 * (total - 1) - channels * (wave**2).sum()) / (len(epochs) * (channels - 1)))
        return {
            "ks": {epoch: (mean + step) / 100 for epoch, step in zip(epochs, wave, strict=True)},
            "ks_std": dict.fromkeys(epochs, float(inside) / 100),
            "ks_channels": dict.fromkeys(epochs, float(channels)),
            "ks_test_good": {epoch: (mean + 0.5 + step) / 100 for epoch, step in zip(epochs, wave, strict=True)},
            "mean_square": dict.fromkeys(epochs, 1.0),
        }

    def fill(self, folder: Path) -> str:
        """Write everything to `folder/mlflow.db` and return the tracking URI."""
        return write(self.specs(), folder)


def points(spec: Spec) -> list[tuple[str, float, int]]:
    """(metric, value, epoch) of all that is recorded."""
    found = [(name, value, epoch) for name, series in spec.series.items() for epoch, value in series.items()]
    last = max(epoch for _, _, epoch in found)
    return found + [(name, value, last) for name, value in spec.last.items()]


def write(specs: Iterable[Spec], folder: Path) -> str:
    """Write runs to `folder/mlflow.db` by SQL, which is created by the program where it is missing."""
    path = place_store(folder)
    uri = f"sqlite:///{path}"
    with closing(sqlite3.connect(path)) as store, store:
        for spec in specs:
            store.execute(
                "INSERT OR IGNORE INTO experiments (experiment_id, name, artifact_location, lifecycle_stage) VALUES "
                "((SELECT max(experiment_id) + 1 FROM experiments), ?, ?, 'active')",
                (spec.experiment, f"{folder.as_uri()}/artifacts"),
            )
            (experiment,) = store.execute(
                "SELECT experiment_id FROM experiments WHERE name = ?", (spec.experiment,)
            ).fetchone()
            status = {"finished": "FINISHED", "running": "RUNNING"}.get(spec.state, "FAILED")
            place = f"{spec.spot.dataset}/{spec.spot.category} {spec.spot.model}-{spec.spot.backbone} {spec.spot.altub}"
            name = f"{place} seed{spec.seed}"
            ended = None if spec.state == "running" else spec.started + 10**6
            artifacts = f"{folder.as_uri()}/artifacts/{spec.run_id}/artifacts"
            store.execute(
                "INSERT INTO runs (run_uuid, name, experiment_id, status, start_time, end_time, lifecycle_stage, "
                "source_type, source_name, entry_point_name, source_version, user_id, artifact_uri) "
                "VALUES (?, ?, ?, ?, ?, ?, 'active', 'LOCAL', '', '', '', 'somebody', ?)",
                (spec.run_id, name, experiment, status, spec.started, ended, artifacts),
            )
            store.executemany(
                "INSERT INTO tags (run_uuid, key, value) VALUES (?, ?, ?)",
                [(spec.run_id, *tag) for tag in spec.tags.items()],
            )
            store.executemany(
                "INSERT INTO params (run_uuid, key, value) VALUES (?, ?, ?)",
                [(spec.run_id, *param) for param in spec.params.items()],
            )
            rows = [(spec.run_id, name, value, spec.started + epoch, epoch) for name, value, epoch in points(spec)]
            store.executemany(
                "INSERT INTO metrics (run_uuid, key, value, timestamp, step, is_nan) VALUES (?, ?, ?, ?, ?, 0)", rows
            )
            store.executemany(
                "INSERT OR REPLACE INTO latest_metrics (run_uuid, key, value, timestamp, step, is_nan) VALUES "
                "(?, ?, ?, ?, ?, 0)",
                {row[1]: row for row in sorted(rows, key=lambda row: row[-1])}.values(),
            )
    return uri


def log(specs: Iterable[Spec], client) -> None:
    """Send runs through MLflow's own client."""
    from mlflow.entities import Metric, Param

    for spec in specs:
        found = client.get_experiment_by_name(spec.experiment)
        experiment = found.experiment_id if found else client.create_experiment(spec.experiment)
        run = client.create_run(experiment, start_time=spec.started, tags=spec.tags)
        spec.run_id = run.info.run_id
        metrics = [Metric(name, value, spec.started + epoch, epoch) for name, value, epoch in points(spec)]
        for start in range(0, len(metrics), 1000):
            client.log_batch(spec.run_id, metrics=metrics[start : start + 1000])
        params = [Param(*param) for param in spec.params.items()]
        for start in range(0, len(params), 100):
            client.log_batch(spec.run_id, params=params[start : start + 100])
        client.set_terminated(spec.run_id, "FINISHED" if spec.state == "finished" else "FAILED")


def grid_of_240_runs() -> list[Spec]:
    """240 runs × 300 epochs × 4 metrics, and the statistics of every tenth epoch."""
    filler = Filler(
        only=lambda spot: (spot.dataset, spot.model) == ("mvtec", "fastflow") and spot.altub in ("none", "alternating"),
        seeds=lambda spot: (25, 26),
    )
    specs = filler.specs()
    for spec in specs:
        spec.series["mean_square"] = dict.fromkeys(range(1, 301), 1.0)
    assert len(specs) == 240
    return specs
