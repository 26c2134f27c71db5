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

Letters: `_B` one sequence, `_H` heads, `_N` packed tokens, `_D` width of a head, `_Q` queries and
`_K` keys of a block.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from ehrmind.engines.local.forward.matmul import matmul, matmul_over_rows
from ehrmind.engines.local.forward.packing import Packing, Pieces, ahead
from ehrmind.engines.local.forward.states import KINDS, OTHERS

NAME = "ehrmind_shared_prompts"
FULL, SLIDING = "full_attention", "sliding_attention"
NOT_KNOWN_HERE = ("softcap", "s_aux", "sinks", "position_bias")

LOG2_E = math.log2(math.e)  # packed attention uses powers of 2: on CPU exp2 takes a quarter of exp's time
SCORES_AT_ONCE = 1 << 20  # a block fits the processor's cache
SMALL_BLOCK = 256 * 256  # scores of a head
CAUSAL_BLOCK = 256  # queries; only within a block are masked scores computed in vain


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

    Memory and time grow with prompt + G × completion. Scores are fp32 for every type of values.
    """

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, packing: Packing, window: int | None, scale: float
    ) -> Tensor:
        heads, tokens, width = query.shape[1:]
        query_HND, key_HND, value_HND = (
            (query[0].float() * (scale * LOG2_E)),
            key[0].float().contiguous(),
            value[0].contiguous(),
        )
        out_HND = torch.empty(heads, tokens, width, dtype=torch.float32)
        lse_HN = torch.empty(heads, tokens, dtype=torch.float32)
        pieces = packing.pieces(window)
        if packing.own:
            own = (_own_rows(x, packing, heads) for x in (query_HND, key_HND, value_HND))
            out_MHCD, lse_MHC = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(*own, **_own_way(pieces))
            _put(out_HND, packing, out_MHCD)
            _put(lse_HN, packing, lse_MHC * LOG2_E)
        for queries, keys, mask_QK, merging in _blocks(pieces):
            for head in _heads_at_once(heads, queries, keys):
                key_KD, value_KD = (_of_heads(x, head, heads)[..., keys, :] for x in (key_HND, value_HND))
                out, lse = _attend(query_HND[head, queries], key_KD, value_KD, mask_QK)
                if merging:
                    out, lse = merged(out_HND[head, queries], lse_HN[head, queries], out, lse)
                out_HND[head, queries], lse_HN[head, queries] = out, lse
        ctx.save_for_backward(query_HND, key_HND, value_HND, out_HND, lse_HN)
        ctx.packing, ctx.pieces, ctx.scale, ctx.dtypes = packing, pieces, scale, (query.dtype, key.dtype, value.dtype)
        return out_HND.transpose(0, 1)[None].to(value.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query_HND, key_HND, value_HND, out_HND, lse_HN = ctx.saved_tensors
        packing, pieces, heads = ctx.packing, ctx.pieces, len(query_HND)
        grad_HND = gradients[0][0].transpose(0, 1).float().contiguous()
        shift_HN = torch.linalg.vecdot(grad_HND, out_HND)
        to_query, to_key, to_value = (
            torch.zeros(x.shape, dtype=torch.float32) for x in (query_HND, key_HND, value_HND)
        )
        if packing.own:
            own = (_own_rows(x, packing, heads) for x in (query_HND, key_HND, value_HND, out_HND, lse_HN / LOG2_E))
            # A repeated last token counts once
            grad_MHCD = _own_rows(grad_HND, packing, heads) * packing.valid_MC[:, None, :, None]
            parts = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
                grad_MHCD, *own, **_own_way(pieces)
            )
            for total, part, unit in zip((to_query, to_key, to_value), parts, (LOG2_E, LOG2_E, 1.0), strict=True):
                _put(total, packing, part * unit)
        for queries, keys, mask_QK, _ in _blocks(pieces):
            for head in _heads_at_once(heads, queries, keys):
                key_KD, value_KD = (_of_heads(x, head, heads)[..., keys, :] for x in (key_HND, value_HND))
                of_query = grad_HND[head, queries], lse_HN[head, queries], shift_HN[head, queries]
                parts = _attend_backward(query_HND[head, queries], key_KD, value_KD, mask_QK, *of_query)
                for total, place, part in zip((to_query, to_key, to_value), (queries, keys, keys), parts, strict=True):
                    if isinstance(head, int):
                        total[head * len(total) // heads, place] += part
                    else:
                        total[:, place] += _by_key_heads(part, len(total))
        totals = (to_query.mul_(ctx.scale), to_key.div_(LOG2_E), to_value)
        return (*(total[None].to(dtype) for total, dtype in zip(totals, ctx.dtypes, strict=True)), None, None, None)


def _heads_at_once(heads: int, queries: slice, keys: slice) -> Sequence[int | slice]:
    """Takes all heads of a small block at once, because single calls would cost most of the time.

    Large ones go one by one.
    """
    size = (queries.stop - queries.start) * (keys.stop - keys.start)
    return [slice(0, heads)] if size <= SMALL_BLOCK else range(heads)


def _of_heads(stored_HND: Tensor, head: int | slice, heads: int) -> Tensor:
    """Returns the keys or values of one query head, or of all; query heads may share a key head."""
    if isinstance(head, int):
        return stored_HND[head * len(stored_HND) // heads]
    return stored_HND if len(stored_HND) == heads else stored_HND.repeat_interleave(heads // len(stored_HND), 0)


def _by_key_heads(found_HN: Tensor, key_heads: int) -> Tensor:
    """Sums over the query heads that share a key head."""
    return found_HN if len(found_HN) == key_heads else found_HN.unflatten(0, (key_heads, -1)).sum(1)


def _attend(query_QD: Tensor, key_KD: Tensor, value_KD: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Attends to one block of keys. Returns output [.., Q, D] and log-sum-exp [.., Q], fp32, to the
    base 2.

    Queries are already scaled for the base 2.
    """
    scores_QK = _scores(query_QD, key_KD, mask)
    highest_Q1 = scores_QK.amax(-1, keepdim=True)
    weights_QK = scores_QK.sub_(highest_Q1).exp2_()
    sums_Q1 = weights_QK.sum(-1, keepdim=True)
    out_QD = matmul(weights_QK.to(value_KD.dtype), value_KD.mT).float()
    return out_QD.div_(sums_Q1), (highest_Q1 + sums_Q1.log2())[..., 0]


