"""The anomaly maps against literal transcriptions of the formulas in numpy and scipy."""

import numpy as np
import pytest
import torch
from scipy.stats import norm

from altub_exp.method.density import Units
from altub_exp.method.scoring import FibreProbability, LikelihoodMap, largest_pixel
from tests.method.transcription import corners_aligned_bilinear, half_pixel_bilinear


def units(log_sigma_shift=0.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(3)
    made = []
    for shape in ((4, 8, 8), (6, 4, 4)):
        z = torch.randn(2, *shape, generator=generator, dtype=dtype)
        mu = torch.randn(shape, generator=generator, dtype=dtype)
        log_sigma = 0.3 * torch.randn(shape, generator=generator, dtype=dtype) + log_sigma_shift
        made.append((z, mu, log_sigma))
    return made


def transcription(made, image, size):
    """Eq. 6: −exp(−1/(2|C|) Σ_c ((z_c − μ_c)ᵀ Σ⁻¹ (z_c − μ_c) + ln|det Σ_c|)), per position; mean over scales."""
    maps = []
    for z, mu, log_sigma in made:
        z, mu, log_sigma = z[image].numpy(), mu.numpy(), log_sigma.numpy()
        channels, height, width = z.shape
        score = np.empty((height, width))
        for row in range(height):
            for column in range(width):
                total = 0.0
                for c in range(channels):
                    variance = np.exp(2 * log_sigma[c, row, column])
                    total += (z[c, row, column] - mu[c, row, column]) ** 2 / variance + np.log(variance)
                score[row, column] = -np.exp(-total / (2 * channels))
        maps.append(half_pixel_bilinear(score, size))
    return np.mean(maps, axis=0)


def anomaly_map(units, size):
    scoring = LikelihoodMap()
    return scoring.maps(scoring.positions(units), size)


def standardized(made):
    return [
        Units((z - mu) * torch.exp(-log_sigma), log_sigma, torch.zeros(len(z), dtype=z.dtype))
        for z, mu, log_sigma in made
    ]


def test_map_equals_the_transcription_of_equation_6():
    made = units()
    maps = anomaly_map(standardized(made), 20)
    for image in range(2):
        np.testing.assert_allclose(maps[image].numpy(), transcription(made, image, 20), rtol=1e-10)


def test_scores_may_exceed_one_in_size_where_sigma_is_small():
    made = [(mu.expand(2, *mu.shape), mu, log_sigma) for _, mu, log_sigma in units(log_sigma_shift=-2.5)]
    assert anomaly_map(standardized(made), 20).max() < -1


def test_float32_scores_of_tiny_sigma_neither_overflow_nor_lose_their_order():
    made = [(mu + 0.0, mu, log_sigma - 85) for _, mu, log_sigma in units(dtype=torch.float32)]
    made = [(z.expand(2, *z.shape), mu, log_sigma) for z, mu, log_sigma in made]
    maps = anomaly_map(standardized(made), 20)
    assert maps.dtype == torch.float64
    assert torch.isfinite(maps).all()
    double = [tuple(part.double() for part in parts) for parts in made]
    np.testing.assert_allclose(maps[0].numpy(), transcription(double, 0, 20), rtol=1e-3)


def test_image_score_is_the_largest_pixel():
    maps = torch.tensor([[[-1.0, -0.5], [-0.7, -0.9]], [[-0.2, -0.3], [-0.1, -0.8]]])
    assert largest_pixel(maps).tolist() == [-0.5, -0.10000000149011612]


@pytest.mark.parametrize("reference", ["test", "train"])
def test_fibre_probability_equals_the_transcription(reference):
    """CFLOW-AD: exp(log p / C − max), float64, resized with aligned corners, summed; log p of scipy's normal."""
    made = units(dtype=torch.float32)
    log_dets = [torch.randn(2, *z.shape[2:], generator=torch.Generator().manual_seed(4)) for z, _, _ in made]
    scoring = FibreProbability(reference)
    positions = scoring.positions(
        [
            Units((z - mu) * torch.exp(-log_sigma), log_sigma, log_det)
            for (z, mu, log_sigma), log_det in zip(made, log_dets, strict=True)
        ]
    )
    extremes = scoring.extremes(positions) if reference == "test" else [-1.0, 0.5]
    maps = scoring.maps(positions, 20, extremes)
    expected = 2.0
    for number, ((z, mu, log_sigma), log_det) in enumerate(zip(made, log_dets, strict=True)):
        log_p = norm.logpdf(z.double().numpy(), mu.double().numpy(), np.exp(log_sigma.double().numpy())).sum(axis=1)
        per_dimension = (log_p + log_det.double().numpy()) / z.shape[1]
        largest = per_dimension.max() if reference == "test" else extremes[number]
        expected = expected - np.stack([corners_aligned_bilinear(np.exp(one - largest), 20) for one in per_dimension])
    assert maps.dtype == torch.float64
    np.testing.assert_allclose(maps.numpy(), expected, rtol=0, atol=1e-5)
    assert scoring.reference == reference


def test_the_reference_changes_how_the_scales_are_weighed():
    positions = [torch.tensor([[[0.0, -1.0]]]).double(), torch.tensor([[[-2.0, -1.0]]]).double()]
    ranks = {
        extremes: FibreProbability("train").maps(positions, 2, extremes)[0, 0].argmax().item()
        for extremes in ((0.0, 0.0), (3.0, -1.0))
    }
    assert ranks == {(0.0, 0.0): 1, (3.0, -1.0): 0}
