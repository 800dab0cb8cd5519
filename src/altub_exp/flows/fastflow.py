"""FastFlow (Yu et al. 2021): one two-dimensional normalizing flow per scale of feature maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from FrEIA.framework import SequenceINN
from torch import Tensor, nn

from altub_exp.flows.coupling import CouplingBlock
from altub_exp.flows.latent import Latent, Shape

NORMS: dict[str, Callable[[Shape], nn.Module]] = {
    "trainable": lambda shape: nn.LayerNorm(shape),
    "nonaffine": lambda shape: nn.LayerNorm(shape, elementwise_affine=False),
    "pretrained": lambda shape: nn.Identity(),  # the backbone's own final norm was applied to the features
    "none": lambda shape: nn.Identity(),
}


def convolutional_subnet(channels_in: int, channels_out: int, *, kernel_size: int, hidden_ratio: float) -> nn.Module:
    """Conv → ReLU → Conv with PyTorch's default initialisation, as in anomalib 0.3 (no zero-init of the last one)."""
    hidden = int(channels_in * hidden_ratio)
    return nn.Sequential(
        nn.Conv2d(channels_in, hidden, kernel_size, padding="same"),
        nn.ReLU(),
        nn.Conv2d(hidden, channels_out, kernel_size, padding="same"),
    )


class FastFlow(nn.Module):
    """A sequence of coupling blocks per scale, behind a normalisation of the features.

    The normalisation is a preprocessing of what enters the flow: its Jacobian is not part of the log-determinant.

    Args:
        shapes: (C, H, W) of each scale.
        steps: coupling blocks per scale.
        conv3x3_only: False makes every second step 1×1, beginning with the second.
        hidden_ratio: hidden channels of a subnet per input channel.
        affine_clamping: α of the coupling.
        feature_norm: ``trainable`` LayerNorm([C, H, W]), ``nonaffine``, or none here (``pretrained``, ``none``).

    >>> import torch
    >>> flow = FastFlow([(4, 8, 8)], steps=2, conv3x3_only=True, hidden_ratio=1.0, affine_clamping=2.0)
    >>> latent, = flow([torch.randn(3, 4, 8, 8)])
    >>> latent.z.shape, latent.log_det.shape
    (torch.Size([3, 4, 8, 8]), torch.Size([3]))
    """

    def __init__(
        self,
        shapes: Sequence[Shape],
        *,
        steps: int,
        conv3x3_only: bool,
        hidden_ratio: float,
        affine_clamping: float,
        feature_norm: str = "trainable",
    ) -> None:
        super().__init__()
        self.shapes = [tuple(shape) for shape in shapes]
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
        """Feature maps [B, C, H, W] per scale → z of the same shape and log|det ∂z/∂x| [B] per scale."""
        entering = [norm(maps) for norm, maps in zip(self.norms, features, strict=True)]
        latents = []
        for flow, x in zip(self.flows, entering, strict=True):
            z, log_det = flow(x)
            latents.append(Latent(z, log_det, x))
        return latents

    def inverse(self, z: Sequence[Tensor]) -> list[Tensor]:
        """z per scale → what entered the flow (behind the normalisation)."""
        return [flow(latent, rev=True)[0] for flow, latent in zip(self.flows, z, strict=True)]
