"""Gated feed-forward layers on CPU, `down(silu(gate(x)) · up(x))`, as one node of autograd.

It keeps two tensors of the inner width for the backward pass, where autograd keeps four, and
computes elementwise products in place: on CPU, new memory costs more than arithmetic on it.

Letters: `_N` tokens, `_E` width, `_F` inner width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import silu

from ehrmind.engines.local.forward.matmul import Linear, matmul, weight_gradient

PARTS = ("gate_proj", "up_proj", "down_proj")
ROUNDING = {torch.float32: 1e-5}  # of the result's size; narrower types round in another order


class FeedForward(torch.nn.Module):
    """A gated feed-forward layer.

    It calls its linear layers one by one where an adapter wraps them, or where their weights are
    packed.
    """

    gate_proj: Any
    up_proj: Any
    down_proj: Any

    def forward(self, hidden_NE: Tensor) -> Tensor:
        layers = (self.gate_proj, self.up_proj, self.down_proj)
        narrow = torch.is_autocast_enabled("cpu")
        dtype = torch.get_autocast_dtype("cpu") if narrow else hidden_NE.dtype
        plain = all(type(layer) is Linear and layer.packed is None for layer in layers)
        if not plain or hidden_NE.device.type != "cpu" or not (narrow or self.gate_proj.weight.dtype == dtype):
            down: Tensor = self.down_proj(silu(self.gate_proj(hidden_NE)) * self.up_proj(hidden_NE))
            return down
        flat_NE = hidden_NE.reshape(-1, hidden_NE.shape[-1]).to(dtype)
        out: Tensor = _FeedForward.apply(flat_NE, *(layer.weight for layer in layers))
        return out.view(*hidden_NE.shape[:-1], out.shape[-1])


class _FeedForward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden_NE: Tensor, *weights: Tensor) -> Tensor:
        gate_FE, up_FE, down_EF = (weight.to(hidden_NE.dtype) for weight in weights)
        gate_NF, up_NF = matmul(hidden_NE, gate_FE), matmul(hidden_NE, up_FE)
        ctx.save_for_backward(hidden_NE, gate_NF, up_NF, gate_FE, up_FE, down_EF)
        ctx.dtypes = [weight.dtype for weight in weights]
        return matmul(silu(gate_NF).mul_(up_NF), down_EF)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden_NE, gate_NF, up_NF, gate_FE, up_FE, down_EF = ctx.saved_tensors
        wanted, (grad_NE,) = ctx.needs_input_grad, gradients
        to_gate = to_up = to_down = to_hidden = None
        opened_NF = silu(gate_NF)
        if wanted[3]:
            to_down = weight_gradient(grad_NE, opened_NF * up_NF, ctx.dtypes[2])
        grad_NF = matmul(grad_NE, down_EF.mT)
        grad_up_NF = opened_NF.mul_(grad_NF)
        grad_gate_NF = torch.ops.aten.silu_backward(grad_NF.mul_(up_NF), gate_NF)
        if wanted[1]:
            to_gate = weight_gradient(grad_gate_NF, hidden_NE, ctx.dtypes[0])
        if wanted[2]:
            to_up = weight_gradient(grad_up_NF, hidden_NE, ctx.dtypes[1])
        if wanted[0]:
            to_hidden = matmul(grad_gate_NF, gate_FE.mT).add_(matmul(grad_up_NF, up_FE.mT))
        return to_hidden, to_gate, to_up, to_down


def use_own_feed_forward(network: Any) -> int:
    """Replaces every layer on CPU that computes what `FeedForward` does. Returns how many."""
    found = [module for module in network.modules() if _fits(module)]
    for module in found:
        module.__class__ = FeedForward
    return len(found)


@torch.no_grad()
def _fits(module: Any) -> bool:
    """Tells whether a module is made of the three layers and gives our result on random numbers."""
    layers = [getattr(module, name, None) for name in PARTS]
    if not all(type(layer) is Linear and layer.bias is None for layer in layers):
        return False
    weight_FE = layers[0].weight  # type: ignore[union-attr]
    own = {id(weight) for layer in layers for weight in layer.parameters()}  # type: ignore[union-attr]
    if weight_FE.device.type != "cpu" or {id(weight) for weight in module.parameters()} != own:
        return False
    probe_NE = torch.randn(5, weight_FE.shape[1], generator=torch.Generator().manual_seed(0)).to(weight_FE.dtype)
    try:
        result_NE = module(probe_NE)
    except (RuntimeError, TypeError, ValueError, AttributeError, LookupError):
        return False  # it takes more than hidden states
    found_NE = _FeedForward.apply(probe_NE, *(layer.weight for layer in layers))  # type: ignore[union-attr]
    if not isinstance(result_NE, Tensor) or result_NE.shape != found_NE.shape:
        return False
    near = ROUNDING.get(weight_FE.dtype, 0.02) * float(result_NE.abs().max())
    return bool((found_NE - result_NE).abs().le(near).all())
