"""Scoring images with a finished run, and timing it, through the real command line."""

import csv
import re
import shutil
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import f1_score, roc_auc_score

from altub_exp.predict import main
from altub_exp.runs.checkpoint import ImageScores, load_trained, save_trained
from altub_exp.runs.folder import RunFolder
from altub_exp.runs.seal import archive_facts
from tests.commandline import TINY, folders, journal, recorded, run, status

TEST = "data/synthetic/fabric/test"
CFLOW = [
    "model=cflow",
    *TINY,
    "dataset.image_size=64",
    "model.fibre_batch=16",
    "train.epochs=4",
    "train.cycle=2",
    "train.warmup_epochs=0",
    "altub.freezing_interval=2",
]


@pytest.fixture
def predict(capsys, monkeypatch):
    """Run the command in this process, which has imported PyTorch, and return (stdout, stderr)."""

    def predicted(cwd, *arguments, expect=0):
        monkeypatch.chdir(cwd)
        capsys.readouterr()
        assert main([str(argument) for argument in arguments]) == expect
        return capsys.readouterr()

    return predicted


def scores(folder):
    with (folder / "scores.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Finished runs as {(model, base, reference): folder}, and their common folder."""
    cwd = tmp_path_factory.mktemp("trained")
    run(cwd, "-m", *TINY, "altub=none,alternating")
    run(cwd, "-m", *CFLOW, "model.score_reference=test,train")
    found = {}
    for folder in folders(cwd):
        model, base = folder.parents[1].name.split("-")[0], folder.parent.name
        reference = next(
            (r for r in ("train", "test") if f"score_reference: {r}" in (folder / "config.yaml").read_text()), ""
        )
        found[model, base, reference] = folder
    return cwd, found


RUNS = [
    ("fastflow", "none", ""),
    ("fastflow", "alternating", ""),
    ("cflow", "alternating", "test"),
    ("cflow", "alternating", "train"),
]


@pytest.mark.parametrize("key", RUNS, ids="-".join)
def test_scores_and_maps_of_the_test_images_are_those_of_the_runs_last_evaluation(trained, predict, key, tmp_path):
    cwd, found = trained
    predict(cwd, found[key], TEST, "--output", tmp_path, "--maps", "tiff", "--no-overlays", "--device", "cpu")
    rows = scores(tmp_path)
    last = journal(found[key])[-1]
    defective = ["/good/" not in row["file"] for row in rows]
    assert sum(defective) == len(rows) - 4 > 0
    assert roc_auc_score(defective, [float(row["score"]) for row in rows]) == pytest.approx(
        last["image_auroc"], abs=1e-9
    )
    maps, masks = [], []
    for row in rows:
        assert row["overlay"] == row["error"] == ""
        values = np.asarray(Image.open(row["map"]))
        assert values.dtype == np.float32
        assert values.max() == pytest.approx(float(row["score"]), rel=1e-6)
        maps.append(values)
        mask = cwd / row["file"].replace("/test/", "/ground_truth/").replace(".png", "_mask.png")
        gray = Image.open(mask).convert("L").resize(values.shape, 0) if mask.exists() else np.zeros(values.shape)
        masks.append(np.asarray(gray) > 127)
    pixel = roc_auc_score(np.ravel(masks), np.ravel(maps))
    assert pixel == pytest.approx(last["pixel_auroc"], abs=1e-6)  # float32 maps may tie where float64 ones did not
    assert not (tmp_path / "overlays").exists()


def test_a_score_does_not_depend_on_the_other_images(trained, predict, tmp_path):
    cwd, found = trained
    folder = found["cflow", "alternating", "test"]
    predict(cwd, folder, TEST, "--output", tmp_path / "all", "--maps", "none", "--no-overlays")
    one = sorted((cwd / TEST).glob("*/*.png"))[5]
    predict(cwd, folder, one, "--output", tmp_path / "one", "--maps", "none", "--no-overlays")
    by_file = {cwd / row["file"]: float(row["score"]) for row in scores(tmp_path / "all")}
    assert float(scores(tmp_path / "one")[0]["score"]) == pytest.approx(by_file[one], rel=1e-5)
    assert not (tmp_path / "one/maps").exists()


def test_16_bit_maps_give_the_values_back_on_one_scale(trained, predict, tmp_path):
    cwd, found = trained
    folder = found["fastflow", "alternating", ""]
    predict(cwd, folder, TEST, "--output", tmp_path / "png")
    predict(cwd, folder, TEST, "--output", tmp_path / "tiff", "--maps", "tiff", "--no-overlays")
    scales, levels = set(), []
    for png, tiff in zip(scores(tmp_path / "png"), scores(tmp_path / "tiff"), strict=True):
        picture = Image.open(png["map"])
        assert picture.mode == "I;16"
        low, high = float(picture.text["minimum"]), float(picture.text["maximum"])
        scales.add((low, high))
        values = low + np.asarray(picture) / 65535 * (high - low)
        np.testing.assert_allclose(values, np.asarray(Image.open(tiff["map"])), atol=(high - low) / 65535)
        levels.append(np.asarray(picture))
        assert Image.open(png["overlay"]).size == Image.open(cwd / png["file"]).size == (64, 64)
        assert not np.array_equal(np.asarray(Image.open(png["overlay"])), np.asarray(Image.open(cwd / png["file"])))
    assert len(scales) == 1
    assert (np.min(levels), np.max(levels)) == (0, 65535)  # the run's own test images span it


def test_files_and_nested_folders_keep_their_names_and_clashes_are_refused(trained, predict, tmp_path):
    cwd, found = trained
    folder, source = found["fastflow", "none", ""], sorted((cwd / TEST).glob("*/*.png"))[0]
    images = tmp_path / "images"
    (images / "line 1").mkdir(parents=True)
    (images / ".hidden").mkdir()
    shutil.copy(source, images / "line 1" / "a.png")
    Image.open(source).convert("L").resize((50, 80)).save(images / "line 1" / "a.jpg")
    shutil.copy(source, images / ".hidden" / "b.png")
    predict(cwd, folder, images, source, "--output", tmp_path / "out")
    rows = scores(tmp_path / "out")
    assert [row["file"] for row in rows] == [str(images / "line 1/a.jpg"), str(images / "line 1/a.png"), str(source)]
    assert {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.*")} == {
        "scores.csv",
        *(
            f"{kind}/{name}.png"
            for kind in ("maps", "overlays")
            for name in ("line 1/a.jpg", "line 1/a.png", source.stem)
        ),
    }
    assert Image.open(rows[0]["overlay"]).size == (50, 80)
    assert rows[1]["score"] == rows[2]["score"] != rows[0]["score"]
    _, stderr = predict(cwd, folder, images / "line 1/a.png", images, "--output", tmp_path / "two", expect=0)
    shutil.copytree(images / "line 1", tmp_path / "other" / "line 1")
    _, stderr = predict(cwd, folder, images, tmp_path / "other", "--output", tmp_path / "three", expect=1)
    assert "would have one result line 1/a" in stderr
    assert not (tmp_path / "three").exists()


def test_an_unreadable_image_is_named_and_the_others_are_scored(trained, predict, tmp_path):
    cwd, found = trained
    folder = found["fastflow", "none", ""]
    images = tmp_path / "images"
    images.mkdir()
    for name in ("1.png", "3.png"):
        shutil.copy(sorted((cwd / TEST).glob("*/*.png"))[0], images / name)
    (images / "2.png").write_bytes(b"no image")
    stdout, stderr = predict(cwd, folder, images, "--output", tmp_path / "out", expect=1)
    rows = scores(tmp_path / "out")
    assert [bool(row["score"]) for row in rows] == [True, False, True]
    assert rows[1]["error"] == "cannot be read as an image"
    assert rows[0]["score"] == rows[2]["score"]
    assert "2 images scored" in stdout
    assert "1 files could not be read" in stderr


def broken_copy(trained, tmp_path, change):
    _, found = trained
    folder = tmp_path / "run"
    shutil.copytree(found["fastflow", "none", ""], folder)
    change(folder)
    return folder


def failed(folder):
    RunFolder(folder).write_status(state="failed")


def other_weights(folder):
    RunFolder(folder).write_status(weights_sha256="0" * 64)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (failed, "is failed, not finished"),
        (other_weights, "are not those that the run"),
        (lambda folder: (folder / "checkpoint.pt").unlink(), "checkpoint.pt is missing"),
        (lambda folder: (folder / "checkpoint.pt").write_bytes(b"torn"), "checkpoint.pt is damaged"),
        (
            lambda folder: (folder / "config.yaml").write_text("model: {name: fastflow}"),
            "is not the configuration of a run",
        ),
        (lambda folder: (folder / "status.json").unlink(), "is not a run: give its folder"),
    ],
)
def test_a_run_that_cannot_be_used_is_one_sentence(trained, predict, tmp_path, change, sentence):
    folder = broken_copy(trained, tmp_path, change)
    stdout, stderr = predict(trained[0], folder, TEST, "--output", tmp_path / "out", expect=1)
    (line,) = stderr.splitlines()
    assert line.startswith("error: ")
    assert sentence in line
    assert stdout == ""
    assert not (tmp_path / "out").exists()


