"""Root-mean-square norms in one call, on CUDA in one kernel. A model's own norm takes seven.

Letters: `_N` tokens (any leading shape), `_E` width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import rms_norm

OFFSETS = (0.0, 1.0)  # Gemma's norms multiply by 1 + weight
ROUNDING = {torch.float32: 1e-5}  # narrower types round in another order


class RmsNorm(torch.nn.Module):
    """A fused RMS norm.

    Under autocast its result has autocast's type, as the matmuls after it need.
    """

    weight: Tensor
    fused_eps: float
    offset: float

    def forward(self, hidden_NE: Tensor) -> Tensor:
        weight_E = self.weight if self.offset == 0 else self.weight + self.offset
        if hidden_NE.dtype != weight_E.dtype:
            hidden_NE = hidden_NE.float()
        kind = hidden_NE.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden_NE.dtype
        if kind == "cpu" and hidden_NE.dtype == weight_E.dtype == torch.float32:
            out_NE: Tensor = _RmsNorm.apply(hidden_NE, weight_E, self.fused_eps, dtype)
            return out_NE
        return rms_norm(hidden_NE, weight_E.shape, weight_E, self.fused_eps).to(dtype)


class _RmsNorm(torch.autograd.Function):
    """An fp32 norm on CPU, where torch's own is six calls and more than twice as many backward."""

    @staticmethod
    def forward(ctx: Any, hidden_NE: Tensor, weight_E: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        norm_N1 = torch.linalg.vector_norm(hidden_NE, dim=-1, keepdim=True)
        inverse_N1 = norm_N1.square_().div_(len(weight_E)).add_(eps).rsqrt_()
        ctx.save_for_backward(hidden_NE, weight_E, inverse_N1)
        return (hidden_NE * inverse_N1).mul_(weight_E).to(dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden_NE, weight_E, inverse_N1 = ctx.saved_tensors
        unit_NE, grad_NE = hidden_NE * inverse_N1, gradients[0].float()
        both_NE = grad_NE * unit_NE
        to_weight = both_NE.flatten(0, -2).sum(0) if ctx.needs_input_grad[1] else None
        mean_N1 = (both_NE @ weight_E).div_(len(weight_E))[..., None]
        to_hidden = torch.mul(grad_NE, weight_E, out=both_NE).sub_(unit_NE.mul_(mean_N1)).mul_(inverse_N1)
        return to_hidden, to_weight, None, None


def use_fused_norms(network: Any) -> int:
    """Replaces every norm that computes what `rms_norm` does. Returns how many."""
    found = [(module, fitting) for module in network.modules() if (fitting := _fitting(module)) is not None]
    for module, (eps, offset) in found:
        module.__class__ = RmsNorm
        module.fused_eps, module.offset = eps, offset
    return len(found)


@torch.no_grad()
def _fitting(module: Any) -> tuple[float, float] | None:
    """Finds the (epsilon, weight offset) with which `rms_norm` gives the module's result on random
    numbers, or None.
    """
    eps = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    own = dict(module.named_parameters(recurse=False))
    if (
        not type(module).__name__.endswith("RMSNorm")
        or eps is None
        or set(own) != {"weight"}
        or own["weight"].ndim != 1
    ):
        return None
    weight_E = own["weight"]
    generator = torch.Generator().manual_seed(0)
    probe_NE = torch.randn(5, len(weight_E), generator=generator).to(weight_E.device, weight_E.dtype)
    result_NE = module(probe_NE)
    for offset in OFFSETS:
        fused_NE = rms_norm(probe_NE, weight_E.shape, weight_E + offset, eps)
        if torch.allclose(fused_NE, result_NE, rtol=ROUNDING.get(weight_E.dtype, 0.02), atol=1e-6):
            return float(eps), offset
    return None
