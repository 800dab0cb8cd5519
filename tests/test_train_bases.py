"""Base distributions beside the paper's, and fitted ones, through the real command line."""

import shutil

import pytest
import torch

from tests.commandline import TINY, folders, journal, kill_behind_a_checkpoint, recorded, run, status

FITTED = {"pixel_auroc_fitted", "image_auroc_fitted"}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The original method, the same with fitted scores, and the fitted base distribution."""
    cwd = tmp_path_factory.mktemp("undisturbed")
    run(cwd, "-m", *TINY, "altub=none", "eval.fitted=false,true")
    run(cwd, *TINY, "altub=fitted")
    fitted, *pair = folders(cwd)
    with_fitted = [bool(FITTED & journal(folder)[0].keys()) for folder in pair]
    assert sorted(with_fitted) == [False, True]
    none, both = sorted(pair, key=lambda folder: with_fitted[pair.index(folder)])
    return cwd, none, both, fitted


def weights(folder):
    return torch.load(folder / "checkpoint.pt", weights_only=True)["density"]


def same_flow(*runs):
    flows = [{key: value for key, value in weights(folder).items() if key.startswith("flow.")} for folder in runs]
    assert flows[0]
    return all(flow.keys() == flows[0].keys() for flow in flows) and all(
        torch.equal(value, flow[key]) for flow in flows for key, value in flows[0].items()
    )


def rows_without(folder, left_out):
    return [{key: value for key, value in row.items() if key not in left_out} for row in journal(folder)]


def test_fitted_scores_change_nothing_else_of_a_run(undisturbed):
    _, none, both, _ = undisturbed
    assert rows_without(both, FITTED) == journal(none)
    assert same_flow(none, both)
    assert weights(none).keys() == weights(both).keys()
    assert all(row.keys() >= FITTED for row in journal(both))


def test_the_fitted_base_trains_the_flow_as_the_fixed_one_and_scores_as_the_fitted_scores(undisturbed):
    _, none, both, fitted = undisturbed
    assert [row["loss"] for row in journal(fitted)] == [row["loss"] for row in journal(none)]
    assert same_flow(none, fitted)
    for row, other in zip(journal(fitted), journal(both), strict=True):
        assert (row["pixel_auroc"], row["image_auroc"]) == (other["pixel_auroc_fitted"], other["image_auroc_fitted"])
        assert row["pixel_auroc"] != other["pixel_auroc"]
    assert journal(fitted)[-1]["mean_square"] == pytest.approx(1, rel=1e-2)
    assert abs(journal(none)[-1]["mean_square"] - 1) > 0.05
    psi = [value for key, value in weights(fitted).items() if key.startswith("bases.")]
    assert len(psi) == 6
    assert all(value.abs().max() > 0.01 for value in psi)


def test_summary_and_mlflow_hold_the_fitted_scores(undisturbed):
    cwd, _, both, _ = undisturbed
    summary = status(both)["summary"]
    for metric in FITTED:
        values = [row[metric] for row in journal(both) if 2 <= row["epoch"] <= 6]
        assert summary[f"{metric}_mean"] == pytest.approx(sum(values) / 5, rel=1e-12)
        assert {f"{metric}_std", f"{metric}_best"} <= summary.keys()
    _, runs = recorded(cwd)
    (entry,) = (r for r in runs if r.data.params["eval.fitted"] == "True")
    assert entry.data.metrics["pixel_auroc_fitted_mean"] == summary["pixel_auroc_fitted_mean"]


def test_predict_scores_with_the_last_fit(undisturbed):
    cwd, _, _, fitted = undisturbed
    output = cwd / "predicted"
    arguments = (str(fitted), "data/synthetic/fabric/test", "--maps", "none", "--no-overlays", "--output", str(output))
    run(cwd, *arguments, module="altub_exp.predict")
    lines = (output / "scores.csv").read_text().splitlines()[1:]
    good = [float(line.split(",")[1]) for line in lines if "/good/" in line]
    bad = [float(line.split(",")[1]) for line in lines if "/good/" not in line]
    auroc = sum((b > g) + 0.5 * (b == g) for b in bad for g in good) / (len(good) * len(bad))
    assert auroc == pytest.approx(journal(fitted)[-1]["image_auroc"], abs=1e-12)


@pytest.mark.slow
def test_a_fitted_run_that_is_killed_ends_with_the_same_numbers(undisturbed, tmp_path):
    _, _, _, fitted = undisturbed
    folder = kill_behind_a_checkpoint(tmp_path, *TINY, "altub=fitted")
    run(tmp_path, *TINY, "altub=fitted")
    assert journal(folder) == journal(fitted)
    assert all(torch.equal(value, weights(fitted)[key]) for key, value in weights(folder).items())


@pytest.mark.parametrize(
    "base",
    [
        "constant",
        *(
            pytest.param(base, marks=pytest.mark.slow)
            for base in ("channelwise", "mu_only", "sigma_only", "split_prior")
        ),
    ],
)
def test_the_other_bases_train_and_are_recorded_by_their_names(base, tmp_path):
    run(tmp_path, *TINY, f"altub={base}")
    (folder,) = folders(tmp_path)
    assert folder.parent.name == base
    assert status(folder)["state"] == "finished"
    losses = [row["loss"] for row in journal(folder)]
    assert losses[3] < losses[0]
    psi = [value for key, value in weights(folder).items() if key.startswith("bases.")]
    assert all(value.abs().max() > 0 for value in psi)


def test_cflow_fits_and_refuses_a_base_that_reads_the_latents_around(tmp_path):
    cflow = ["model=cflow", *TINY, "dataset.image_size=64", "model.fibre_batch=16", "train.epochs=4", "train.cycle=2"]
    cflow += ["train.warmup_epochs=0"]
    run(tmp_path, *cflow, "altub=none", "eval.fitted=true")
    rows = journal(folders(tmp_path)[0])
    assert [row["epoch"] for row in rows if row.keys() >= FITTED] == [2, 4]
    shutil.rmtree(tmp_path / "runs")
    stdout, stderr = run(tmp_path, *cflow, "altub=split_prior", expect=1)
    assert stderr == (
        "error: altub.base=split_prior reads the latents around a position, and model=cflow trains on single "
        "positions: choose another base distribution or model.\n"
    )
    assert stdout == ""
    assert not (tmp_path / "runs").exists()
    _, stderr = run(tmp_path, *TINY, "altub=alternating", "eval.fitted=true", expect=1)
    assert stderr.startswith("error: eval.fitted=true fits ψ where none is learned")
