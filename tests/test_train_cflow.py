"""CFLOW-AD through the real command line, on built-in images."""

import pytest
import torch

from tests.commandline import TINY, equal_models, folders, journal, kill_behind_a_checkpoint, recorded, run, status

CFLOW = [
    "model=cflow",
    *TINY,
    "dataset.image_size=64",
    "model.fibre_batch=16",
    "train.epochs=10",
    "train.cycle=2",
    "train.warmup_epochs=4",
    "eval.ks_every=5",
]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Both base distributions in one command, never interrupted."""
    cwd = tmp_path_factory.mktemp("undisturbed")
    _, stderr = run(cwd, "-m", *CFLOW, "altub=none,alternating")
    return cwd, stderr


@pytest.mark.slow
def test_test_features_are_cached_and_training_features_where_images_are_not_turned(undisturbed, tmp_path):
    _, stderr = undisturbed
    tests = [line for line in stderr.splitlines() if line.startswith("features of ")]
    assert [line.split(" were")[0] for line in tests] == ["features of 0 of 10 images", "features of 10 of 10 images"]
    still = [*CFLOW, "altub=none", "dataset.rotation=0", "train.epochs=4"]
    journals = []
    for place in ("cache.dir=null", "cache.dir=features", "cache.dir=../second/features"):
        cwd = tmp_path / ("first", "second", "third")[len(journals)]
        cwd.mkdir()
        _, stderr = run(cwd, *still, place)
        journals.append(journal(folders(cwd)[0]))
    assert "features of 20 of 20 images were in the cache ../second/features" in stderr
    assert journals[0] == journals[1] == journals[2]


@pytest.mark.slow
def test_it_is_evaluated_after_each_meta_epoch_and_records_objective_and_nats(undisturbed):
    cwd, stderr = undisturbed
    assert "computed anew in every epoch, because the images are rotated" in stderr
    for folder in folders(cwd):
        rows = journal(folder)
        assert [row["epoch"] for row in rows if "pixel_auroc" in row] == [2, 4, 6, 8, 10]
        assert [row["epoch"] for row in rows if "ks" in row] == [5, 10]
        assert all(row["objective"] > 0 and row["loss"] < 10 for row in rows)
        assert rows[-1]["objective"] < rows[0]["objective"]
        assert status(folder)["state"] == "finished"
    histories, _ = recorded(cwd)
    assert [step for step, _ in sorted(histories["alternating"]["pixel_auroc"])] == [2, 4, 6, 8, 10]


def test_altub_begins_behind_the_warm_up(undisturbed):
    alternating, none = (journal(folder) for folder in folders(undisturbed[0]))
    of_psi = {"psi_mu", "psi_mu_std", "psi_log_sigma", "psi_log_sigma_std"}
    assert [{name: row[name] for name in row.keys() - of_psi} for row in alternating[:4]] == none[:4]  # bit for bit
    assert all(row[name] == 0 for row in alternating[:4] for name in of_psi)
    assert all(row["psi_mu_std"] > 0 for row in alternating[4:])
    assert all(a["loss"] != b["loss"] for a, b in zip(alternating[5:], none[5:], strict=True))


OBJECTIVES = {
    "none": [1.261633, 1.252113, 1.221739, 1.131894, 0.976877, 0.854293, 0.801477, 0.780431, 0.768353, 0.766318],
    "alternating": [1.261633, 1.252113, 1.221739, 1.131894, 1.050773, 0.976604, 0.871958, 0.830192, 0.808678, 0.806541],
}


@pytest.mark.parametrize("base", OBJECTIVES)
def test_objectives_of_the_tiny_runs_do_not_drift(undisturbed, base):
    """The losses were first computed with torch 2.15 on a CPU; optimisations must keep them."""
    (folder,) = (f for f in folders(undisturbed[0]) if f.parent.name == base)
    assert [row["objective"] for row in journal(folder)] == pytest.approx(OBJECTIVES[base], rel=1e-3)


def test_killed_and_run_again_gives_the_same_numbers_bit_for_bit(undisturbed, tmp_path):
    folder = kill_behind_a_checkpoint(tmp_path, *CFLOW, "altub=alternating")
    assert len((folder / "metrics.jsonl").read_text().splitlines()) < 10, "too quick to be killed"
    _, stderr = run(tmp_path, *CFLOW, "altub=alternating")
    assert "from epoch" in stderr
    reference = folders(undisturbed[0])[0]
    assert folder.name == reference.name
    assert journal(folder) == journal(reference)
    assert equal_models(folder, reference)


@pytest.mark.slow
def test_the_other_readings_give_other_numbers(undisturbed, tmp_path):
    reference = journal(folders(undisturbed[0])[1])
    run(tmp_path, "-m", *CFLOW, "altub=none", "model.optimizers=per_decoder", "model.score_reference=train")
    (folder,) = folders(tmp_path)
    rows = journal(folder)
    assert rows[0]["objective"] == pytest.approx(reference[0]["objective"], abs=0.1)
    assert rows[-1]["objective"] != reference[-1]["objective"]
    weights = torch.load(folder / "checkpoint.pt", weights_only=True)["density"]
    assert (
        weights.keys() == torch.load(folders(undisturbed[0])[1] / "checkpoint.pt", weights_only=True)["density"].keys()
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["model.fibre_batch=256"], "gives 16 fibres, fewer than model.fibre_batch=256: set it to 16 or less"),
        (["train.batch_size=11"], "10 training images make no batch of 11"),
        (["model.condition_channels=6"], "model.condition_channels=6 is no multiple of 4"),
        (["train.final_lr=0"], "train.final_lr=0.0 is too small: give a number above 0"),
        (["model.conv3x3_only=true"], "is not a key of the chosen model"),
        (["model.optimizers=both"], "model.optimizers: Invalid value 'both'"),
    ],
)
def test_bad_input_is_one_sentence_before_any_training(tmp_path, arguments, sentence):
    stdout, stderr = run(tmp_path, *CFLOW, *arguments, expect=1)
    assert len([line for line in stderr.splitlines() if line.startswith("error: ")]) == 1, stderr
    assert sentence in stderr
    assert "Traceback" not in stderr + stdout
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "mlflow.db").exists()
