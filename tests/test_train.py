"""The program through its real command line, on built-in images."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess

import pytest
import torch
from omegaconf import OmegaConf
from sklearn.metrics import roc_auc_score

from tests.commandline import (
    TINY,
    command,
    environment,
    equal_models,
    folders,
    journal,
    kill_behind_a_checkpoint,
    recorded,
    run,
    status,
)
from tests.stores import place_store


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Both base distributions in one command, never interrupted."""
    cwd = tmp_path_factory.mktemp("undisturbed")
    _, stderr = run(cwd, "-m", *TINY, "altub=none,alternating", fresh=True)
    return cwd, stderr


def test_run_folder_holds_what_the_contract_names(undisturbed):
    cwd, _ = undisturbed
    assert [f.relative_to(cwd / "runs/synthetic/fabric/fastflow-r18").parts[0] for f in folders(cwd)] == [
        "alternating",
        "none",
    ]
    for folder in folders(cwd):
        assert folder.name.startswith("seed25-")
        for name in ("config.yaml", "metrics.jsonl", "checkpoint.pt", "train.log", "auroc.png", "maps.png"):
            assert (folder / name).stat().st_size > 0, name
        assert status(folder)["state"] == "finished"
        assert {"host", "started", "ended", "versions", "git_commit", "git_dirty", "pid"} <= status(folder).keys()
        rows = journal(folder)
        assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5, 6]
        assert all({"loss", "pixel_auroc", "image_auroc"} <= row.keys() for row in rows)
        assert [row["epoch"] for row in rows if "ks" in row] == [3, 6]
        statistics = {"ks", "ks_std", "ks_channels", "mean_square"}
        statistics |= {f"{name}_test_good" for name in ("ks", "ks_std", "mean_square")}
        assert statistics <= rows[-1].keys()
        of_psi = {"psi_mu", "psi_mu_std", "psi_log_sigma", "psi_log_sigma_std"}
        for row in rows:
            assert {name for name in row if name.startswith(("norm_", "psi_"))} == {"norm_gain", "norm_gain_std"} | (
                of_psi if folder.parent.name == "alternating" else set()
            )
        assert rows[0]["norm_gain"] == pytest.approx(1, abs=0.05)
        assert rows[-1]["ks_channels"] == 64 + 128 + 256
        assert all(0 < row["pixel_auroc"] < 1 for row in rows)
    assert sorted(path.name for path in cwd.iterdir()) == [
        "cache",
        "data",
        "mlartifacts",
        "mlflow.db",
        "mlflow.db.lock",
        "runs",
    ]


def test_output_says_that_the_weights_are_random_and_how_long_it_takes(undisturbed):
    _, stderr = undisturbed
    assert "weights are random" in stderr
    assert "epoch 3/6" in stderr
    assert " left" in stderr
    assert "(ψ only)" in stderr
    assert stderr.endswith("2 runs: 2 finished.\n"), "nothing of the libraries' own comes behind it"


def test_the_two_bases_share_the_first_loss_and_part_in_the_fifth_epoch(undisturbed):
    alternating, none = (journal(folder) for folder in folders(undisturbed[0]))
    assert alternating[0]["loss"] == pytest.approx(none[0]["loss"], abs=5e-3)
    assert alternating[5]["loss"] != none[5]["loss"]


def test_mlflow_holds_every_epoch_once_with_tags_params_and_artifacts(undisturbed):
    from mlflow import MlflowClient

    cwd, _ = undisturbed
    histories, runs = recorded(cwd)
    assert histories.keys() == {"none", "alternating"}
    for folder in folders(cwd):
        rows, history = journal(folder), histories[folder.parent.name]
        of_psi = () if folder.parent.name == "none" else ("psi_mu_std", "psi_log_sigma")
        for metric in ("loss", "pixel_auroc", "image_auroc", "ks", "norm_gain", *of_psi):
            assert sorted(history[metric]) == [(row["epoch"], row[metric]) for row in rows if metric in row]
        window = [row["pixel_auroc"] for row in rows if 2 <= row["epoch"] <= 6]
        assert history["pixel_auroc_mean"][0][1] == pytest.approx(sum(window) / 5, rel=1e-12)
        assert history["pixel_auroc_best"][0][1] == max(row["pixel_auroc"] for row in rows)
    for one in runs:
        assert one.info.status == "FINISHED"
        tags = one.data.tags
        assert (tags["model"], tags["backbone"], tags["dataset"], tags["category"]) == (
            "fastflow",
            "r18",
            "synthetic",
            "fabric",
        )
        assert {"seed", "run_key", "status", "git_commit", "git_dirty"} <= tags.keys()
        assert tags["status"] == "finished"
        assert one.data.params["train.epochs"] == "6"
        assert one.data.params["backbone.weights"] == "random"
        names = {a.path for a in MlflowClient(f"sqlite:///{cwd}/mlflow.db").list_artifacts(one.info.run_id)}
        assert {"config.yaml", "auroc.png", "maps.png"} <= names