def _attend_backward(
    query_QD: Tensor,
    key_KD: Tensor,
    value_KD: Tensor,
    mask: Tensor | None,
    grad_QD: Tensor,
    lse_Q: Tensor,
    shift_Q: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns a block's gradients to scaled queries, keys and values.

    `lse_Q` is the log-sum-exp over all keys, `shift_Q` is grad · out.
    """
    dtype = value_KD.dtype
    weights_QK = _scores(query_QD, key_KD, mask).sub_(lse_Q[..., None]).exp2_()
    to_value = matmul_over_rows(weights_QK.to(dtype), grad_QD.to(dtype))
    slopes_QK = matmul(grad_QD, value_KD.float()).sub_(shift_Q[..., None]).mul_(weights_QK).to(dtype)
    to_query, to_key = matmul(slopes_QK, key_KD.to(dtype).mT), matmul_over_rows(slopes_QK, query_QD.to(dtype))
    return to_query.float(), to_key.float(), to_value.float()


def _scores(query_QD: Tensor, key_KD: Tensor, mask: Tensor | None) -> Tensor:
    scores_QK = matmul(query_QD, key_KD)
    if mask is not None:
        scores_QK[..., scores_QK.shape[-1] - mask.shape[-1] :] += mask
    return scores_QK


def _blocks(pieces: Pieces) -> Iterator[tuple[slice, slice, Tensor | None, bool]]:
    """Yields queries, keys, the mask of the last keys, and whether the result merges with an
    earlier one.
    """
    for piece in (*pieces.causal, *pieces.branches):
        (start, end), (first, last) = piece.queries, piece.keys
        size = CAUSAL_BLOCK if piece.causal else max(64, SCORES_AT_ONCE // (last - first))
        for begin in range(start, end, size):
            until = min(begin + size, end)
            mask = (
                ahead(until - begin)
                if piece.causal
                else None
                if piece.mask is None
                else piece.mask[begin - start : until - start]
            )
            yield slice(begin, until), slice(first, until if piece.causal else last), mask, piece.merging


def _own_rows(stored_HN: Tensor, packing: Packing, heads: int) -> Tensor:
    """Gathers every short completion's own tokens, [M, H, C] or [M, H, C, D], fp32; the last one is
    repeated beyond the end.
    """
    rows_HMC = stored_HN.float().index_select(1, packing.places_MC.flatten()).unflatten(1, packing.places_MC.shape)
    return _of_heads(rows_HMC, slice(0, heads), heads).transpose(0, 1)


def _put(total_HN: Tensor, packing: Packing, found_MHC: Tensor) -> None:
    """Writes results for the short completions' tokens to their packed places."""
    found_HN = _by_key_heads(found_MHC.transpose(0, 1).flatten(1, 2), len(total_HN))
    if len(packing.own_N) < found_HN.shape[1]:
        found_HN = found_HN.index_select(1, packing.valid_N)
    total_HN.index_copy_(1, packing.own_N, found_HN)


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
