"""Samples answers: every prompt is prefilled once for its group, rows leave as they finish.

A token is drawn by inverse CDF with the contract's uniform number (`engines/uniforms.py`), so an answer does not depend on
which other rows are in the batch beyond floating point. Log-probabilities are temperature-scaled, untruncated and fp32; top-p
and top-k only filter the draw.

Letters: `_R` rows, `_P` prompts, `_K` keys, `_V` vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from ehrmind.config import Decoding
from ehrmind.engines.local.cache import PreallocatedLayer, preallocated
from ehrmind.engines.local.masks import decoding_masks
from ehrmind.engines.uniforms import row_keys, uniforms
from ehrmind.types import Completion, InputError, Prompt, Segment

if TYPE_CHECKING:
    from ehrmind.engines.local.engine import LocalEngine

KEPT_SHARE = 0.8  # dropping rows copies the cache: finished rows are carried along until a fifth of all is finished


def sample(engine: LocalEngine, prompts: Sequence[Prompt], keys: Sequence[int], members: int, decoding: Decoding) -> list[list[Completion]]:
    """`members` completions for each prompt, in the prompts' order. Prompts of like length are decoded together."""
    longest = max((len(prompt.token_ids) for prompt in prompts), default=0)
    if longest + decoding.max_new_tokens > engine.context:
        raise InputError(
            f"A prompt of {longest} tokens and {decoding.max_new_tokens} new ones exceed the model's context of {engine.context}; "
            "lower prompts.max_tokens with prompts.too_long=leave_out, or decoding.max_new_tokens."
        )
    order = sorted(range(len(prompts)), key=lambda index: (len(prompts[index].token_ids), index))
    at_once = max(1, engine.rows // members)
    answers: list[list[Completion]] = [[] for _ in prompts]
    training = engine.network.training
    engine.network.eval()
    try:
        with torch.inference_mode():
            for start in range(0, len(order), at_once):
                chunk = order[start : start + at_once]
                rows = _decode(engine, [prompts[i] for i in chunk], row_keys([keys[i] for i in chunk], members), members, decoding)
                for place, index in enumerate(chunk):
                    answers[index] = rows[place * members : (place + 1) * members]
    finally:
        engine.network.train(training)
    return answers


def _decode(engine: LocalEngine, prompts: list[Prompt], keys_R: np.ndarray, members: int, decoding: Decoding) -> list[Completion]:
    device = engine.network.device
    ids_PK, valid_PK = _left_padded([prompt.token_ids for prompt in prompts], engine.pad_id, device)
    logits_PV, cache = _prefill(engine, ids_PK, valid_PK)
    width = ids_PK.shape[1]
    if engine.shared:
        cache = preallocated(cache, members, width + decoding.max_new_tokens)
    else:
        cache.batch_repeat_interleave(members)
    valid_RK = valid_PK.repeat_interleave(members, 0)
    positions_R = valid_RK.sum(1)
    logits_RV = logits_PV.repeat_interleave(members, 0)
    stop = torch.tensor(sorted(engine.stop_ids), device=device)
    alive = np.arange(len(keys_R))
    tokens: list[list[int]] = [[] for _ in keys_R]
    logprobs: list[list[float]] = [[] for _ in keys_R]
    stopped = np.zeros(len(keys_R), dtype=bool)
    for step in range(decoding.max_new_tokens):
        chosen_R, logprob_R = _draw(logits_RV, decoding, uniforms(keys_R[alive], step))
        for row, token, logprob in zip(alive.tolist(), chosen_R.tolist(), logprob_R.tolist(), strict=True):
            if not stopped[row]:
                tokens[row].append(token)
                logprobs[row].append(logprob)
        stopped[alive[torch.isin(chosen_R, stop).cpu().numpy()]] = True
        going = ~stopped[alive]
        if step + 1 == decoding.max_new_tokens or not going.any():
            break
        if going.mean() < KEPT_SHARE:
            keep = torch.from_numpy(np.flatnonzero(going)).to(device)
            alive = alive[going]
            chosen_R, valid_RK, positions_R = chosen_R[keep], valid_RK[keep], positions_R[keep]
            _keep_rows(cache, keep, shared=engine.shared)
        valid_RK = torch.cat([valid_RK, valid_RK.new_ones(len(alive), 1)], dim=1)
        logits_RV = _forward(engine, chosen_R[:, None], valid_RK, positions_R[:, None], cache)
        positions_R = positions_R + 1
    return [
        Completion(
            (Segment("assistant", tuple(ids), tuple(logprob)),),
            "stop" if finished else "length",
            prompts[row // members].opening + engine.decode(ids),
        )
        for row, (ids, logprob, finished) in enumerate(zip(tokens, logprobs, stopped.tolist(), strict=True))
    ]


def _prefill(engine: LocalEngine, ids_PK: Tensor, valid_PK: Tensor) -> tuple[Tensor, Any]:
    positions_PK = (valid_PK.cumsum(1) - 1).clamp(min=0)
    # Without the config the cache keeps every token of sliding-window layers: the shared path windows by mask
    cache = DynamicCache() if engine.shared else DynamicCache(config=engine.network.config)
    return _forward(engine, ids_PK, valid_PK, positions_PK, cache), cache


def _forward(engine: LocalEngine, ids_RQ: Tensor, valid_RK: Tensor, positions_RQ: Tensor, cache: Any) -> Tensor:
    """Logits [R, V] of the last position, fp32."""
    network = engine.network
    mask: Any = decoding_masks(network.config, valid_RK, ids_RQ.shape[1], network.dtype) if engine.shared else valid_RK.long()
    output = network(
        input_ids=ids_RQ, attention_mask=mask, position_ids=positions_RQ, past_key_values=cache, use_cache=True, logits_to_keep=1
    )
    return output.logits[:, -1].float()


def _draw(logits_RV: Tensor, decoding: Decoding, uniforms_R: np.ndarray) -> tuple[Tensor, Tensor]:
    """Chosen ids [R] and their log-probabilities [R]."""
    logprobs_RV = torch.log_softmax(logits_RV / (decoding.temperature or 1.0), dim=-1)
    if decoding.temperature == 0:
        chosen_R = logprobs_RV.argmax(-1)
    else:
        probabilities_RV = _filtered(logprobs_RV.exp(), decoding)
        cumulative_RV = probabilities_RV.double().cumsum(-1)
        targets_R1 = torch.from_numpy(uniforms_R).to(logits_RV.device)[:, None] * cumulative_RV[:, -1:]
        chosen_R = torch.searchsorted(cumulative_RV, targets_R1, right=True)[:, 0].clamp(max=logits_RV.shape[-1] - 1)
    return chosen_R, logprobs_RV.gather(1, chosen_R[:, None])[:, 0]


def _filtered(probabilities_RV: Tensor, decoding: Decoding) -> Tensor:
    if decoding.top_k:
        floor_R1 = probabilities_RV.topk(min(decoding.top_k, probabilities_RV.shape[-1]), dim=-1).values[:, -1:]
        probabilities_RV = probabilities_RV.where(probabilities_RV >= floor_R1, 0.0)
    if decoding.top_p < 1:
        sorted_RV, order_RV = probabilities_RV.sort(dim=-1, descending=True)
        beyond_RV = sorted_RV.cumsum(-1) - sorted_RV >= decoding.top_p * sorted_RV.sum(-1, keepdim=True)
        probabilities_RV = probabilities_RV.masked_fill(torch.zeros_like(beyond_RV).scatter(1, order_RV, beyond_RV), 0.0)
    return probabilities_RV


def _keep_rows(cache: Any, rows: Tensor, *, shared: bool) -> None:
    if not shared:
        cache.batch_select_indices(rows)
        return
    for layer in cache.layers:
        assert isinstance(layer, PreallocatedLayer)
        layer.keep(rows)


def _left_padded(sequences: Sequence[Sequence[int]], pad_id: int, device: torch.device) -> tuple[Tensor, Tensor]:
    width = max(len(sequence) for sequence in sequences)
    ids_PK = torch.full((len(sequences), width), pad_id, dtype=torch.long)
    valid_PK = torch.zeros((len(sequences), width), dtype=torch.bool)
    for row, sequence in enumerate(sequences):
        ids_PK[row, width - len(sequence) :] = torch.tensor(sequence, dtype=torch.long)
        valid_PK[row, width - len(sequence) :] = True
    return ids_PK.to(device), valid_PK.to(device)