def test_finished_runs_are_tested_for_normality_by_a_command(undisturbed):
    from mlflow import MlflowClient

    cwd, _ = undisturbed
    runs = [str(folder.relative_to(cwd)) for folder in folders(cwd)]
    before = [journal(folder) for folder in folders(cwd)]
    stdout, _ = run(cwd, *runs, "--normality", module="altub_exp.measure")
    assert stdout.splitlines() == [f"{name}: normality of 7,168 latent units in normality.json" for name in runs]
    assert [journal(folder) for folder in folders(cwd)] == before
    for folder, rows in zip(folders(cwd), before, strict=True):
        units = json.loads((folder / "normality.json").read_text())
        for part, images in (("train", 10), ("test_good", 4)):
            assert (units[part]["images"], units[part]["units"]) == (images, 64 * 64 + 128 * 16 + 256 * 4)
            assert sum(units[part]["shapiro_wilk"]["histogram"]) == units[part]["units"]
            suffix = "" if part == "train" else "_test_good"
            assert units[part]["mean_square"] == pytest.approx(rows[-1][f"mean_square{suffix}"], rel=1e-6)
    _, recorded_runs = recorded(cwd)
    for one in recorded_runs:
        names = {a.path for a in MlflowClient(f"sqlite:///{cwd}/mlflow.db").list_artifacts(one.info.run_id)}
        assert {"config.yaml", "auroc.png", "maps.png", "normality.json"} <= names
    stdout, _ = run(cwd, runs[0], "--normality", module="altub_exp.measure")
    assert stdout == f"{runs[0]}: nothing to do, it has been measured already\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((".", "--normality"), "error: . is not a run: give its folder"),
        (("RUN", "--normality", "--root", "data/other"), "error: data/other/fabric holds other images than those of"),
        (("RUN",), "nothing to measure: give --normality, --timing N, or both"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(undisturbed, tmp_path, arguments, sentence):
    cwd, _ = undisturbed
    place = tmp_path / "run"
    shutil.copytree(folders(cwd)[0], place)
    (place / "normality.json").unlink(missing_ok=True)
    words = [str(place) if word == "RUN" else word for word in arguments]
    if "--root" in words:
        (other := cwd / "data/other").mkdir(exist_ok=True)
        shutil.copytree(cwd / "data/synthetic/fabric", other / "fabric", dirs_exist_ok=True)
        (other / "fabric/test/good/000.png").unlink(missing_ok=True)
    _, stderr = run(cwd, *words, module="altub_exp.measure", expect=2 if len(words) == 1 else 1)
    assert sentence in stderr
    assert "Traceback" not in stderr


LOSSES = {
    "none": [0.488637, 0.42914, 0.35198, 0.290396, 0.235895, 0.185167],
    "alternating": [0.487622, 0.424388, 0.344365, 0.280334, 0.197947, 0.091775],
}


@pytest.mark.parametrize("base", LOSSES)
def test_losses_of_the_tiny_runs_do_not_drift(undisturbed, base):
    """The losses, in nats per dimension, were first computed with torch 2.15 on a CPU; optimisations must keep them."""
    (folder,) = (f for f in folders(undisturbed[0]) if f.parent.name == base)
    assert [row["loss"] for row in journal(folder)] == pytest.approx(LOSSES[base], rel=1e-3)


def test_stability_table_reads_mlflow(undisturbed):
    cwd, _ = undisturbed
    stdout, _ = run(cwd, "stability", "--experiment", "demo", module="analysis.tables")
    for folder in folders(cwd):
        values = [100 * row["pixel_auroc"] for row in journal(folder) if 2 <= row["epoch"] <= 6]
        mean = sum(values) / len(values)
        std = (sum((v - mean) ** 2 for v in values) / len(values)) ** 0.5
        line = next(line for line in stdout.splitlines() if f" {folder.parent.name} " in line and "±" in line)
        assert f"{mean:.2f} ± {std:.2f}" in line
        assert "finished" in line
    assert "2 runs of experiment 'demo'" in stdout
    assert stdout.index(" none ") < stdout.index(" alternating ")


def test_stability_table_over_another_window(undisturbed):
    cwd, _ = undisturbed
    stdout, _ = run(cwd, "stability", "--experiment", "demo", "--window", "5", "9", module="analysis.tables")
    for folder in folders(cwd):
        values = [100 * row["pixel_auroc"] for row in journal(folder)[4:]]
        line = next(line for line in stdout.splitlines() if f" {folder.parent.name} " in line and "±" in line)
        assert f"{sum(values) / 2:.2f} ± {abs(values[0] - values[1]) / 2:.2f}" in line
        assert "3 epochs of the window missing" in line


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--experiment", "absent"], "holds no experiment 'absent'"),
        (["--tracking-uri", "./mlruns"], "sqlite:///"),
    ],
)
def test_stability_table_of_nothing(undisturbed, arguments, sentence):
    _, stderr = run(undisturbed[0], "stability", *arguments, module="analysis.tables", expect=1)
    assert sentence in stderr
    assert "Traceback" not in stderr


