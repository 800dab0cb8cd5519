"""Runs on tiles and on images that keep their aspect, through the real command line."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from sklearn.metrics import roc_auc_score

from altub_exp.data.canvas import Canvas
from altub_exp.detector.tiled import canvas_scores
from altub_exp.method.scoring import CrossScaleEnergy, LikelihoodMap
from altub_exp.metrics.aupro import aupro
from altub_exp.runs.checkpoint import load_trained
from tests.commandline import folders, journal, run

RUN = ("dataset=mvtec", "dataset.root=data", "altub=none", "device=cpu", "threads=1", "tracking.experiment=tiles")
SHORT = ("model.steps=1", "train.epochs=2", "eval.ks_every=1", "train.batch_size=4", "train.warmup_epochs=0")


def drawn(folder, counts, draw):
    """Draw images and masks in MVTec AD's layout; ``draw`` returns an image, or a defective one and its mask."""
    for split, count in counts.items():
        (folder / split).mkdir(parents=True)
        for number in range(count):
            image, mask = draw(number, split.endswith("scratch"))
            image.save(folder / split / f"{number}.png", compress_level=1)
            if mask is not None:
                (folder / "ground_truth/scratch").mkdir(parents=True, exist_ok=True)
                mask.save(folder / "ground_truth/scratch" / f"{number}_mask.png")


def predicted(cwd, folder):
    """Score the test images: {file: score}, {file: map}."""
    run(
        cwd, str(folder), "data/part/test", "--maps", "tiff", "--no-overlays", "--overwrite", module="altub_exp.predict"
    )
    with (cwd / "predictions/scores.csv").open(newline="") as file:
        rows = {row["file"].removeprefix("data/part/"): row for row in csv.DictReader(file)}
    maps = {name: np.asarray(Image.open(cwd / row["map"])) for name, row in rows.items()}
    return {name: float(row["score"]) for name, row in rows.items()}, maps


@pytest.mark.slow
def test_a_scratch_in_a_large_image_is_found_with_tiles_and_lost_without(tmp_path):
    random = np.random.default_rng(0)

    def plate(number, defective):
        coarse = Image.fromarray(random.normal(size=(250, 250)).astype(np.float32)).resize((2000, 2000))
        grey = 110 + 18 * np.asarray(coarse) + random.normal(0, 4, (2000, 2000))
        image = Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8))
        if not defective:
            return image, None
        mask, (x, y), angle = Image.new("L", image.size), random.integers(300, 1500, 2), random.uniform(0, np.pi)
        line = [(x, y), (x + 200 * np.cos(angle), y + 200 * np.sin(angle))]
        ImageDraw.Draw(image).line(line, fill=235, width=2)
        ImageDraw.Draw(mask).line(line, fill=255, width=2)
        return image, mask

    drawn(tmp_path / "data/part", {"train/good": 2, "test/good": 2, "test/scratch": 2}, plate)
    keys = (
        "dataset.category=part",
        "dataset.image_size=128",
        "backbone=lite0",
        "train.batch_size=32",
        "eval.ks_every=0",
    )
    keys += ("train.drop_last=false", "model.steps=2", "train.epochs=3", "eval.every=3")
    found = {}
    for tiles in ("1x1", "8x8"):
        run(tmp_path, *RUN, *keys, f"dataset.tiles={tiles}")
        (folder,) = set(folders(tmp_path)) - set(found)
        found[folder] = journal(folder)[-1]["pixel_auroc"]
    (_, without), (tiled, with_tiles) = found.items()
    assert with_tiles > 0.99
    assert without < 0.8

    recorded = load_trained(tiled / "checkpoint.pt")
    scores, maps = predicted(tmp_path, tiled)
    assert recorded.shapes[0][1:] == (32, 32)  # of one tile
    assert list(scores) == ["test/good/0.png", "test/good/1.png", "test/scratch/0.png", "test/scratch/1.png"]
    assert list(scores.values()) == pytest.approx(recorded.images.scores.tolist(), rel=1e-3)
    assert {values.shape for values in maps.values()} == {(912, 912)}
    _, err = run(tmp_path, str(tiled), "--format", "torch", module="altub_exp.export", expect=1)
    assert "error: The run has dataset.tiles, and an exported graph takes one square image" in err


