"""The coupling block of FastFlow and CFLOW-AD: AllInOneBlock of FrEIA 0.2 (github.com/vislearn/FrEIA), but cheaper."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any, cast

import torch
from FrEIA.modules import AllInOneBlock
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from altub_exp.machine.precision import uncast
from altub_exp.machine.triton_kernels import built

Orders = tuple[Tensor, Tensor]

CACHED = 2**20
"""Elements of x coupled at a time on a CPU, so that intermediate results stay in its cache; a GPU takes all at once."""


class _Permute(torch.autograd.Function):
    """Reordering of dimension 1, whose gradient is reordered by the inverse instead of being scattered."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(order, inverse)
        return x.index_select(1, order)

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor, None, None]:
        order, inverse = ctx.saved_tensors  # type: ignore[attr-defined]
        return permuted(grads[0], inverse, order), None, None


def permuted(x: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
    """Return x [B, C, …] with its channels in another order.

    Args:
        x: a tensor of at least two dimensions.
        order: index of the channel at each new position, [C].
        inverse: ``order.argsort()``.

    >>> permuted(torch.tensor([[5, 6, 7]]), torch.tensor([1, 2, 0]), torch.tensor([2, 0, 1]))
    tensor([[6, 7, 5]])
    """
    if torch.compiler.is_compiling():  # an exported graph has no gradient
        return x.index_select(1, order)
    return cast("Tensor", _Permute.apply(x, order, inverse))


class _Halves(torch.autograd.Function):
    """Return the first ``channels`` channels of x, and x; the gradient of the part is added in place to that of x.

    The second output must enter only :class:`_Couple`, whose backward allocates the gradient that is changed here.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, channels: int) -> tuple[Tensor, Tensor]:
        return x[:, :channels].contiguous(), x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor, None]:
        part, whole = grads
        whole[:, : part.shape[1]] += part
        return whole, None


class _Couple(torch.autograd.Function):
    """Map x and the subnet's output a to z, permuted if ``orders`` are given, and Σ ln e(s).

    The batch is processed in pieces. Only x and a are kept for the gradient; a is overwritten by (tanh 0.1 s, 0.1 t),
    from which the rest is computed again. The operations and their order are FrEIA's, and so are the numbers. On a GPU
    two kernels (:mod:`~altub_exp.flows.coupling_kernels`) compute the same up to rounding.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, a: Tensor, scale: Tensor, offset: Tensor, alpha: float, orders: Orders | None
    ) -> tuple[Tensor, Tensor]:
        ctx.alpha, ctx.kernels = alpha, kernels_for(x)
        ctx.save_for_backward(x, a, scale, *(orders or ()))
        if ctx.kernels is not None:
            inverse = None if orders is None else orders[1]
            return ctx.kernels.couple(x, a, scale, offset, alpha, inverse)  # type: ignore[no-any-return]
        z, log_det = torch.empty_like(x), x.new_empty(len(x))
        passive = x.shape[1] - a.shape[1] // 2
        scale1, scale2 = scale.tensor_split((passive,), dim=1)
        for rows in _pieces(x):
            x1, x2 = x[rows].tensor_split((passive,), dim=1)
            tanh, shift = a[rows].mul_(0.1).chunk(2, dim=1)
            log_scale = alpha * tanh.tanh_()
            torch.sum(log_scale, dim=tuple(range(1, x.dim())), out=log_det[rows])
            coupled = z[rows] if orders is None else torch.empty_like(z[rows])
            u1, u2 = coupled.tensor_split((passive,), dim=1)
            torch.mul(x1, scale1, out=u1)
            torch.mul(x2, log_scale.exp_(), out=u2).add_(shift).mul_(scale2)
            coupled.add_(offset)
            if orders is not None:
                torch.index_select(coupled, 1, orders[0], out=z[rows])
        return z, log_det

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, a, scale, *orders = ctx.saved_tensors
        of_z, of_log_det = grads
        if ctx.kernels is not None:
            inverse = orders[1] if orders else None
            return *ctx.kernels.gradients(x, a, scale, of_z, of_log_det, ctx.alpha, inverse), None, None
        of_x, of_a = torch.empty_like(x), torch.empty_like(a)
        of_scale, of_offset = torch.zeros_like(scale), torch.zeros_like(scale)
        passive = x.shape[1] - a.shape[1] // 2
        summed = (0, *range(2, x.dim()))
        for rows in _pieces(x):
            g = torch.index_select(of_z[rows], 1, orders[1], out=of_x[rows]) if orders else of_z[rows]
            of_offset += g.sum(dim=summed, keepdim=True)
            g1, g2 = g.tensor_split((passive,), dim=1)
            x1, x2 = x[rows].tensor_split((passive,), dim=1)
            tanh, shift = a[rows].chunk(2, dim=1)
            factor = (ctx.alpha * tanh).exp_()
            weighted = torch.empty_like(of_x[rows])  # g times the input of the global scaling
            torch.mul(x1, g1, out=weighted[:, :passive])
            torch.mul(x2, factor, out=weighted[:, passive:]).add_(shift).mul_(g2)
            of_scale += weighted.sum(dim=summed, keepdim=True)
            of_u2 = torch.mul(g, scale, out=of_x[rows])[:, passive:]
            of_tanh, of_shift = of_a[rows].chunk(2, dim=1)
            torch.mul(of_u2, 0.1, out=of_shift)
            of_u2.mul_(factor)  # now the gradient of x2
            torch.mul(of_u2, x2, out=of_tanh).add_(of_log_det[rows].view(-1, *[1] * (x.dim() - 1)))
            torch.ops.aten.tanh_backward(of_tanh, tanh, grad_input=of_tanh).mul_(0.1 * ctx.alpha)
        return of_x, of_a, of_scale, of_offset, None, None