@pytest.mark.slow
def test_on_a_terminal_a_bar_shows_the_time_left(tmp_path):
    import pty

    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        command(*TINY, "altub=none"), cwd=tmp_path, env=environment(TERM="xterm"), stdout=terminal, stderr=terminal
    )
    os.close(terminal)
    seen = b""
    while True:
        try:
            seen += os.read(controller, 65536)
        except OSError:  # the other end was closed
            break
    os.close(controller)
    assert process.wait(60) == 0
    assert re.search(rb"6/6.* left +loss", seen), seen[-2000:]
    assert "epoch 6/6" in next(tmp_path.glob("runs/**/train.log")).read_text()


def test_a_finished_run_is_not_repeated(undisturbed):
    cwd, _ = undisturbed
    folder = folders(cwd)[1]
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if path.suffix in (".pt", ".jsonl")}
    _, stderr = run(cwd, *TINY, "altub=none")
    assert "finished already" in stderr
    assert {name: (folder / name).stat().st_mtime_ns for name in before} == before
    assert len(recorded(cwd)[1]) == 2


def test_killed_in_mid_epoch_and_run_again_gives_the_same_numbers_bit_for_bit(undisturbed, tmp_path):
    cwd, _ = undisturbed
    folder = kill_behind_a_checkpoint(tmp_path, *TINY, "altub=alternating")
    assert status(folder)["state"] == "running"
    assert 1 <= len((folder / "metrics.jsonl").read_text().splitlines()) < 6, "too quick to be killed"
    _, stderr = run(tmp_path, *TINY, "altub=alternating")
    assert "from epoch" in stderr
    reference = folders(cwd)[0]
    assert folder.name == reference.name
    assert journal(folder) == journal(reference)
    assert equal_models(folder, reference)
    histories, runs = recorded(tmp_path)
    assert len(runs) == 1
    for metric in ("loss", "pixel_auroc", "image_auroc", "ks"):
        assert sorted(histories["alternating"][metric]) == sorted(recorded(cwd)[0]["alternating"][metric])