def test_wrong_places_and_earlier_results_are_refused(trained, predict, tmp_path):
    cwd, found = trained
    folder = found["fastflow", "none", ""]
    (tmp_path / "empty").mkdir()
    for place, sentence in ((tmp_path / "empty", "holds no images"), (tmp_path / "none", "There is no file or folder")):
        assert sentence in predict(cwd, folder, place, "--output", tmp_path / "out", expect=1)[1]
    assert not (tmp_path / "out").exists()
    arguments = (folder, TEST, "--output", tmp_path / "out", "--maps", "none", "--no-overlays")
    predict(cwd, *arguments)
    assert "exists: give another folder" in predict(cwd, *arguments, expect=1)[1]
    predict(cwd, *arguments, "--overwrite")


@pytest.mark.parametrize("key", [RUNS[1], RUNS[2]], ids="-".join)
def test_thresholds_divide_the_test_images_as_their_rules_say(trained, predict, key, tmp_path):
    cwd, found = trained
    arguments = (found[key], TEST, "--output", tmp_path, "--maps", "none", "--no-overlays", "--overwrite")
    predict(cwd, *arguments, "--device", "cpu")
    values = {row["file"]: float(row["score"]) for row in scores(tmp_path)}
    normal = [value for file, value in values.items() if "/good/" in file]

    def decided(rule):
        stdout, stderr = predict(cwd, *arguments, f"--threshold={rule}", "--device", "cpu")
        rows = scores(tmp_path)
        assert list(rows[0]) == ["file", "score", "decision", "map", "overlay", "error"]
        assert {row["file"]: float(row["score"]) for row in rows} == values
        counts = Counter(row["decision"] for row in rows)
        assert f"{counts['defective']} defective, {counts['normal']} normal\n" in stdout
        assert stderr == ""
        return {row["file"] for row in rows if row["decision"] == "defective"}, stdout

    for quantile in (0, 0.6, 0.9):
        limit = np.quantile(normal, quantile)
        defective, stdout = decided(f"quantile={quantile}")
        close = {file for file, value in values.items() if value == pytest.approx(limit, rel=1e-6)}
        assert defective - close == {file for file, value in values.items() if value > limit} - close
        assert f"(quantile {quantile} of the scores of 4 normal test images)" in stdout
    defective, stdout = decided("f1")
    labels = ["/good/" not in file for file in values]
    best = max(f1_score(labels, [value >= limit for value in values.values()]) for limit in values.values())
    assert f1_score(labels, [file in defective for file in values]) == pytest.approx(best)
    assert f"(F1 of {best:.4f}, the largest, on 10 test images)" in stdout
    number = sorted(values.values())[6]
    for limit, count in ((np.nextafter(number, 9), 3), (np.nextafter(number, -9), 4)):
        defective, stdout = decided(repr(float(limit)))
        assert len(defective) == count
        assert "(as given)" in stdout


