"""The coupling block against FrEIA's own, a numpy transcription, and autograd's Jacobian."""

import numpy as np
import pytest
import torch
from FrEIA.modules import AllInOneBlock
from torch import nn

from altub_exp.flows.coupling import CouplingBlock


def subnet(channels_in, channels_out):
    return nn.Conv2d(channels_in, channels_out, 3, padding="same")


def pair(channels=6, size=5, alpha=2.0):
    """Our block and FrEIA's, from the same random states."""
    blocks = []
    for cls, extra in ((CouplingBlock, {}), (AllInOneBlock, {"permute_soft": False})):
        torch.manual_seed(3)
        np.random.seed(3)
        blocks.append(cls([(channels, size, size)], subnet_constructor=subnet, affine_clamping=alpha, **extra))
    with torch.no_grad():  # a trained block's scale and offset are not those of the start
        for block in blocks:
            generator = torch.Generator().manual_seed(4)
            block.global_scale.add_(torch.randn(block.global_scale.shape, generator=generator))
            block.global_offset.add_(torch.randn(block.global_offset.shape, generator=generator))
    return blocks


@pytest.mark.parametrize("channels", [6, 7, 64])
def test_permutation_by_index_equals_the_dense_matrix_bit_for_bit(channels):
    ours, freia = pair(channels)
    torch.manual_seed(0)
    results = []
    x0 = torch.randn(4, channels, 5, 5)
    for block in (ours, freia):
        x = x0.clone().requires_grad_()
        (z,), log_det = block((x,))
        (z.square().sum() - log_det.sum()).backward()
        (back,), _ = block((z.detach(),), rev=True)
        results.append([z, log_det, x.grad, block.global_scale.grad, block.subnet.weight.grad, back])
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


def test_block_computes_clamp_times_tanh_of_a_tenth():
    """FrEIA's later versions compute clamp · tanh(0.1 a / clamp); this pins the published form."""
    block = pair(channels=6, alpha=1.9)[0].double()
    x = torch.randn(2, 6, 5, 5, dtype=torch.float64) * 3
    (z,), log_det = block((x,))
    x1, x2 = x[:, :3].numpy(), x[:, 3:].numpy()
    a = block.subnet(x[:, :3]).detach().numpy()
    s = 1.9 * np.tanh(0.1 * a[:, :3])
    u = np.concatenate([x1, x2 * np.exp(s) + 0.1 * a[:, 3:]], axis=1)
    scale = 0.1 * (np.log1p(np.exp(0.5 * block.global_scale.detach().numpy())) / 0.5)
    expected = (u * scale + block.global_offset.detach().numpy())[:, block.order.numpy()]
    np.testing.assert_allclose(z.detach().numpy(), expected, rtol=1e-12, atol=1e-12)
    expected_log_det = s.sum(axis=(1, 2, 3)) + 25 * np.log(scale).sum()
    np.testing.assert_allclose(log_det.detach().numpy(), expected_log_det, rtol=1e-12)


def test_scale_is_one_at_the_start():
    block = CouplingBlock([(4, 2, 2)], subnet_constructor=subnet, affine_clamping=2.0)
    scale = block.global_scale_activation(block.global_scale)
    torch.testing.assert_close(scale, torch.ones_like(scale))


def test_permutation_follows_numpys_global_seed():
    orders = []
    for seed in (25, 25, 26):
        np.random.seed(seed)
        orders.append(CouplingBlock([(32, 2, 2)], subnet_constructor=subnet, affine_clamping=2.0).order)
    np.random.seed(25)
    assert orders[0].tolist() == np.random.permutation(32).tolist()
    assert torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[2])
