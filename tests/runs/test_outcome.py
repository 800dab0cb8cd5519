"""The outcome of a run in one line."""

import pytest

from altub_exp.runs.outcome import LONGEST_REASON, outcome

ROWS = [
    {"epoch": epoch, "loss": 1.0, "pixel_auroc": 0.9 + epoch / 1000, "image_auroc": 0.95, "seconds": 11.0}
    for epoch in (1, 2, 3)
]
PIXEL = {"pixel_auroc_mean": 0.9731, "pixel_auroc_std": 0.0058, "pixel_auroc_best": 0.98}
IMAGE = {"image_auroc_mean": 0.98, "image_auroc_std": 0.013, "image_auroc_best": 0.99}

END = {"image_ap": 0.991, "image_f1_max": 0.95}


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (
            {"state": "finished", "summary": PIXEL | IMAGE, "window": [2, 3], "device": "cpu"},
            "pixel AUROC 97.3 ± 0.6 %, image AUROC 98.0 ± 1.3 % over epochs 2 to 3, 90.3 % and 95.0 % after the last "
            "epoch; finished 3 epochs in 33 s on cpu",
        ),
        (
            {"state": "finished", "summary": IMAGE, "window": [2, 3], "device": "NVIDIA H200"},
            "image AUROC 98.0 ± 1.3 % over epochs 2 to 3, 95.0 % after the last epoch; finished 3 epochs in 33 s on "
            "NVIDIA H200",
        ),
        (
            {"state": "finished", "summary": IMAGE | END, "window": [2, 3], "device": "cpu"},
            "image AUROC 98.0 ± 1.3 % over epochs 2 to 3, 95.0 % after the last epoch; image AP 99.1 %, image F1-max "
            "95.0 %; finished 3 epochs in 33 s on cpu",
        ),
        ({"state": "finished", "summary": {}, "device": "cpu"}, "finished 3 epochs in 33 s on cpu"),
        ({"state": "crashed", "reason": "the loss became nan in epoch 3"}, "crashed: the loss became nan in epoch 3"),
        ({"state": "failed", "reason": "interrupted", "interrupted": True}, "interrupted after epoch 3"),
        ({"state": "failed", "reason": "OSError: a\nb"}, "failed after epoch 3: OSError: a b"),
        ({"state": "running"}, "in progress"),
    ],
)
def test_one_line_for_every_state(status, text):
    assert outcome(status, ROWS) == text


def test_a_run_without_an_epoch_and_a_long_reason():
    text = outcome({"state": "failed", "reason": "x" * 10_000}, [])
    assert text == f"failed after epoch 0: {'x' * LONGEST_REASON}"
