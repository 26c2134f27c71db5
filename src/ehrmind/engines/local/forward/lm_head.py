"""The LM head: hidden states to log-probabilities of given tokens, in chunks.

Tensors of tokens × vocabulary hold a chunk, or `KEPT` bytes for the backward pass.

Letters: `_N` tokens, `_E` hidden width, `_V` vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ehrmind.engines.local.forward.matmul import Linear

TOKENS_AT_ONCE = {"cpu": 512, "cuda": 2048}  # with fewer, a GPU spends its time on adding up gradients
CACHED = 1 << 23  # logits at once on CPU: as many fit the processor's cache
KEPT = {"cpu": 1 << 28}  # bytes of slopes that are kept for the backward pass
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
    """Computes the gradient by the hidden states together with the log-probabilities.

    A token's gradient by its logits is a factor g times the slopes, one-hot − p. The loss gives g
    later, but the slopes are known at once. So slopes · weight is scaled by g in the backward pass.
    The weight's gradient is slopesᵀ · (g · hidden). Slopes are kept for it within `KEPT` bytes;
    those of further tokens are computed again.
    """

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
        wanted_hidden, wanted_weight = ctx.needs_input_grad[:2]
        count, device = len(targets_N), hidden_NE.device
        logprobs_N, entropies_N = (torch.empty(count, device=device) for _ in range(2))
        weight = weight_VE.to(dtype)
        chunks = _Chunks(weight, targets_N, head, temperature)
        kept_NV = weight.new_empty(chunks.kept if wanted_weight else 0, len(weight))
        found_NE = weight.new_empty(count if wanted_hidden else 0, weight.shape[1])
        for here in chunks:
            logprobs_N[here], entropies_N[here] = chunks.logprobs(hidden_NE[here].to(dtype), here)
            if wanted_hidden or here.start < len(kept_NV):
                slopes_NV = chunks.slopes(here, kept_NV[here])
                if wanted_hidden:
                    torch.mm(slopes_NV, weight, out=found_NE[here])
        ctx.save_for_backward(hidden_NE, weight_VE, targets_N, kept_NV, found_NE)
        ctx.head, ctx.temperature, ctx.dtype = head, temperature, dtype
        ctx.mark_non_differentiable(entropies_N)
        return logprobs_N.mul_(LN_2), entropies_N.mul_(LN_2)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        hidden_NE, weight_VE, targets_N, kept_NV, found_NE = ctx.saved_tensors
        wanted_hidden, wanted_weight = ctx.needs_input_grad[:2]
        factors_N1 = (gradients[0].float() * (ctx.head.scale / ctx.temperature))[:, None]
        grad_hidden_NE = (found_NE.float() * factors_N1).to(hidden_NE.dtype) if wanted_hidden else None
        if not wanted_weight:
            return grad_hidden_NE, None, None, None, None, None
        scaled_NE = (hidden_NE.float() * factors_N1).to(ctx.dtype)
        grad_weight_VE = torch.mm(kept_NV.T, scaled_NE[: len(kept_NV)]).float()
        if len(kept_NV) < len(targets_N):
            chunks = _Chunks(weight_VE.to(ctx.dtype), targets_N, ctx.head, ctx.temperature)
            for here in chunks:
                if here.start >= len(kept_NV):
                    chunks.logprobs(hidden_NE[here].to(ctx.dtype), here)
                    grad_weight_VE += torch.mm(chunks.slopes(here, kept_NV[:0]).T, scaled_NE[here])
        return grad_hidden_NE, grad_weight_VE.to(weight_VE.dtype), None, None, None, None


class _Chunks:
    """Computes the logits of some tokens at a time, in buffers that are used again for every chunk.

    `kept` is the number of tokens, in whole chunks, whose slopes fit into `KEPT` bytes.
    """

    def __init__(self, weight_VE: Tensor, targets_N: Tensor, head: LmHead, temperature: float) -> None:
        self.weight_VE, self.targets_N, self.head, self.temperature = weight_VE, targets_N, head, temperature
        device, vocabulary = weight_VE.device.type, len(weight_VE)
        most = TOKENS_AT_ONCE.get(device, TOKENS_AT_ONCE["cpu"])
        self.size = most if device == "cuda" else min(most, max(64, CACHED // vocabulary // 32 * 32))
        fitting = KEPT.get(device, 0) // (vocabulary * weight_VE.itemsize)
        self.kept = len(targets_N) if fitting >= len(targets_N) else fitting // self.size * self.size
        rows = min(self.size, len(targets_N))
        self.logits_NV = weight_VE.new_empty(rows, vocabulary)
        self.scores_NV, self.weights_NV = (weight_VE.new_empty(rows, vocabulary, dtype=torch.float32) for _ in "12")
        self.sums_N1 = self.bends_NV = weight_VE

    def __iter__(self) -> Iterator[slice]:
        for start in range(0, len(self.targets_N), self.size):
            yield slice(start, min(start + self.size, len(self.targets_N)))

    def logprobs(self, hidden_NE: Tensor, here: slice) -> tuple[Tensor, Tensor]:
        """Returns a chunk's log-probabilities and entropies to the base 2: on CPU exp2 takes a
        quarter of exp's time.
        """
        rows, cap = len(hidden_NE), self.head.cap
        scores_NV, weights_NV = self.scores_NV[:rows], self.weights_NV[:rows]
        scores_NV.copy_(torch.mm(hidden_NE, self.weight_VE.T, out=self.logits_NV[:rows]))
        if cap is None:
            scores_NV.mul_(self.head.scale / (self.temperature * LN_2))
        else:
            bent_NV = scores_NV.mul_(self.head.scale / cap).tanh_()
            self.bends_NV = 1 - bent_NV.square()
            scores_NV.mul_(cap / (self.temperature * LN_2))
        highest_N1 = scores_NV.amax(-1, keepdim=True)
        torch.sub(scores_NV, highest_N1, out=weights_NV).exp2_()
        self.sums_N1 = weights_NV.sum(-1, keepdim=True)
        lse_N1 = highest_N1 + self.sums_N1.log2()
        logprobs_N1 = scores_NV.gather(1, self.targets_N[here, None]) - lse_N1
        entropies_N1 = lse_N1 - scores_NV.mul_(weights_NV).sum(-1, keepdim=True) / self.sums_N1
        return logprobs_N1[:, 0], entropies_N1[:, 0]

    def slopes(self, here: slice, out_NV: Tensor) -> Tensor:
        """Returns one-hot − p of the chunk computed last, into `out_NV` if that has its size."""
        slopes_NV = self.weights_NV[: here.stop - here.start].div_(self.sums_N1).neg_()
        slopes_NV.scatter_add_(1, self.targets_N[here, None], torch.ones_like(self.sums_N1))
        if self.head.cap is not None:
            slopes_NV.mul_(self.bends_NV)
        return (out_NV if len(out_NV) == len(slopes_NV) else self.logits_NV[: len(slopes_NV)]).copy_(slopes_NV)