def test_a_decision_is_empty_where_an_image_cannot_be_read(trained, predict, tmp_path):
    cwd, found = trained
    images = tmp_path / "images"
    images.mkdir()
    shutil.copy(sorted((cwd / TEST).glob("*/*.png"))[0], images / "1.png")
    (images / "2.png").write_bytes(b"no image")
    stdout, _ = predict(cwd, found["fastflow", "none", ""], images, "--output", tmp_path, "--threshold=9", expect=1)
    assert [row["decision"] for row in scores(tmp_path)] == ["normal", ""]
    assert "threshold 9.0 (as given)\n0 defective, 1 normal\n" in stdout


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        *((f"quantile={value}", "a quantile is a number from 0 to 1") for value in ("1.01", "-0.1", "nan", "", "much")),
        *(
            (value, "give quantile=0.99, f1 or a number")
            for value in ("nan", "inf", "f2", "", "quantile", "f1=1", "x=1")
        ),
    ],
)
def test_what_is_no_threshold_is_one_sentence_before_any_work(predict, tmp_path, rule, sentence):
    stdout, stderr = predict(tmp_path, "no run", "no images", f"--threshold={rule}", expect=1)
    (line,) = stderr.splitlines()
    assert line.startswith(f"error: --threshold {rule}")
    assert sentence in line
    assert (stdout, list(tmp_path.iterdir())) == ("", [])


