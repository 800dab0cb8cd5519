"""A base distribution that also learns skewness and tails.

Source: Jones and Pewsey 2009, https://doi.org/10.1093/biomet/asp053
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from altub_exp.method.base import Standardized


class SinhArcsinh(nn.Module):
    r"""The sinh-arcsinh distribution, ψ = (μ, ln σ, ε, ln δ) per unit [C, H, W].

    With :math:`u = (z - \mu)/\sigma` and :math:`a = \delta \operatorname{asinh} u - \varepsilon` the variable
    :math:`q = \sinh a` follows N(0, 1). So :math:`p(z) = N(q)\,\mathrm{d}q/\mathrm{d}z`, and the program's
    ln σ is :math:`-\ln \mathrm{d}q/\mathrm{d}z = \ln\sigma - \ln\delta - \ln\cosh a + \frac{1}{2}\ln(1 + u^2)`.
    ψ = 0 is N(0, I).

    >>> base = SinhArcsinh((2, 3, 3))
    >>> z = torch.randn(5, 2, 3, 3)
    >>> torch.allclose(base(z, z).q, z, atol=1e-5), float(base(z, z).log_sigma.abs().max()) < 1e-5
    (True, True)
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        for name in ("mu", "log_sigma", "epsilon", "log_delta"):
            self.register_parameter(name, nn.Parameter(torch.zeros(shape)))

    def forward(self, z: Tensor, x: Tensor) -> Standardized:
        """Standardise z [B, C, H, W]; x, the flow's input, is unused."""
        u = (z - self.mu) * torch.exp(-self.log_sigma)
        a = torch.exp(self.log_delta) * torch.asinh(u) - self.epsilon
        log_cosh = a.abs() + torch.log1p(torch.exp(-2 * a.abs())) - torch.log(z.new_tensor(2.0))
        log_sigma = self.log_sigma - self.log_delta - log_cosh + 0.5 * torch.log1p(u**2)
        return Standardized(torch.sinh(a), log_sigma)
