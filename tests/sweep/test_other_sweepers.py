"""Optuna's sweeper and joblib's launcher, as Hydra's users know them."""

import pytest
from omegaconf import OmegaConf

from tests.commandline import TINY, folders, run, status

SHORT = [*TINY, "train.epochs=2", "eval.first_epoch=1"]
OPTUNA = ["-m", *SHORT, "hydra/sweeper=optuna", "hydra.sweeper.n_trials=3", "hydra.sweeper.n_jobs=1"]


@pytest.mark.slow
def test_optuna_maximises_the_windows_mean_auroc(tmp_path):
    run(tmp_path, *OPTUNA, "hydra.sweeper.direction=maximize", "train.lr=interval(0.0001,0.01)")
    found = OmegaConf.load(tmp_path / "runs/.sweeps/optimization_results.yaml")
    summaries = [status(folder)["summary"]["pixel_auroc_mean"] for folder in folders(tmp_path)]
    assert len(summaries) == 3
    assert found.best_value == max(summaries)
    assert 0.0001 <= found.best_params["train.lr"] <= 0.01


@pytest.mark.slow
def test_optuna_would_look_for_the_lowest_auroc_and_is_refused(tmp_path):
    _, stderr = run(tmp_path, *OPTUNA, "train.lr=interval(0.0001,0.01)", expect=1)
    assert "error: A run's value is its AUROC" in stderr
    assert "Traceback" not in stderr
    assert not folders(tmp_path)


@pytest.mark.slow
def test_joblib_computes_the_runs_of_a_sweep_side_by_side(tmp_path):
    stdout, stderr = run(tmp_path, "-m", *SHORT, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "seed=1,2")
    assert "2 runs: 2 finished." in stdout + stderr
    assert [status(folder)["state"] for folder in folders(tmp_path)] == ["finished", "finished"]


def test_an_interval_is_for_another_sweeper(tmp_path):
    _, stderr = run(tmp_path, "-m", *TINY, "train.lr=interval(0.1,0.2)", expect=1)
    assert "error: train.lr=interval(0.1,0.2) has no single values: give them" in stderr