def kernels_for(x: Tensor) -> ModuleType | None:
    """Return the fused kernels for float32 maps or fibres on a GPU, otherwise None."""
    return _kernels(x.device) if x.is_cuda and x.dtype == torch.float32 else None


@functools.cache
def _kernels(device: torch.device) -> ModuleType | None:
    """Build the kernels by a first call; without a C compiler, log a warning and return None."""

    def build() -> ModuleType:
        from altub_exp.flows import coupling_kernels

        x = torch.zeros(1, 2, 1, 1, device=device)
        coupling_kernels.couple(x, x, x[0, :, 0, 0], x[0, :, 0, 0], 1.0, None)
        return coupling_kernels

    return built(build, "The flow")


def _pieces(x: Tensor) -> Iterator[slice]:
    at_once = max(1, CACHED // x[0].numel()) if x.device.type == "cpu" else len(x)
    return (slice(first, first + at_once) for first in range(0, len(x), at_once))


class CouplingBlock(AllInOneBlock):  # type: ignore[misc]  # FrEIA has no types
    r"""One step of the flow: affine coupling, global affine transformation, and a fixed random permutation of channels.

    With the input split into :math:`x_1, x_2` along the channels and :math:`(s, t)` the subnet's output,

    .. math:: u_1 = x_1, \quad u_2 = x_2 \odot \exp(\alpha \tanh(0.1\, s(x_1))) + 0.1\, t(x_1),

    then every channel is scaled by :math:`0.1\,\mathrm{softplus}_{0.5}` of a parameter, shifted, and permuted.
    FrEIA divides by α inside the tanh since 2023-08; FastFlow and CFLOW-AD were published with this form. The
    permutation is drawn from numpy's global generator, as in FrEIA, so that a seed gives the same one; it is applied by
    index, which equals FrEIA's product with a dense C × C permutation matrix bit for bit. FrEIA keeps twelve maps for
    the gradient; this block keeps two, and computes the rest again piece by piece.

    With ``permute_soft`` a uniformly distributed, fixed orthogonal matrix replaces the permutation, as in CFLOW-AD. It
    is drawn by a QR decomposition, since FrEIA's method takes minutes at C = 2048 with an older scipy.

    Args:
        dims_in: shape of the input without the batch, in a list: ``[(C, H, W)]`` or ``[(C,)]``.
        dims_c: shape of the condition, likewise in a list; or empty.
        subnet_constructor: called as ``f(channels_in, channels_out)``; makes the network that predicts (s, t).
        affine_clamping: α.
        permute_soft: True mixes the channels by an orthogonal matrix.
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
            order = self.w_perm.flatten(1).argmax(1)  # row i of the matrix has its 1 in column order[i]
            del self.w_perm, self.w_perm_inv
            self.register_buffer("order", order)
            self.register_buffer("inverse_order", order.argsort())

    def forward(
        self, x: Sequence[Tensor], c: Sequence[Tensor] = (), rev: bool = False, jac: bool = True
    ) -> tuple[tuple[Tensor], Tensor]:
        """Map (x,) and (condition,) to (z,) and log|det ∂z/∂x| per item of the batch; ``rev`` inverts."""
        if rev or torch.compiler.is_compiling():  # an exported graph has FrEIA's operations, for any size of the batch
            return cast("tuple[tuple[Tensor], Tensor]", super().forward(x, c, rev=rev, jac=jac))
        passive, whole = _Halves.apply(x[0], self.splits[0])
        a = self.subnet(torch.cat([passive, *c], dim=1) if c else passive)
        if kernels_for(whole) is None:
            a = a.to(whole.dtype)  # autocast may have lowered it
        scale: Tensor = self.global_scale_activation(self.global_scale)
        orders = (self.order, self.inverse_order) if hasattr(self, "order") else None
        z, log_det = _Couple.apply(whole, a, scale, self.global_offset, self.clamp, orders)
        positions = math.prod(whole.shape[2:])
        return (z if orders else self._mix(z, rev),), log_det + positions * torch.sum(torch.log(scale))

    def _affine(self, x: Tensor, a: Tensor, rev: bool = False) -> tuple[Tensor, Tensor]:
        return cast("tuple[Tensor, Tensor]", super()._affine(x, a.to(x.dtype), rev))  # autocast may have lowered it

    def _permute(self, x: Tensor, rev: bool = False) -> tuple[Tensor, Tensor]:
        scale: Tensor = self.global_scale_activation(self.global_scale)
        log_det_per_position = torch.sum(torch.log(scale))
        if rev:
            return (self._mix(x, rev) - self.global_offset) / scale, log_det_per_position
        return self._mix(x * scale + self.global_offset, rev), log_det_per_position

    def _mix(self, x: Tensor, rev: bool) -> Tensor:
        if hasattr(self, "order"):
            order, inverse = (self.inverse_order, self.order) if rev else (self.order, self.inverse_order)
            return permuted(x, order, inverse)
        with uncast(x.device):  # a latent must not be rounded
            return cast("Tensor", self.permute_function(x, self.w_perm.transpose(0, 1) if rev else self.w_perm))


def random_orthogonal(size: int) -> Tensor:
    """Draw a uniformly distributed orthogonal matrix [size, size] (Mezzadri 2007, arXiv math-ph/0609050).

    >>> matrix = random_orthogonal(5)
    >>> torch.allclose(matrix @ matrix.T, torch.eye(5), atol=1e-6)
    True
    """
    q, r = torch.linalg.qr(torch.randn(size, size, dtype=torch.float64))
    uniform: Tensor = q * r.diagonal().sign()  # the signs make it uniform
    return uniform.float()
