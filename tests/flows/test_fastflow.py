"""FastFlow: its norms, its kernels, and the parameter counts of the method's table."""

import numpy as np
import pytest
import torch

from altub_exp.flows.fastflow import FastFlow, normalised
from altub_exp.method.base import BASES
from altub_exp.method.density import Density, negative_log_likelihood


def small(feature_norm="none", **changes):
    np.random.seed(1)
    torch.manual_seed(1)
    options = {"steps": 3, "conv3x3_only": False, "hidden_ratio": 1.0, "affine_clamping": 2.0} | changes
    return FastFlow([(4, 3, 3), (5, 2, 2)], feature_norm=feature_norm, **options)


def random_maps(batch=2, dtype=torch.float64):
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(batch, *shape, dtype=dtype, generator=generator) for shape in ((4, 3, 3), (5, 2, 2))]


def test_kernel_sizes_alternate_beginning_with_3x3():
    mixed = [step.subnet[0].kernel_size[0] for step in small(steps=4).flows[0]]
    assert mixed == [3, 1, 3, 1]
    assert {step.subnet[0].kernel_size[0] for step in small(steps=4, conv3x3_only=True).flows[0]} == {3}


@pytest.mark.parametrize("feature_norm", ["trainable", "counted", "nonaffine", "pretrained", "none"])
def test_feature_norm_decides_what_enters_the_flow(feature_norm):
    flow, maps = small(feature_norm=feature_norm).double(), random_maps()
    entered = flow(maps)[0].x
    if feature_norm in ("trainable", "counted", "nonaffine"):
        torch.testing.assert_close(entered.mean(dim=(1, 2, 3)), torch.zeros(2).double(), atol=1e-9, rtol=0)
    else:
        assert torch.equal(entered, maps[0])
    assert (sum(p.numel() for p in flow.norms.parameters()) > 0) == (feature_norm in ("trainable", "counted"))


@pytest.mark.parametrize("feature_norm", ["trainable", "nonaffine", "pretrained", "none"])
def test_feature_norm_is_a_preprocessing_outside_the_log_det(feature_norm):
    """The log-det is that of the flow after the norm: if there is a norm, scaling the features changes nothing."""
    flow, maps = small(feature_norm=feature_norm).double(), random_maps(batch=1)
    with torch.no_grad():
        for parameter in flow.norms.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    latent = flow(maps)[0]
    jacobian = torch.autograd.functional.jacobian(lambda x: flow.flows[0](x)[0], latent.x)
    n = latent.x.numel()
    assert latent.log_det.item() == pytest.approx(torch.linalg.slogdet(jacobian.reshape(n, n))[1].item(), abs=1e-9)
    scaled = flow([7 * m for m in maps])[0].log_det.item()
    normalises = feature_norm in ("trainable", "nonaffine")
    assert (abs(scaled - latent.log_det.item()) < 1e-3) == normalises
    if normalises:  # the exact Jacobian of the whole is singular: mean and scale of each image are lost
        whole = torch.autograd.functional.jacobian(lambda x: flow([x, maps[1]])[0].z, maps[0]).reshape(n, n)
        assert torch.linalg.svdvals(whole).min() < 1e-5 * torch.linalg.svdvals(whole).max()


def test_trainable_feature_norm_learns_because_the_likelihood_sees_it_and_the_log_det_does_not():
    """Without the norm's Jacobian in the loss, smaller weights always lower it: its gradient has one sign."""
    flow, maps = small(feature_norm="trainable").double(), random_maps()
    units = Density(flow, [BASES["fixed"](shape) for shape in flow.shapes])(maps)
    negative_log_likelihood(units).backward()
    assert all(norm.weight.grad.sum() > 0 for norm in flow.norms)


def test_output_norm_normalises_each_image_and_counts_its_scale():
    maps = [3 * m + 1 for m in random_maps()]
    for plain, normed in zip(small().double()(maps), small(output_norm="layernorm").double()(maps), strict=True):
        z = plain.z.detach().numpy().reshape(2, -1)
        expected = (z - z.mean(axis=1, keepdims=True)) / np.sqrt(z.var(axis=1, keepdims=True) + 1e-5)
        np.testing.assert_allclose(normed.z.detach().numpy().reshape(2, -1), expected, rtol=1e-10)
        scale_part = -z.shape[1] * 0.5 * np.log(z.var(axis=1) + 1e-5)
        np.testing.assert_allclose((normed.log_det - plain.log_det).detach().numpy(), scale_part, rtol=1e-10)


def test_scaling_the_latents_gains_nothing_under_output_norm():
    """The claim of the scale part: q and log-det of c·z are those of z but for −D ln c, its own log-det."""
    latent = small().double()(random_maps())[0]
    a, b = normalised(latent, epsilon=0.0), normalised(latent._replace(z=5 * latent.z), epsilon=0.0)
    torch.testing.assert_close(a.z, b.z)
    torch.testing.assert_close(a.log_det - b.log_det, torch.full((2,), 36 * np.log(5.0)).double())


def test_no_inverse_behind_output_norm():
    flow = small(output_norm="layernorm")
    with pytest.raises(ValueError, match="no inverse"):
        flow.inverse(random_maps(dtype=torch.float32))


MAPS = {
    "r18": [(64, 64, 64), (128, 32, 32), (256, 16, 16)],
    "wrn50": [(256, 64, 64), (512, 32, 32), (1024, 16, 16)],
    "deit": [(768, 24, 24)],
    "cait": [(768, 28, 28)],
}


@pytest.mark.parametrize(
    ("backbone", "flow_millions", "norm_millions", "psi_millions"),
    [("r18", 4.66, 0.92, 0.918), ("wrn50", 41.34, 3.67, 3.670), ("deit", 7.07, 0.0, 0.885), ("cait", 7.07, 0.0, 1.204)],
)
def test_parameter_counts_of_the_table(compose, backbone, flow_millions, norm_millions, psi_millions):
    """Method, section 1, last two rows of the table; psi holds two numbers per unit."""
    from altub_exp.detector.assembly import build_density

    config = compose(f"backbone={backbone}", "dataset.category=bottle")
    density = build_density(config, MAPS[backbone])
    millions = [
        sum(p.numel() for p in part.parameters() if p.requires_grad) / 1e6
        for part in (density.flow.flows, density.flow.norms, density.bases)
    ]
    assert round(millions[0], 2) == flow_millions
    assert round(millions[1], 2) == norm_millions
    assert round(millions[2], 3) == pytest.approx(psi_millions, abs=1e-9)
