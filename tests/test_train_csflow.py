"""CS-Flow through the real command line, on built-in images."""

import math

import pytest

from tests.commandline import TINY, folders, journal, recorded, run, status

CSFLOW = ["model=csflow", *TINY, "model.hidden_channels=8", "dataset.image_size=48", "train.lr=1e-2"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Both base distributions in one command."""
    cwd = tmp_path_factory.mktemp("undisturbed")
    run(cwd, "-m", *CSFLOW, "altub=none,alternating")
    return cwd


def test_every_epoch_is_evaluated_and_recorded(undisturbed):
    for folder in folders(undisturbed):
        rows = journal(folder)
        assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5, 6]
        assert all(0 <= row["pixel_auroc"] <= 1 and 0 <= row["image_auroc"] <= 1 for row in rows)
        assert all(math.isfinite(row["loss"]) and "objective" not in row for row in rows)
        assert rows[-1]["loss"] < rows[0]["loss"]
        assert status(folder)["state"] == "finished"
        assert (folder / "maps.png").exists()
        assert folder.parts[-3] == "csflow-r18"
    histories, _ = recorded(undisturbed)
    assert [step for step, _ in sorted(histories["alternating"]["image_auroc"])] == [1, 2, 3, 4, 5, 6]


LOSSES = {
    "none": [0.004533, 0.004141, 0.001557, -0.017362, -0.185628, -0.732029],
    "alternating": [0.000310, -0.015920, -0.034337, -0.069027, -0.184698, -0.397154],
}


@pytest.mark.parametrize("base", LOSSES)
def test_losses_of_the_tiny_runs_do_not_drift(undisturbed, base):
    """The losses were first computed with torch 2.15 on a CPU; optimisations must keep them."""
    (folder,) = (f for f in folders(undisturbed) if f.parent.name == base)
    assert [row["loss"] for row in journal(folder)] == pytest.approx(LOSSES[base], abs=1e-3)