def without_scores(folder, images=None):
    """Write the checkpoint again, as an earlier version did, or with other image scores."""
    facts = archive_facts(folder / "checkpoint.pt")
    trained, epoch = load_trained(folder / "checkpoint.pt"), journal(folder)[-1]["epoch"]
    save_trained(folder / "checkpoint.pt", epoch, trained._replace(images=images), facts)


def normal_only(folder):
    images = load_trained(folder / "checkpoint.pt").images
    without_scores(folder, ImageScores(images.scores[:4], images.defective[:4], "train"))


def test_a_run_without_scores_or_defects_says_what_remains(trained, predict, tmp_path):
    cwd, _ = trained
    arguments = (TEST, "--output", tmp_path / "out", "--maps", "none", "--no-overlays")
    earlier = broken_copy(trained, tmp_path / "1", without_scores)
    for rule in ("quantile=0.5", "f1"):
        _, stderr = predict(cwd, earlier, *arguments, "--threshold", rule, expect=1)
        (line,) = stderr.splitlines()
        assert "An earlier version has recorded the run, without the scores of its images" in line
        assert "as a number, or train the run again with resume=never" in line
    normal = broken_copy(trained, tmp_path / "2", normal_only)
    _, stderr = predict(cwd, normal, *arguments, "--threshold", "f1", expect=1)
    assert stderr.startswith("error: The run has no defective test images, which f1 needs: give --threshold quantile=")
    assert not (tmp_path / "out").exists()
    stdout, _ = predict(cwd, normal, *arguments, "--threshold", "quantile=1")
    assert (
        "(quantile 1 of the scores of 4 training images: there are no test images, and new normal images may" in stdout
    )
    predict(cwd, earlier, *arguments, "--overwrite", "--threshold", "0")
    predict(cwd, earlier, *arguments, "--overwrite")
    assert "decision" not in scores(tmp_path / "out")[0]


def test_inference_of_a_finished_run_is_timed_once(trained):
    cwd, found = trained
    folder = found["fastflow", "none", ""]
    assert "inference_ms" not in status(folder)["summary"]
    before = journal(folder)
    stdout, _ = run(cwd, str(folder), "--timing", "5", module="altub_exp.measure")
    assert re.search(r" ms and \d+ MB per image", stdout)
    summary = status(folder)["summary"]
    assert 0 < summary["inference_ms"] < 10_000
    assert summary["inference_ms_std"] >= 0
    parameters = (folder / "checkpoint.pt").stat().st_size  # of the flow, and of little else
    assert parameters / 2 < summary["inference_mb"] * 1e6 < 1e9
    assert {"pixel_auroc_mean", "image_auroc_best"} <= summary.keys()
    assert journal(folder) == before
    histories, _ = recorded(cwd)
    assert histories["none"]["inference_ms"] == [(6, summary["inference_ms"])]
    assert "inference_ms" not in histories["alternating"]
    run(cwd, str(folder), "--timing", "5", module="altub_exp.measure")
    assert status(folder)["summary"] == summary
    assert len(folders(cwd)) == len(RUNS)


def test_the_real_command_scores_and_explains_itself(trained, tmp_path):
    cwd, found = trained
    folder = str(found["cflow", "alternating", "train"])
    stdout, stderr = run(cwd, folder, TEST, "--output", str(tmp_path), module="altub_exp.predict")
    assert stdout == f"10 images scored: {tmp_path}/scores.csv\n"
    assert "Traceback" not in stderr
    stdout, _ = run(cwd, "--help", module="altub_exp.predict")
    for word in ("examples:", "scores.csv", "--maps", "tiff"):
        assert word in stdout
    _, stderr = run(cwd, "runs", TEST, module="altub_exp.predict", expect=1)
    assert stderr == (
        "error: runs is not a run: give its folder, runs/DATASET/CATEGORY/MODEL-BACKBONE/ALTUB/seedN-HASH.\n"
    )
