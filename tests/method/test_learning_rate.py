"""CFLOW-AD's learning rate against its published equations."""

import math

import pytest
import torch

from altub_exp.method.learning_rate import LearningRate, TrainingStep

CFLOW = LearningRate(2e-4, final=1e-3, epochs=200, cycle=8, warmup_epochs=16)


def published(meta, sub, batch, batches):
    """Compute the rate for 25 meta-epochs of 8 sub-epochs, from 0; warm-up from a tenth over 2 meta-epochs by batch."""

    def cosine(m):
        lowest = 2e-4 * 0.1**3
        return lowest + (2e-4 - lowest) * (1 + math.cos(math.pi * m / 25)) / 2

    if meta >= 2:
        return cosine(meta)
    share = (batch + sub * batches + meta * batches * 8) / (2 * batches * 8)
    return 2e-4 / 10 + share * (cosine(2) - 2e-4 / 10)


def test_every_batch_of_the_published_schedule():
    for meta in range(25):
        for sub in range(8):
            for batch in (0, 3, 6):
                ours = CFLOW.at(TrainingStep(8 * meta + sub + 1, batch, 7))
                assert ours == pytest.approx(published(meta, sub, batch, 7), rel=1e-12)


def test_msflows_warm_up_and_milestones_are_those_of_pytorchs_schedulers():
    """Both take a step after every sub-epoch, as in the published train.py."""
    adam = torch.optim.Adam([torch.nn.Parameter(torch.zeros(()))], lr=1e-4)
    warmup = torch.optim.lr_scheduler.LinearLR(adam, start_factor=0.1, end_factor=1.0, total_iters=12)
    decay = torch.optim.lr_scheduler.MultiStepLR(adam, [70, 90], 0.33)
    rate = LearningRate(1e-4, epochs=100, warmup_epochs=12, by_epoch=True, milestones=(70, 90), factor=0.33)
    for epoch in range(1, 101):
        for batch in (0, 6):
            assert rate.at(TrainingStep(epoch, batch, 7)) == pytest.approx(adam.param_groups[0]["lr"], rel=1e-9)
        adam.step()
        warmup.step()
        decay.step()


def test_fastflows_is_constant():
    assert {LearningRate(1e-3).at(TrainingStep(epoch, 0, 1)) for epoch in (1, 17, 300)} == {1e-3}
