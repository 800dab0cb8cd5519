"""Training on the layouts of published data sets through the real command line."""

import json

import pytest
import yaml

from tests.commandline import run

TINY = [
    "backbone.weights=random",
    "dataset.image_size=32",
    "model.steps=1",
    "train.epochs=1",
    "train.batch_size=4",
    "threads=1",
]


def train(cwd, *arguments, status=0):
    """Run the command to its end; returns what it says."""
    _, said = run(cwd, *arguments, *TINY, expect=status)
    assert "Traceback" not in said
    return said


@pytest.mark.parametrize(
    ("dataset", "category", "counts"),
    [
        ("btad", "01", (6, 7)),
        ("visa", "candle", (6, 7)),
        ("mvtec2", "vial", (6, 7)),
        ("loco", "pushpins", (6, 7)),
        ("realiad", "toy", (10, 15)),
    ],
)
def test_a_run_has_a_pixel_auroc(request, tmp_path, dataset, category, counts):
    root = request.getfixturevalue(f"{dataset}_root")
    said = train(tmp_path, f"dataset={dataset}", f"dataset.root={root}", f"dataset.category={category}")
    assert "{} training and {} test images".format(*counts) in said
    (folder,) = (tmp_path / "runs" / dataset / category / "fastflow-r18/alternating").iterdir()
    (row,) = (json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines())
    assert 0 < row["pixel_auroc"] < 1
    assert 0 <= row["image_auroc"] <= 1
    assert (folder / "maps.png").stat().st_size > 0


def test_a_category_of_digits_keeps_its_zero_in_a_sweep(btad_root, tmp_path):
    train(tmp_path, "-m", "dataset=btad", f"dataset.root={btad_root}", "dataset.category=02,03", "altub=none")
    configs = sorted((tmp_path / "runs/btad").glob("*/*/*/*/config.yaml"))
    assert [yaml.safe_load(config.read_text())["dataset"]["category"] for config in configs] == ["02", "03"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["dataset=btad", "dataset.category=1"], "There is no category '1' in btad (did you mean 01?)"),
        (["dataset=btad", "dataset.category=all"], "-m dataset.category=01,02,03"),
        (
            ["dataset=btad", "dataset.category=01", "dataset.root=nowhere"],
            "get it with `python -m altub_exp.data get btad",
        ),
        (["dataset=btad"], "dataset.category has no value"),
        (["dataset=mvtec", "dataset.root=btad", "dataset.category=01"], "no folder train/good"),
        (["dataset=visa", "dataset.root=btad", "dataset.category=candle"], "There is no table btad/split_csv/1cls.csv"),
    ],
)
def test_bad_input_is_one_sentence_before_any_training(btad_root, tmp_path, arguments, sentence):
    (said,) = train(tmp_path, "dataset.root=btad", *arguments, status=1).splitlines()
    assert said.startswith("error: ")
    assert sentence in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["btad"]
