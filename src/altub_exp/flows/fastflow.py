"""FastFlow (Yu et al. 2021, arXiv 2111.07677): one two-dimensional normalizing flow per scale of feature maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from FrEIA.framework import SequenceINN
from torch import Tensor, nn

from altub_exp.flows.coupling import CouplingBlock
from altub_exp.flows.flow import Latent, Shape

NARROW = 32  # channels, from which on oneDNN's blocked layouts are as fast


class FeatureNorm(nn.LayerNorm):
    """LayerNorm that uses all multiprocessors of a GPU; PyTorch's uses one per image."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise maps [B, C, H, W] to mean 0 and variance 1 per image, then apply the affine transformation."""
        if not x.is_cuda:
            return super().forward(x)
        variance, mean = torch.var_mean(x, dim=(1, 2, 3), correction=0, keepdim=True)
        normal = (x - mean) * torch.rsqrt(variance + self.eps)
        return torch.addcmul(self.bias, normal, self.weight) if self.elementwise_affine else normal

    def unit_values(self) -> dict[str, Tensor]:
        """Return the gain |γ| [C, H, W] (Ba et al. 2016, https://arxiv.org/abs/1607.06450), if it is trained."""
        return {"norm_gain": self.weight.abs()} if self.elementwise_affine else {}


class CountedNorm(FeatureNorm):
    """FeatureNorm whose affine transformation is the first layer of the flow: its Jacobian is counted.

    The statistics' own Jacobian is not: to centre and scale each image is a preprocessing step.
    """

    def log_det(self) -> Tensor:
        r"""Return the affine's log-determinant :math:`\sum \ln|\gamma|`, a scalar; −∞ if a γ is 0."""
        return self.weight.abs().log().sum()


NORMS: dict[str, Callable[[Shape], nn.Module]] = {
    "trainable": lambda shape: FeatureNorm(shape),
    "counted": lambda shape: CountedNorm(shape),
    "nonaffine": lambda shape: FeatureNorm(shape, elementwise_affine=False),
    "pretrained": lambda shape: nn.Identity(),  # the backbone's own final norm was applied to the features
    "none": lambda shape: nn.Identity(),
}


def with_norm(log_det: Tensor, norm: nn.Module) -> Tensor:
    """Add the norm's part, if it is counted, to the log-determinant [B] of the flow after it."""
    return log_det + norm.log_det() if isinstance(norm, CountedNorm) else log_det


class Subnet(nn.Sequential):
    """Layers that a CPU computes channels last where the maps are narrow, since convolutions are faster so."""

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to maps, equal to those of :class:`~torch.nn.Sequential` but for rounding."""
        if x.shape[1] < NARROW and not x.is_cuda:
            x = x.contiguous(memory_format=torch.channels_last)
        for layer in self:
            x = layer(x)
        return x.contiguous()


def convolutional_subnet(channels_in: int, channels_out: int, *, kernel_size: int, hidden_ratio: float) -> nn.Module:
    """Make Conv → ReLU → Conv with PyTorch's default initialisation, as in anomalib 0.3 (the last is not zero)."""
    hidden = int(channels_in * hidden_ratio)
    return Subnet(
        nn.Conv2d(channels_in, hidden, kernel_size, padding="same"),
        nn.ReLU(inplace=True),
        nn.Conv2d(hidden, channels_out, kernel_size, padding="same"),
    )


def normalised(latent: Latent, epsilon: float = 1e-5) -> Latent:
    r"""Apply LayerNorm([C, H, W]) without parameters to z, and add :math:`-CHW \ln s` to the log-determinant.

    Without this term the flow could enlarge |z| at no cost, and the likelihood would be ill-posed. The exact Jacobian
    is singular, since mean and scale of each image are lost.

    Args:
        latent: one scale of a batch.
        epsilon: constant added to the variance s².
    """
    z = latent.z
    variance, mean = torch.var_mean(z, dim=(1, 2, 3), correction=0, keepdim=True)
    log_scale = 0.5 * torch.log(variance + epsilon)
    log_det = latent.log_det - z[0].numel() * log_scale.flatten()
    return Latent((z - mean) * torch.exp(-log_scale), log_det, latent.x)


class FastFlow(nn.Module):
    """A sequence of coupling blocks per scale, after a normalisation of the features.

    The normalisation is a preprocessing step: its Jacobian is not part of the log-determinant. With a ``trainable``
    affine, as published, the likelihood therefore has no bound: the affine shrinks, and the flow stretches the features
    back for a gain in log-determinant. A ``counted`` affine is part of the log-determinant of its scale.

    Args:
        shapes: (C, H, W) of each scale.
        steps: coupling blocks per scale.
        conv3x3_only: False gives every second step, beginning with the second, 1×1 convolutions.
        hidden_ratio: hidden channels of a subnet per input channel.
        affine_clamping: α of the coupling.
        feature_norm: LayerNorm([C, H, W]) with a ``trainable`` or ``counted`` affine or without (``nonaffine``); or
            no norm here (``pretrained``, ``none``).
        output_norm: ``none``, or ``layernorm``, which applies :func:`normalised` to every scale's latent.

    >>> import torch
    >>> flow = FastFlow([(4, 8, 8)], steps=2, conv3x3_only=True, hidden_ratio=1.0, affine_clamping=2.0)
    >>> latent, = flow([torch.randn(3, 4, 8, 8)])
    >>> latent.z.shape, latent.log_det.shape
    (torch.Size([3, 4, 8, 8]), torch.Size([3]))
    """

    capturable = True

    def __init__(
        self,
        shapes: Sequence[Shape],
        *,
        steps: int,
        conv3x3_only: bool,
        hidden_ratio: float,
        affine_clamping: float,
        feature_norm: str = "trainable",
        output_norm: str = "none",
    ) -> None:
        super().__init__()
        self.output_norm = output_norm
        self.shapes: list[Shape] = list(shapes)
        self.norms = nn.ModuleList(NORMS[feature_norm](shape) for shape in shapes)
        self.flows = nn.ModuleList()
        for shape in shapes:
            flow = SequenceINN(*shape)
            for step in range(steps):
                kernel_size = 3 if conv3x3_only or step % 2 == 0 else 1
                subnet = partial(convolutional_subnet, kernel_size=kernel_size, hidden_ratio=hidden_ratio)
                flow.append(CouplingBlock, subnet_constructor=subnet, affine_clamping=affine_clamping)
            self.flows.append(flow)

    def forward(self, features: Sequence[Tensor]) -> list[Latent]:
        """Map the features, one [B, C, H, W] per scale, to z of the same shape and log|det ∂z/∂x| [B] per scale."""
        latents = []
        for norm, flow, maps in zip(self.norms, self.flows, features, strict=True):
            x = norm(maps)
            z, log_det = flow(x)
            latent = Latent(z, with_norm(log_det, norm), x)
            latents.append(normalised(latent) if self.output_norm == "layernorm" else latent)
        return latents

    def inverse(self, z: Sequence[Tensor]) -> list[Tensor]:
        """Map z of each scale back to the normalised features.

        Raises:
            ValueError: the flow has ``output_norm="layernorm"``, which loses mean and scale of each image.
        """
        if self.output_norm != "none":
            raise ValueError("a flow whose latents are normalised per image has no inverse")
        return [flow(latent, rev=True)[0] for flow, latent in zip(self.flows, z, strict=True)]
