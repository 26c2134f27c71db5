"""Attention that computes and stores a prompt's keys and values once for all of its answers.

It is registered with `transformers`' attention interface, so that models run unchanged. A call with
a `layout` goes through it: a `Packing` for whole sequences, a `Step` (`sampling/decoding_step.py`)
for one token. Any other call is the library's SDPA.

On CPU the packed attention is a sum over pieces, split into blocks of queries so that no large
matrix of scores is kept. Partial outputs merge by their log-sum-exp, and the backward pass computes
each block again (Dao et al., arXiv 2205.14135, section 3.1; Juravsky et al., arXiv 2402.05099). Its
matmuls are oneDNN's, which makes it faster than torch's CPU kernel. Only short completions that
attend to themselves use torch's kernel, many small squares at once. On CUDA it is FlexAttention
with a block mask.

Letters: `_B` one sequence, `_H` heads, `_J` key heads and `_G` query heads of each, `_N` packed
tokens, `_D` width of a head, `_Q` queries and `_K` keys of a block.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from ehrmind.engines.local.forward.matmul import exact_in_bf16, matmul, matmul_over_rows
from ehrmind.engines.local.forward.packing import Packing, Pieces, ahead
from ehrmind.engines.local.forward.states import KINDS, OTHERS

NAME = "ehrmind_shared_prompts"
FULL, SLIDING = "full_attention", "sliding_attention"
NOT_KNOWN_HERE = ("softcap", "s_aux", "sinks", "position_bias")

LOG2_E = math.log2(math.e)  # packed attention uses powers of 2: on CPU exp2 takes a quarter of exp's time
SCORES_AT_ONCE = 1 << 19  # of a key head; a block fits the processor's cache
SMALL_BLOCK = 256 * 256  # scores of a key head
CAUSAL_BLOCK = 128  # queries; only within a block are masked scores computed in vain


class Layout(Protocol):
    """Says which tokens see which; `attend` returns [batch, tokens, heads, width]."""

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, window: int | None, scale: float
    ) -> Tensor: ...


def windows(config: Any) -> list[int | None] | None:
    """Returns every layer's sliding window; None if a layer is of an unknown kind (chunked, …).

    Layers without attention have None in the list.
    """
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        return [window] * getattr(config, "num_hidden_layers", 0)
    if not set(kinds) <= {FULL, SLIDING, *KINDS, *OTHERS}:
        return None
    return [window if kind == SLIDING else None for kind in kinds]


def shared_prompt_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    layout: Any = None,
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    """Computes attention; `transformers` calls it in every attention layer."""
    if layout is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    if strange := [name for name in NOT_KNOWN_HERE if options.get(name) is not None] + ["dropout"] * bool(
        options.get("dropout")
    ):
        raise ValueError(f"prompts cannot be shared in a model whose attention has {', '.join(strange)}")
    of_layers = windows(module.config)
    assert of_layers is not None
    scale = options.get("scaling") or query.shape[-1] ** -0.5
    run = layout if not isinstance(layout, Packing) else _Whole(layout)
    with torch.autocast(query.device.type, enabled=False):
        return run.attend(module.layer_idx, query, key, value, of_layers[module.layer_idx], scale), None


AttentionInterface.register(NAME, shared_prompt_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)


class _Whole:
    """Attention over a whole packing."""

    def __init__(self, packing: Packing) -> None:
        self.packing = packing

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, window: int | None, scale: float) -> Tensor:
        if query.device.type == "cuda":
            return compiled_flex()(
                query.to(value.dtype), key.to(value.dtype), value, block_mask(self.packing, window), scale
            )
        out: Tensor = SharedPrompt.apply(query, key, value, self.packing, window, scale)
        return out


class SharedPrompt(torch.autograd.Function):
    """Attends with [1, H, N, D] queries; keys and values may have fewer heads. Returns [1, N, H,
    D].

    Memory and time grow with prompt + G × completion. Scores are fp32 for every type of values. The
    query heads that share a key head are rows of one product.
    """

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, packing: Packing, window: int | None, scale: float
    ) -> Tensor:
        key_JND, value_JND = key[0].float().contiguous(), value[0].contiguous()
        query_JNGD = _by_token(query[0].transpose(0, 1), len(key_JND)).float() * (scale * LOG2_E)
        out_JNGD = torch.empty_like(query_JNGD)
        lse_JNG = query_JNGD.new_empty(query_JNGD.shape[:3])
        pieces = packing.pieces(window)
        if packing.own:
            own = [_own_rows(x, packing, query_JNGD.shape[2]) for x in (query_JNGD, key_JND, value_JND)]
            out_MHCD, lse_MHC = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(*own, **_own_way(pieces))
            _put(out_JNGD, packing, out_MHCD)
            _put(lse_JNG, packing, lse_MHC * LOG2_E)
        for head, queries, keys, mask_QK, merging in _blocks(pieces, query_JNGD):
            of_queries = (head, queries)
            out, lse = _attend(query_JNGD[of_queries], key_JND[head, keys], value_JND[head, keys], mask_QK)
            if merging:
                out, lse = merged(out_JNGD[of_queries], lse_JNG[of_queries], out, lse)
            out_JNGD[of_queries], lse_JNG[of_queries] = out, lse
        ctx.save_for_backward(query_JNGD, key_JND, value_JND, out_JNGD, lse_JNG)
        ctx.packing, ctx.pieces, ctx.scale, ctx.dtypes = packing, pieces, scale, (query.dtype, key.dtype, value.dtype)
        return out_JNGD.to(value.dtype).transpose(0, 1).flatten(1, 2)[None]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query_JNGD, key_JND, value_JND, out_JNGD, lse_JNG = ctx.saved_tensors
        packing, pieces, dtype = ctx.packing, ctx.pieces, value_JND.dtype
        grad_JNGD = _by_token(gradients[0][0], len(key_JND)).float()
        shift_JNG = torch.linalg.vecdot(grad_JNGD, out_JNGD)
        to_query, to_key, to_value = (
            torch.zeros(x.shape, dtype=torch.float32) for x in (query_JNGD, key_JND, value_JND)
        )
        if packing.own:
            kept = (query_JNGD, key_JND, value_JND, out_JNGD, (lse_JNG / LOG2_E)[..., None])
            *own, lse_MHC1 = (_own_rows(x, packing, query_JNGD.shape[2]) for x in kept)
            # A repeated last token counts once
            grad_MHCD = _own_rows(grad_JNGD, packing, query_JNGD.shape[2]) * packing.valid_MC[:, None, :, None]
            parts = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
                grad_MHCD, *own, lse_MHC1[..., 0], **_own_way(pieces)
            )
            for total, part, unit in zip((to_query, to_key, to_value), parts, (LOG2_E, LOG2_E, 1.0), strict=True):
                _put(total, packing, part * unit)
        narrow = query_JNGD.to(dtype), key_JND.to(dtype), grad_JNGD.to(dtype)  # once, and not for every block
        value_JND = value_JND.float()
        for head, queries, keys, mask_QK, _ in _blocks(pieces, query_JNGD):
            weights_QGK = _scores(query_JNGD[head, queries], key_JND[head, keys], mask_QK)
            weights_QGK.sub_(lse_JNG[head, queries, :, None]).exp2_()
            with exact_in_bf16(dtype):  # gradient and values are bf16 numbers
                slopes_QGK = _by_rows(grad_JNGD[head, queries], value_JND[head, keys])
            slopes_QGK = slopes_QGK.sub_(shift_JNG[head, queries, :, None]).mul_(weights_QGK).to(dtype)
            query, key, grad = narrow[0][head, queries], narrow[1][head, keys], narrow[2][head, queries]
            to_value[head, keys] += _over_rows(weights_QGK.to(dtype), grad)
            to_query[head, queries] += _by_rows(slopes_QGK, key.mT)
            to_key[head, keys] += _over_rows(slopes_QGK, query)
        to_query_NHD = to_query.mul_(ctx.scale).transpose(0, 1).flatten(1, 2)
        totals = (to_query_NHD.transpose(0, 1), to_key.div_(LOG2_E), to_value)
        return (*(total[None].to(dtype) for total, dtype in zip(totals, ctx.dtypes, strict=True)), None, None, None)


def _by_token(found_NHD: Tensor, key_heads: int) -> Tensor:
    """Arranges heads so that a token's query heads with a common key head are neighbours."""
    return found_NHD.unflatten(1, (key_heads, -1)).transpose(0, 1).contiguous()


