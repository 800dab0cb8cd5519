"""The affine coupling block that the flows share: FrEIA 0.2's AllInOneBlock with its permutation made cheaper."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from FrEIA.modules import AllInOneBlock
from torch import Tensor, nn


class _Permute(torch.autograd.Function):
    """Reorder dimension 1; the gradient is reordered back by the inverse instead of being scattered."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(order, inverse)
        return x.index_select(1, order)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[Tensor, None, None]:
        order, inverse = ctx.saved_tensors  # type: ignore[attr-defined]
        return permuted(grads[0], inverse, order), None, None


def permuted(x: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
    """The channels of x [B, C, …] in another order.

    Args:
        x: any tensor of at least two dimensions.
        order: which channel comes at each place, [C].
        inverse: ``order.argsort()``.

    >>> permuted(torch.tensor([[5, 6, 7]]), torch.tensor([1, 2, 0]), torch.tensor([2, 0, 1]))
    tensor([[6, 7, 5]])
    """
    return cast("Tensor", _Permute.apply(x, order, inverse))


class CouplingBlock(AllInOneBlock):  # type: ignore[misc]  # FrEIA has no types
    r"""One step of the flow: affine coupling, global affine transformation, fixed random permutation of the channels.

    With the input split into :math:`x_1, x_2` along the channels and :math:`(s, t)` the subnet's output,

    .. math:: u_1 = x_1, \quad u_2 = x_2 \odot \exp(\alpha \tanh(0.1\, s(x_1))) + 0.1\, t(x_1),

    then every channel is scaled by :math:`0.1\,\mathrm{softplus}_{0.5}` of a parameter, shifted, and permuted.
    Later versions of FrEIA (from 2023-08) divide by α inside the tanh; FastFlow and CFLOW-AD were published with this
    form. The permutation is drawn from numpy's global generator, as FrEIA does, so that a seed gives the same one;
    it is applied by index, which equals FrEIA's product with a dense C × C permutation matrix bit for bit.

    With ``permute_soft`` a fixed random orthogonal matrix takes the permutation's place (as in CFLOW-AD), uniformly
    distributed; drawn by a QR decomposition, since FrEIA's way takes minutes at C = 2048 with an older scipy.

    Args:
        dims_in: shape of the input without the batch, in a list: ``[(C, H, W)]`` or ``[(C,)]``.
        dims_c: likewise the shape of the condition, or empty.
        subnet_constructor: called as ``f(channels_in, channels_out)``; predicts (s, t).
        affine_clamping: α.
        permute_soft: mix the channels by an orthogonal matrix.
    """

    def __init__(
        self,
        dims_in: Sequence[tuple[int, ...]],
        dims_c: Sequence[tuple[int, ...]] = (),
        *,
        subnet_constructor: Callable[[int, int], nn.Module],
        affine_clamping: float,
        permute_soft: bool = False,
    ) -> None:
        super().__init__(
            dims_in,
            dims_c,
            subnet_constructor=subnet_constructor,
            affine_clamping=affine_clamping,
            global_affine_type="SOFTPLUS",
            permute_soft=False,
        )
        if permute_soft:
            self.w_perm.data = random_orthogonal(dims_in[0][0]).view_as(self.w_perm)
            del self.w_perm_inv  # its transpose
        else:
            order = self.w_perm.flatten(1).argmax(1)  # row i of the matrix has its one in column order[i]
            del self.w_perm, self.w_perm_inv
            self.register_buffer("order", order)
            self.register_buffer("inverse_order", order.argsort())

    def _permute(self, x: Tensor, rev: bool = False) -> tuple[Tensor, Tensor]:
        scale: Tensor = self.global_scale_activation(self.global_scale)
        log_det_per_position = torch.sum(torch.log(scale))
        if rev:
            return (self._mix(x, rev) - self.global_offset) / scale, log_det_per_position
        return self._mix(x * scale + self.global_offset, rev), log_det_per_position

    def _mix(self, x: Tensor, rev: bool) -> Tensor:
        if hasattr(self, "order"):
            there, back = (self.inverse_order, self.order) if rev else (self.order, self.inverse_order)
            return permuted(x, there, back)
        return cast("Tensor", self.permute_function(x, self.w_perm.transpose(0, 1) if rev else self.w_perm))


def random_orthogonal(size: int) -> Tensor:
    """A uniformly distributed orthogonal matrix [size, size], from PyTorch's global generator (Mezzadri 2007).

    >>> matrix = random_orthogonal(5)
    >>> torch.allclose(matrix @ matrix.T, torch.eye(5), atol=1e-6)
    True
    """
    q, r = torch.linalg.qr(torch.randn(size, size, dtype=torch.float64))
    uniform: Tensor = q * r.diagonal().sign()  # without the signs it would not be
    return uniform.float()
