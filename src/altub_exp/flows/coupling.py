"""The affine coupling block that the flows share: FrEIA 0.2's AllInOneBlock with its permutation done by index."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
        return _Permute.apply(grads[0], inverse, order), None, None


class CouplingBlock(AllInOneBlock):  # type: ignore[misc]  # FrEIA has no types
    r"""One step of the flow: affine coupling, global affine transformation, fixed random permutation of the channels.

    With the input split into :math:`x_1, x_2` along the channels and :math:`(s, t)` the subnet's output,

    .. math:: u_1 = x_1, \quad u_2 = x_2 \odot \exp(\alpha \tanh(0.1\, s(x_1))) + 0.1\, t(x_1),

    then every channel is scaled by :math:`0.1\,\mathrm{softplus}_{0.5}` of a parameter, shifted, and permuted.
    Later versions of FrEIA (from 2023-08) divide by α inside the tanh; FastFlow and CFLOW-AD were published with this
    form. The permutation is drawn from numpy's global generator, as FrEIA does, so that a seed gives the same one;
    it is applied by index, which equals FrEIA's product with a dense C × C permutation matrix bit for bit.

    Args:
        dims_in: shape of the input without the batch, in a list: ``[(C, H, W)]`` or ``[(C,)]``.
        dims_c: likewise the shape of the condition, or empty.
        subnet_constructor: called as ``f(channels_in, channels_out)``; predicts (s, t).
        affine_clamping: α.
    """

    def __init__(
        self,
        dims_in: Sequence[tuple[int, ...]],
        dims_c: Sequence[tuple[int, ...]] = (),
        *,
        subnet_constructor: Callable[[int, int], nn.Module],
        affine_clamping: float,
    ) -> None:
        super().__init__(
            dims_in,
            dims_c,
            subnet_constructor=subnet_constructor,
            affine_clamping=affine_clamping,
            global_affine_type="SOFTPLUS",
            permute_soft=False,
        )
        order = self.w_perm.flatten(1).argmax(1)  # row i of the matrix has its one in column order[i]
        del self.w_perm, self.w_perm_inv
        self.register_buffer("order", order)
        self.register_buffer("inverse_order", order.argsort())

    def _permute(self, x: Tensor, rev: bool = False) -> tuple[Tensor, Tensor]:
        scale = self.global_scale_activation(self.global_scale)
        log_det_per_position = torch.sum(torch.log(scale))
        if rev:
            x = _Permute.apply(x, self.inverse_order, self.order)
            return (x - self.global_offset) / scale, log_det_per_position
        x = x * scale + self.global_offset
        return _Permute.apply(x, self.order, self.inverse_order), log_det_per_position