def _by_rows(left_QGD: Tensor, right_KD: Tensor) -> Tensor:
    """Computes left · rightᵀ [.., Q, G, K]."""
    return matmul(left_QGD.flatten(-3, -2), right_KD).unflatten(-2, left_QGD.shape[-3:-1])


def _over_rows(left_QGK: Tensor, right_QGD: Tensor) -> Tensor:
    """Computes leftᵀ · right [.., K, D], summed over queries and the heads that share a key
    head.
    """
    return matmul_over_rows(left_QGK.flatten(-3, -2), right_QGD.flatten(-3, -2))


def _attend(query_QGD: Tensor, key_KD: Tensor, value_KD: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Attends to one block of keys. Returns output [.., Q, G, D] and log-sum-exp [.., Q, G], fp32,
    to the base 2.

    Queries are already scaled for the base 2.
    """
    scores_QGK = _scores(query_QGD, key_KD, mask)
    highest_QG1 = scores_QGK.amax(-1, keepdim=True)
    weights_QGK = scores_QGK.sub_(highest_QG1).exp2_()
    sums_QG1 = weights_QGK.sum(-1, keepdim=True)
    out_QGD = _by_rows(weights_QGK.to(value_KD.dtype), value_KD.mT).float()
    return out_QGD.div_(sums_QG1), (highest_QG1 + sums_QG1.log2())[..., 0]


def _scores(query_QGD: Tensor, key_KD: Tensor, mask_QK: Tensor | None) -> Tensor:
    scores_QGK = _by_rows(query_QGD, key_KD)
    if mask_QK is not None:
        scores_QGK[..., scores_QGK.shape[-1] - mask_QK.shape[-1] :] += mask_QK[:, None]
    return scores_QGK


def _blocks(pieces: Pieces, query_JNGD: Tensor) -> Iterator[tuple[int | slice, slice, slice, Tensor | None, bool]]:
    """Yields key heads, queries, keys, the mask of the last keys, and whether the result merges
    with an earlier one.

    All heads of a small block are computed at once, because single calls would cost most of the
    time. Large ones go one by one.
    """
    heads, _, share, _ = query_JNGD.shape
    for piece in (*pieces.causal, *pieces.branches):
        (start, end), (first, last) = piece.queries, piece.keys
        size = CAUSAL_BLOCK if piece.causal else max(64, SCORES_AT_ONCE // ((last - first) * share))
        for begin in range(start, end, size):
            until = min(begin + size, end)
            mask = (
                ahead(until - begin)
                if piece.causal
                else None
                if piece.mask is None
                else piece.mask[begin - start : until - start]
            )
            keys = slice(first, until if piece.causal else last)
            together = (until - begin) * share * (keys.stop - first) <= SMALL_BLOCK
            for head in [slice(0, heads)] if together else range(heads):
                yield head, slice(begin, until), keys, mask, piece.merging


def _own_rows(stored_JND: Tensor, packing: Packing, share: int) -> Tensor:
    """Gathers every short completion's own tokens, [M, H, C, D] fp32; the last one is repeated
    beyond the end.

    Queries are stored as [J, N, G, D]. A key is repeated for its `share` query heads.
    """
    rows = stored_JND.float().index_select(1, packing.places_MC.flatten()).unflatten(1, packing.places_MC.shape)
    rows_JMCGD = rows if rows.ndim == 5 else rows[:, :, :, None].expand(-1, -1, -1, share, -1)
    return rows_JMCGD.permute(1, 0, 3, 2, 4).flatten(1, 2)


def _put(total_JN: Tensor, packing: Packing, found_MHC: Tensor) -> None:
    """Writes results for the short completions' tokens to their packed places.

    Those for keys are summed over the query heads that share a key head.
    """
    found_JMCG = found_MHC.unflatten(1, (len(total_JN), -1)).transpose(0, 1).transpose(2, 3)
    found_JNG = found_JMCG.flatten(1, 2)
    if found_JNG.ndim > total_JN.ndim:
        found_JNG = found_JNG.sum(2)
    if len(packing.own_N) < found_JNG.shape[1]:
        found_JNG = found_JNG.index_select(1, packing.valid_N)
    total_JN.index_copy_(1, packing.own_N, found_JNG)


def _own_way(pieces: Pieces) -> dict[str, Any]:
    """Returns the arguments of torch's kernel for a completion's own tokens; its scores come to the
    base 2.
    """
    return {"dropout_p": 0.0, "is_causal": pieces.own_mask is None, "attn_mask": pieces.own_mask, "scale": 1 / LOG2_E}


def merged(out: Tensor, lse: Tensor, other: Tensor, other_lse: Tensor) -> tuple[Tensor, Tensor]:
    """Merges the attention to two sets of keys."""
    both = torch.logaddexp2(lse, other_lse)
    return torch.lerp(out, other, torch.exp2(other_lse - both)[..., None]), both


def block_mask(packing: Packing, window: int | None) -> Any:
    """Builds FlexAttention's mask: same group, prompt or own completion, not ahead, within the
    window.
    """
    from torch.nn.attention.flex_attention import create_block_mask

    if window in packing.block_masks:
        return packing.block_masks[window]
    groups_BN, segments_BN = packing.segments()
    groups_N, segments_N, positions_N = groups_BN[0], segments_BN[0], packing.positions_BN[0]

    def seen(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        # No in-place operation: this function is compiled point by point
        allowed = (
            (groups_N[query] == groups_N[key])
            & (key <= query)
            & ((segments_N[key] == 0) | (segments_N[key] == segments_N[query]))
        )
        return allowed if window is None else allowed & (positions_N[query] - positions_N[key] < window)

    tokens = packing.ids_BN.shape[1]
    packing.block_masks[window] = create_block_mask(seen, None, None, tokens, tokens, device=packing.ids_BN.device)
    return packing.block_masks[window]


def flex(query: Tensor, key: Tensor, value: Tensor, mask: Any, scale: float) -> Tensor:
    """Computes attention [1, N, H, D] with FlexAttention."""
    from torch.nn.attention.flex_attention import flex_attention

    out = flex_attention(query, key, value, block_mask=mask, scale=scale, enable_gqa=query.shape[1] != key.shape[1])
    assert isinstance(out, Tensor)
    return out.transpose(1, 2)


@cache
def compiled_flex() -> Any:
    return torch.compile(flex, dynamic=True)
