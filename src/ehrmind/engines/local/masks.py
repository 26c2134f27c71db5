"""Who may look at whom: attention masks for packed groups and for cached decoding.

A group is packed as one sequence `[prompt | c1 | … | cG]`; positions restart after the prompt for each completion,
and a completion sees the prompt and itself. One mask for all layers would be wrong for models with sliding-window
layers, so there is a mask per layer kind, windowed by logical position. Layer kinds that are not known here
(linear, chunked, …) take the plain path.

Letters: `_B` sequences in a batch, `_L` packed length, `_R` rows being decoded, `_K` keys.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

FULL, SLIDING = "full_attention", "sliding_attention"
PADDING = -1


def layer_kinds(config: Any) -> dict[str, int | None] | None:
    """The model's attention kinds with their windows, or None when one is not known here."""
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        return {FULL: window}
    if not set(kinds) <= {FULL, SLIDING}:
        return None
    return {kind: window if kind == SLIDING else None for kind in sorted(set(kinds))}


def packed_masks(config: Any, segments_BL: Tensor, positions_BL: Tensor, dtype: torch.dtype) -> Tensor | dict[str, Tensor]:
    """Masks [B, 1, L, L] for packed groups. `segments_BL` is 0 for the prompt, i for completion i, −1 for padding."""
    length = segments_BL.shape[1]
    causal_LL = torch.ones(length, length, dtype=torch.bool, device=segments_BL.device).tril()
    queries, keys = segments_BL[:, :, None], segments_BL[:, None, :]
    allowed_BLL = causal_LL & (keys != PADDING) & ((keys == 0) | (keys == queries))
    distances_BLL = positions_BL[:, :, None] - positions_BL[:, None, :]
    return _by_kind(config, allowed_BLL, distances_BLL, dtype)


def decoding_masks(config: Any, valid_RK: Tensor, queries: int, dtype: torch.dtype) -> Tensor | dict[str, Tensor]:
    """Masks [R, 1, queries, K] for rows padded on the left; the last `queries` keys are the queries themselves."""
    total = valid_RK.shape[1]
    keys_K = torch.arange(total, device=valid_RK.device)
    distances_QK = keys_K[total - queries :, None] - keys_K[None, :]
    allowed_RQK = (distances_QK >= 0)[None] & valid_RK[:, None, :]
    return _by_kind(config, allowed_RQK, distances_QK[None], dtype)


def _by_kind(config: Any, allowed: Tensor, distances: Tensor, dtype: torch.dtype) -> Tensor | dict[str, Tensor]:
    kinds = layer_kinds(config)
    assert kinds is not None, "a model with unknown layer kinds takes the plain path"
    masks = {kind: _finish(config, allowed if window is None else allowed & (distances < window), dtype) for kind, window in kinds.items()}
    return masks if getattr(config, "layer_types", None) is not None else masks[FULL]


def _finish(config: Any, allowed: Tensor, dtype: torch.dtype) -> Tensor:
    """Add the head dimension; a query that may see nothing (padding) sees every key, so that no softmax is empty."""
    allowed = (allowed | ~allowed.any(dim=-1, keepdim=True))[:, None]
    if config._attn_implementation == "sdpa":
        return allowed
    return torch.zeros_like(allowed, dtype=dtype).masked_fill_(~allowed, torch.finfo(dtype).min)
