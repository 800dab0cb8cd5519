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
    """Make our block and FrEIA's from the same random states."""
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
    x, results = torch.randn(4, channels, 5, 5), []
    for mix in (ours._mix, lambda x, rev: freia.permute_function(x, freia.w_perm_inv if rev else freia.w_perm)):
        there = x.clone().requires_grad_()
        z = mix(there, False)
        z.square().sum().backward()
        results.append([z, there.grad, mix(z.detach(), True)])
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("cached", [1, 300, 2**18])
@pytest.mark.parametrize("channels", [6, 7, 64])
def test_block_and_its_gradients_equal_freias_in_pieces_of_any_size(channels, cached, monkeypatch):
    monkeypatch.setattr("altub_exp.flows.coupling.CACHED", cached)
    results = []
    x0 = torch.randn(4, channels, 5, 5, generator=torch.Generator().manual_seed(0))
    for block in pair(channels):
        x = x0.clone().requires_grad_()
        (z,), log_det = block((x,))
        (z.square().sum() - (log_det * torch.arange(1.0, 5.0)).sum()).backward()
        (back,), _ = block((z.detach(),), rev=True)
        parameters = (block.global_scale, block.global_offset, block.subnet.weight, block.subnet.bias)
        results.append([z, log_det, x.grad, *(parameter.grad for parameter in parameters), back])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=2e-6, atol=2e-6 * b.abs().max().item())


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("dims", [(5, 2, 3), (6,)])
def test_gradients_are_those_of_finite_differences(dims, soft):
    torch.manual_seed(1)
    layer = torch.nn.Linear if len(dims) == 1 else subnet
    block = CouplingBlock([dims], subnet_constructor=layer, affine_clamping=1.9, permute_soft=soft).double()
    names = [name for name, parameter in block.named_parameters() if parameter.requires_grad]
    values = [p.detach() + 0.3 * torch.randn_like(p) for p in block.parameters() if p.requires_grad]

    def outputs(x, *parameters):
        (z,), log_det = torch.func.functional_call(block, dict(zip(names, parameters, strict=True)), ((x,),))
        return z, log_det

    leaves = [one.requires_grad_() for one in (torch.randn(3, *dims, dtype=torch.float64), *values)]
    assert torch.autograd.gradcheck(outputs, leaves)


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