def test_interrupted_by_the_keyboard_is_said_recorded_and_resumable(undisturbed, tmp_path):
    place_store(tmp_path)
    process = subprocess.Popen(
        command(*TINY, "altub=alternating"),
        cwd=tmp_path,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for line in process.stderr:
            if line.startswith("epoch 1/6"):
                process.send_signal(signal.SIGINT)
                break
        rest = process.stderr.read()
        assert process.wait(60) == 130
    finally:
        process.kill()
        process.wait()
    assert "failed: interrupted; the same command resumes it" in rest
    assert "Traceback" not in rest
    folder = folders(tmp_path)[0]
    assert status(folder)["state"] == "failed"
    assert recorded(tmp_path)[1][0].info.status == "FAILED"
    run(tmp_path, *TINY, "altub=alternating")
    assert journal(folder) == journal(folders(undisturbed[0])[0])
    histories, (one,) = recorded(tmp_path)
    assert (one.info.status, one.data.tags["status"]) == ("FINISHED", "finished")
    assert [step for step, _ in sorted(histories["alternating"]["loss"])] == [1, 2, 3, 4, 5, 6]


@pytest.mark.slow
def test_the_main_job_on_real_images_and_a_real_backbone(shared, tmp_path):
    _, stderr = run(
        tmp_path,
        f"dataset.root={shared}/data/mvtec",
        "dataset.category=screw",
        "dataset.image_size=64",
        "backbone=mobilenetv2",
        f"backbone.weights={shared}/weights/mobilenetv2_100.tfslim_in1k.safetensors",
        "train.epochs=2",
    )
    assert "320 training and 160 test images" in stderr
    assert "random" not in stderr
    last = journal(folders(tmp_path)[0])[-1]
    assert last["pixel_auroc"] > 0.6
    assert last["loss"] < 0.5


def test_resume_never_puts_the_old_run_aside(undisturbed, tmp_path):
    short = [*TINY, "altub=none", "train.epochs=2"]
    run(tmp_path, *short)
    first = folders(tmp_path)[0]
    rows = journal(first)
    _, stderr = run(tmp_path, *short, "resume=never")
    assert "earlier run is now in" in stderr
    assert journal(first.with_name(first.name + ".old-1")) == journal(first) == rows
    assert len(recorded(tmp_path)[1]) == 2


@pytest.mark.slow
def test_a_counted_norm_trains_and_predicts_and_its_gain_does_not_shrink_as_the_published_one(tmp_path):
    norms = "model.feature_norm=trainable,counted"
    run(tmp_path, "-m", *TINY, "altub=none", norms, "train.lr=1e-2", "train.epochs=12", "eval.ks_every=0")
    found = {OmegaConf.load(folder / "config.yaml").model.feature_norm: folder for folder in folders(tmp_path)}
    trainable, counted = (journal(found[norm]) for norm in ("trainable", "counted"))
    assert counted[-1]["norm_gain"] > trainable[-1]["norm_gain"]
    assert counted[-1]["loss"] > trainable[-1]["loss"]
    assert counted[-1]["loss"] < counted[0]["loss"]
    images = "data/synthetic/fabric/test"
    run(tmp_path, str(found["counted"]), images, "--output", "out", "--no-overlays", module="altub_exp.predict")
    with (tmp_path / "out/scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    auroc = roc_auc_score(["/good/" not in row["file"] for row in rows], [float(row["score"]) for row in rows])
    assert auroc == pytest.approx(counted[-1]["image_auroc"], abs=1e-9)


def test_divergence_is_recorded_as_crashed_and_kept(tmp_path):
    wild = [*TINY, "altub=stereotype", "train.lr=1e6"]
    _, stderr = run(tmp_path, *wild)
    assert "crashed: the loss became" in stderr
    assert "Traceback" not in stderr
    folder = folders(tmp_path)[0]
    assert status(folder)["state"] == "crashed"
    assert "epoch" in status(folder)["reason"]
    _, runs = recorded(tmp_path)
    assert (runs[0].info.status, runs[0].data.tags["status"]) == ("FAILED", "crashed")
    _, stderr = run(tmp_path, *wild)
    assert "crashed already" in stderr


def damage_image(root):
    file = root / "washer/train/good/001.png"
    file.write_bytes(file.read_bytes()[:300])
    return "1 image files cannot be read", str(file)


def remove_mask(root):
    file = root / "washer/ground_truth/dent/001_mask.png"
    file.unlink()
    return "defective images without a mask", str(file)


def remove_kind_of_images(root):
    shutil.rmtree(root / "washer/train")
    return "no folder train/good", "dataset=folder"


@pytest.mark.parametrize("spoil", [damage_image, remove_mask, remove_kind_of_images])
def test_bad_images_are_one_sentence_before_any_training(tmp_path, spoil):
    from altub_exp.data.synthetic import Drawing, draw

    draw(tmp_path / "own", "washer", Drawing(size=64, train_images=4, good_images=2, defect_images=2, seed=0))
    words = spoil(tmp_path / "own")
    arguments = ["dataset.root=own", "dataset.category=washer", "backbone.weights=random", "dataset.image_size=32"]
    stdout, stderr = run(tmp_path, *arguments, expect=1)
    (error,) = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert all(word in error.replace(f"own{os.sep}", f"{tmp_path}/own{os.sep}") for word in words), error
    assert "Traceback" not in stderr + stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["own"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["train.epoch=3"], "train.epoch is not a key of the configuration: did you mean train.epochs"),
        (["train.epochs=many"], "train.epochs: Value 'many' of type 'str' could not be converted to Integer"),
        (
            ["backbone=r19"],
            "backbone=r19 does not exist: choose one of alexnet, b5, cait, deit, dinov2_b, dinov2_s, dinov3_b, "
            "dinov3_s, lite0, lite1, lite2, mobilenetv2, none, r18, wrn50",
        ),
        (["dataset=mvtec"], "dataset.category has no value"),
        (["dataset=mvtec", "dataset.size=64"], "dataset.size is not a key of the chosen dataset"),
        (["train.epochs=0"], "train.epochs=0 is too small"),
        (["eval.first_epoch=9"], "does not lie within the 6 epochs"),
        (["dataset.category=tartan"], "tartan"),
        (["dataset.category=all"], "-m"),
        (["+sweeps=fig4"], "+sweeps=… is a list of runs: add -m"),
        (["sweeps=fig4"], "add it, +sweeps=fig4"),
        (["+reading=paper"], "reading=paper does not exist: choose one of paper_norm (did you mean paper_norm?)"),
        (["+sweeps=fig5"], "sweeps=fig5 does not exist: choose one of fig1, fig3"),
        (["dataset=mvtec", "dataset.category=screw", "dataset.root=nowhere"], "nowhere"),
        (["backbone.weights=absent.safetensors"], "absent.safetensors is not a file"),
        pytest.param(
            ["backbone.weights=pretrained"], "could not be fetched from the Hugging Face hub", marks=pytest.mark.slow
        ),
        (["backbone.name=resnet1x8"], "timm has no model 'resnet1x8'"),
        (["backbone.stages=[1,9]"], "has no stage of backbone.stages=[1, 9]"),
        (["model.feature_norm=pretrained"], "has no final norm of its own: set model.feature_norm=trainable"),
        (["device=cuda"], "PyTorch finds no CUDA device"),
        (["tracking.uri=./mlruns"], "sqlite:///"),
    ],
)
def test_bad_input_is_one_sentence_before_any_training(tmp_path, arguments, sentence):
    if "device=cuda" in arguments and torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    others = ["train.epochs=6"] if arguments[0] == "dataset=mvtec" else TINY
    no_hub = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")} if "hub" in sentence else {}
    stdout, stderr = run(tmp_path, *others, *arguments, expect=1, **no_hub)
    errors = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, stderr
    assert sentence in stderr
    assert "Traceback" not in stderr + stdout
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "mlflow.db").exists()


def test_killed_between_its_last_epoch_and_its_end_it_is_finished_by_the_next_command(undisturbed, tmp_path):
    folder = folders(undisturbed[0])[0]
    inside = tmp_path / folder.relative_to(undisturbed[0])
    shutil.copytree(folder, inside)
    shutil.copytree(undisturbed[0] / "data", tmp_path / "data")
    left = status(inside)
    (inside / "status.json").write_text(
        json.dumps({k: v for k, v in left.items() if k != "summary"} | {"state": "running"})
    )
    _, stderr = run(tmp_path, *TINY, "altub=alternating")
    assert "from epoch 7" in stderr
    assert status(inside)["state"] == "finished"
    assert status(inside)["summary"] == left["summary"]
    assert journal(inside) == journal(folder)
    assert equal_models(inside, folder)
