"""CFLOW-AD's flow: the encoding of positions, its size, its evaluation in pieces, its orthogonal matrices."""

import numpy as np
import pytest
import torch

from altub_exp.flows.cflow import CFlow, positional_encoding
from altub_exp.flows.coupling import CouplingBlock, random_orthogonal

SHAPES = [(6, 3, 4), (5, 2, 2)]


def small(**changes):
    np.random.seed(1)
    torch.manual_seed(1)
    options = {"steps": 3, "condition_channels": 8, "hidden_ratio": 2.0, "affine_clamping": 1.9, "permute_soft": True}
    return CFlow(SHAPES, **(options | changes))


def random_maps(batch=3):
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(batch, *shape, dtype=torch.float64, generator=generator) for shape in SHAPES]


def test_positions_are_encoded_as_published():
    """The equations in numpy: for even i, sin and cos of w·exp(−ln(1e4)·i/64) in channels i, i + 1; of h from 64 on."""
    encoding = positional_encoding(128, 5, 7).numpy()
    h, w = np.mgrid[:5, :7]
    for i in range(0, 64, 2):
        frequency = np.exp(-np.log(10000.0) * i / 64)
        np.testing.assert_allclose(encoding[i], np.sin(w * frequency), atol=1e-6)
        np.testing.assert_allclose(encoding[i + 1], np.cos(w * frequency), atol=1e-6)
        np.testing.assert_allclose(encoding[64 + i], np.sin(h * frequency), atol=1e-6)
        np.testing.assert_allclose(encoding[65 + i], np.cos(h * frequency), atol=1e-6)


def test_size_of_the_published_model():
    """Wide ResNet-50-2's layers 2, 3, 4: 81.6 M parameters that move (method: section 3)."""
    shapes = [(512, 2, 2), (1024, 2, 2), (2048, 2, 2)]
    options = {"steps": 8, "condition_channels": 128, "hidden_ratio": 2.0, "affine_clamping": 1.9}
    flow = CFlow(shapes, permute_soft=False, **options)
    moving = sum(p.numel() for p in flow.parameters() if p.requires_grad)
    assert moving / 1e6 == pytest.approx(81.6, abs=0.05)
    first = flow.scales[0][0].subnet
    assert [(layer.in_features, layer.out_features) for layer in (first[0], first[2])] == [(384, 768), (768, 512)]


def test_evaluation_in_pieces_gives_the_same(monkeypatch):
    flow, maps = small().double(), random_maps()
    whole = flow(maps)
    monkeypatch.setattr("altub_exp.flows.cflow.FIBRES_AT_ONCE", 5)
    with torch.no_grad():
        pieces = flow(maps)
    for a, b in zip(whole, pieces, strict=True):
        torch.testing.assert_close(a.z, b.z, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(a.log_det, b.log_det, rtol=1e-12, atol=1e-12)


def test_orthogonal_matrices_are_orthogonal_seeded_and_uniform():
    torch.manual_seed(3)
    matrix = random_orthogonal(64)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(64), atol=1e-5, rtol=0)
    torch.manual_seed(3)
    assert torch.equal(matrix, random_orthogonal(64))
    # a plain QR has diagonals of one sign only
    signs = torch.stack([random_orthogonal(2).diagonal().sign() for _ in range(400)])
    assert signs.mean(dim=0).abs().max() < 0.2


def test_block_mixes_by_the_orthogonal_matrix_and_back():
    torch.manual_seed(4)
    block = CouplingBlock([(6,)], subnet_constructor=torch.nn.Linear, affine_clamping=1.9, permute_soft=True).double()
    x = torch.randn(5, 6, dtype=torch.float64)
    (z,), log_det = block([x])
    (back,), back_det = block([z], rev=True)
    torch.testing.assert_close(back, x)
    torch.testing.assert_close(back_det, -log_det)
    assert len(block.w_perm.unique()) == 36  # no permutation
