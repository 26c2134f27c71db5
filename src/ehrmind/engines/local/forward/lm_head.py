"""The LM head: hidden states to log-probabilities of given tokens, in chunks.

No tensor of all tokens × vocabulary is kept.

Letters: `_N` tokens, `_E` hidden width, `_V` vocabulary.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ehrmind.engines.local.forward.matmul import Linear, matmul, matmul_over_rows

TOKENS_AT_ONCE = {"cpu": 512, "cuda": 2048}  # with fewer, a GPU spends its time on adding up gradients
LN_2 = math.log(2)


class LmHead(NamedTuple):
    """A linear output layer and its model's change to the logits: cap · tanh(logits · scale /
    cap).
    """

    weight_VE: Tensor
    scale: float
    cap: float | None


def lm_head_of(network: Any) -> LmHead | None:
    """Returns the model's LM head; None if this module cannot compute its logits, so that the model
    must.
    """
    layer, config = network.get_output_embeddings(), network.config.get_text_config()
    if type(layer) not in (torch.nn.Linear, Linear) or getattr(layer, "bias", None) is not None:
        return None
    scale = float(getattr(config, "logit_scale", None) or 1.0) / float(getattr(config, "logits_scaling", None) or 1.0)
    return LmHead(layer.weight, scale, getattr(config, "final_logit_softcapping", None))


def token_logprobs(hidden_NE: Tensor, head: LmHead, targets_N: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Returns log-probabilities [N] of the targets, temperature-scaled, and entropies [N],
    detached; fp32.
    """
    kind = hidden_NE.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden_NE.dtype
    with torch.autocast(kind, enabled=False):
        found: tuple[Tensor, Tensor] = _TokenLogprobs.apply(
            hidden_NE, head.weight_VE, targets_N, head, temperature, dtype
        )
    return found


class _TokenLogprobs(torch.autograd.Function):
    """Computes logits again in the backward pass, which costs less than keeping them."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_NE: Tensor,
        weight_VE: Tensor,
        targets_N: Tensor,
        head: LmHead,
        temperature: float,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        logprobs_N, lse_N, entropies_N = (torch.empty(len(targets_N), device=hidden_NE.device) for _ in range(3))
        weight = weight_VE.to(dtype)
        for here in _chunks(targets_N):
            logits_NV = _logits(hidden_NE[here].to(dtype), weight, head, temperature)
            highest_N = logits_NV.amax(-1)
            weights_NV = torch.sub(logits_NV, highest_N[:, None]).exp2_()
            sums_N = weights_NV.sum(-1)
            lse_N[here] = lse = highest_N + sums_N.log2()
            logprobs_N[here] = logits_NV.gather(1, targets_N[here, None])[:, 0] - lse
            entropies_N[here] = lse - torch.linalg.vecdot(weights_NV, logits_NV) / sums_N
        logprobs_N, entropies_N = logprobs_N.mul_(LN_2), entropies_N.mul_(LN_2)
        ctx.save_for_backward(hidden_NE, weight_VE, targets_N, lse_N)
        ctx.head, ctx.temperature, ctx.dtype = head, temperature, dtype
        ctx.mark_non_differentiable(entropies_N)
        return logprobs_N, entropies_N

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        hidden_NE, weight_VE, targets_N, lse_N = ctx.saved_tensors
        wanted_hidden, wanted_weight = ctx.needs_input_grad[:2]
        grad_hidden_NE = torch.empty_like(hidden_NE) if wanted_hidden else None
        grad_weight_VE = torch.zeros_like(weight_VE, dtype=torch.float32) if wanted_weight else None
        weight = weight_VE.to(ctx.dtype)
        for here in _chunks(targets_N):
            hidden = hidden_NE[here].to(ctx.dtype)
            logits_NV = _logits(hidden, weight, ctx.head, ctx.temperature)
            slope = 1.0 if ctx.head.cap is None else 1 - (logits_NV * (LN_2 * ctx.temperature / ctx.head.cap)).square()
            grad_N = gradients[0][here].float() * (ctx.head.scale / ctx.temperature)
            grad_NV = logits_NV.sub_(lse_N[here, None]).exp2_().mul_(-grad_N[:, None])
            grad_NV.scatter_add_(1, targets_N[here, None], grad_N[:, None])
            grad_NV = (grad_NV if ctx.head.cap is None else grad_NV.mul_(slope)).to(ctx.dtype)
            if grad_hidden_NE is not None:
                grad_hidden_NE[here] = matmul(grad_NV, weight.T).to(hidden_NE.dtype)
            if grad_weight_VE is not None:
                grad_weight_VE += matmul_over_rows(grad_NV, hidden)
        return (
            grad_hidden_NE,
            None if grad_weight_VE is None else grad_weight_VE.to(weight_VE.dtype),
            None,
            None,
            None,
            None,
        )


def _logits(hidden_NE: Tensor, weight_VE: Tensor, head: LmHead, temperature: float) -> Tensor:
    """Computes fp32 logits divided by the temperature, to the base 2: on CPU exp2 takes a quarter
    of exp's time.
    """
    logits_NV = matmul(hidden_NE, weight_VE).float()
    if head.cap is not None:
        return torch.tanh(logits_NV * (head.scale / head.cap)) * (head.cap / (temperature * LN_2))
    return logits_NV.mul_(head.scale / (temperature * LN_2))


def _chunks(targets_N: Tensor) -> list[slice]:
    size = TOKENS_AT_ONCE.get(targets_N.device.type, TOKENS_AT_ONCE["cpu"])
    return [slice(start, start + size) for start in range(0, len(targets_N), size)]