@pytest.mark.parametrize(
    ("tiles", "model"),
    [
        ("1x1", ["model=fastflow"]),
        pytest.param("1x2", ["model=cflow", "model.fibre_batch=16", "train.cycle=1"], marks=pytest.mark.slow),
        pytest.param("2x2", ["model=csflow", "model.hidden_channels=8"], marks=pytest.mark.slow),
    ],
)
def test_the_border_of_an_image_that_keeps_its_aspect_counts_nowhere(tmp_path, tiles, model):
    random = np.random.default_rng(1)

    def strip(number, defective):
        width, height = [(300, 100), (150, 60), (90, 200)][number % 3]
        values = np.clip(random.normal(120, 10, (height, width)), 0, 255).astype(np.uint8)
        mask = np.zeros_like(values)
        mask[20:35, 30:50] = 255
        if not defective:
            return Image.fromarray(values), None
        values[mask > 0] = 20
        return Image.fromarray(values), Image.fromarray(mask)

    drawn(tmp_path / "data/part", {"train/good": 4, "test/good": 3, "test/scratch": 3}, strip)
    keys = ("dataset.category=part", "dataset.image_size=64", "dataset.keep_aspect=true", "backbone=lite0")
    run(tmp_path, *RUN, *SHORT, *keys, *model, f"dataset.tiles={tiles}")
    (folder,) = folders(tmp_path)
    recorded, last = load_trained(folder / "checkpoint.pt"), journal(folder)[-1]
    scores, maps = predicted(tmp_path, folder)
    assert list(scores.values()) == pytest.approx(recorded.images.scores.tolist(), rel=1e-3)
    if tiles == "1x1":
        assert [values.shape for values in maps.values()] == 2 * [(21, 64), (26, 64), (64, 29)]
        assert list(scores.values()) == pytest.approx([values.max() for values in maps.values()], rel=1e-6)
    every = np.concatenate([values.ravel() for values in maps.values()])
    assert recorded.limits == pytest.approx((every.min(), every.max()), rel=1e-3)
    marked = []
    for name, values in maps.items():
        mask = tmp_path / "data/part/ground_truth/scratch" / name.rpartition("/")[2].replace(".png", "_mask.png")
        small = np.zeros(values.shape)
        if "scratch" in name:
            small = np.asarray(Image.open(mask).resize(values.shape[::-1], Image.Resampling.NEAREST))
        marked.append(small.ravel() > 0)
    assert last["pixel_auroc"] == pytest.approx(roc_auc_score(np.concatenate(marked), every), abs=1e-3)
    assert "pixel_aupro" in json.loads((folder / "status.json").read_text())["summary"]
    if tiles == "2x2":
        _, err = run(tmp_path, *RUN, *SHORT, *keys, *model, f"dataset.tiles={tiles}", "seed=1", "train.epochs=1")
        assert "features of 40 of 40 tiles were in the cache" in err


def test_the_score_of_an_image_is_the_largest_of_its_tiles_in_which_it_is_seen():
    canvas = Canvas(16, rows=3, overlap=0.0, keep_aspect=True)
    energies = torch.rand(2 * 3, 4, 4, generator=torch.Generator().manual_seed(0))
    inside = torch.stack([canvas.inside(canvas.box(16, 48)), canvas.inside(canvas.box(16, 16))])
    assert inside.sum((1, 2)).tolist() == [48 * 16, 16 * 16]
    scoring = LikelihoodMap()
    maps, scores = canvas_scores(scoring, [energies], [], canvas, inside)
    of_tiles = scoring.maps([energies], 16)
    assert torch.equal(maps, of_tiles.view(2, 48, 16))
    assert scores.tolist() == [float(of_tiles[:3].max()), float(of_tiles[4].max())]

    means = torch.tensor([3.0, 1.0, 2.0, 9.0, 4.0, 8.0])[:, None, None]
    for insides, expected in ((None, [3.0, 9.0]), (inside, [3.0, 4.0])):
        assert canvas_scores(CrossScaleEnergy(), [energies, means], [], canvas, insides)[1].tolist() == expected


def test_aupro_leaves_out_the_pixels_that_do_not_count():
    random = np.random.default_rng(2)
    maps, masks = random.normal(size=(3, 12, 20)), np.zeros((3, 12, 20), bool)
    masks[:2, 3:6, 4:9] = True
    inside = np.zeros_like(masks)
    inside[:, 2:10] = True
    assert aupro(maps, masks, inside=inside) == pytest.approx(aupro(maps[:, 2:10], masks[:, 2:10]), abs=1e-12)
    assert aupro(maps, masks, inside=inside) != pytest.approx(aupro(maps, masks), abs=1e-3)
    with pytest.raises(ValueError, match="needs defective and normal pixels"):
        aupro(maps, masks, inside=masks)
