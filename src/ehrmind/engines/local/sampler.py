"""Samples answers: every prompt is prefilled once for its group, rows leave as they finish and waiting prompts take their place.

A token is drawn by inverse CDF with the contract's uniform number (`engines/uniforms.py`), so an answer does not depend on
which other rows are in the batch beyond floating point. Log-probabilities are temperature-scaled, untruncated and fp32; top-p
and top-k only filter the draw.

Letters: `_R` rows, `_P` prompts, `_K` keys, `_V` vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache

from ehrmind.config import Decoding
from ehrmind.engines.local.decoding import Slots
from ehrmind.engines.local.fsdp import whole
from ehrmind.engines.local.products import packed_weights
from ehrmind.engines.local.sharding import heard_completions, in_shards, told_completions
from ehrmind.engines.uniforms import row_keys, uniforms
from ehrmind.types import Completion, InputError, Prompt, Segment

if TYPE_CHECKING:
    from ehrmind.engines.local.engine import LocalEngine

LN_2 = math.log(2)
BLOCK = 64  # of the vocabulary, for the inverse CDF: first the block is found, then the token in it


class _Answers:
    """What has been written so far, by answer; answers of a prompt stand side by side."""

    def __init__(
        self, keys: np.ndarray, decoding: Decoding, stop_ids: frozenset[int], said_end: Callable[[Sequence[int]], bool]
    ) -> None:
        self.keys, self.decoding, self.stop_ids, self.said_end = keys, decoding, stop_ids, said_end
        self.tokens: list[list[int]] = [[] for _ in keys]
        self.logprobs: list[list[float]] = [[] for _ in keys]
        self.stopped = np.zeros(len(keys), dtype=bool)

    def draw(self, answers_R: np.ndarray, logits_RV: Tensor) -> tuple[Tensor, np.ndarray]:
        """Write the next token of each answer. (tokens [R], which of them are finished now [R])"""
        positions_R = np.array([len(self.tokens[answer]) for answer in answers_R.tolist()], dtype=np.uint64)
        chosen_R, logprob_R = draw(logits_RV, self.decoding, uniforms(self.keys[answers_R], positions_R))
        finished_R = np.zeros(len(answers_R), dtype=bool)
        for row, (answer, token, logprob) in enumerate(zip(answers_R.tolist(), chosen_R.tolist(), logprob_R.tolist(), strict=True)):
            self.tokens[answer].append(token)
            self.logprobs[answer].append(logprob)
            self.stopped[answer] = token in self.stop_ids or self.said_end(self.tokens[answer])
            finished_R[row] = self.stopped[answer] or len(self.tokens[answer]) == self.decoding.max_new_tokens
        return chosen_R, finished_R


def sample(engine: LocalEngine, prompts: Sequence[Prompt], keys: Sequence[int], members: int, decoding: Decoding) -> list[list[Completion]]:
    """`members` completions for each prompt, in the prompts' order. Prompts of like length are decoded together."""
    longest = max((len(prompt.token_ids) for prompt in prompts), default=0)
    if longest + decoding.max_new_tokens > engine.context:
        raise InputError(
            f"A prompt of {longest} tokens and {decoding.max_new_tokens} new ones exceed the model's context of {engine.context}; "
            "lower prompts.max_tokens with prompts.too_long=leave_out, or decoding.max_new_tokens."
        )
    if not prompts:
        return []

    def of_shard(items: list[int]) -> list[list[Completion]]:
        return _sample_shard(engine, [prompts[item] for item in items], [keys[item] for item in items], members, decoding)

    training = engine.network.training
    engine.network.eval()
    try:
        with whole(engine.network), torch.inference_mode(), engine.autocast(), packed_weights(engine.network):
            lengths = [len(prompt.token_ids) for prompt in prompts]
            return in_shards(lengths, engine.shards, of_shard, told_completions, heard_completions)
    finally:
        engine.network.train(training)


def _sample_shard(
    engine: LocalEngine, prompts: Sequence[Prompt], keys: Sequence[int], members: int, decoding: Decoding
) -> list[list[Completion]]:
    answers = _Answers(row_keys(list(keys), members), decoding, engine.stop_ids, engine.chat.said_end)
    order = sorted(range(len(prompts)), key=lambda index: (-len(prompts[index].token_ids), index))
    (_decode if engine.shared else _decode_plainly)(engine, [prompts[index].token_ids for index in order], order, answers, members)
    return [
        [_completion(engine, prompt, answers, place * members + member) for member in range(members)]
        for place, prompt in enumerate(prompts)
    ]


def _decode(engine: LocalEngine, prompts: list[Sequence[int]], order: list[int], answers: _Answers, members: int) -> None:
    """Continuous batching: `prompts`, longest first, are the answers' prompts in `order`."""
    new = answers.decoding.max_new_tokens
    count = max(1, min(engine.rows // members, engine.tokens // (len(prompts[0]) + members * new), len(prompts)))
    slots = Slots(engine.network, count, members, longest=len(prompts[0]))
    rows_R = np.zeros(0, dtype=np.int64)  # the answer that each row writes
    tokens_R = torch.zeros(0, dtype=torch.long, device=slots.device)
    waiting = 0
    while waiting < len(prompts) or len(rows_R):
        if slots.free and waiting < len(prompts):
            admitted = range(waiting, min(waiting + slots.free, len(prompts)))
            waiting = admitted.stop
            logits_RV = slots.admit([prompts[place] for place in admitted]).repeat_interleave(members, 0)
            new_R = np.concatenate([order[place] * members + np.arange(members) for place in admitted])
            chosen_R, finished_R = answers.draw(new_R, logits_RV)
            rows_R, tokens_R = np.concatenate([rows_R, new_R]), torch.cat([tokens_R, chosen_R])
            finished_R = np.concatenate([np.zeros(len(rows_R) - len(new_R), dtype=bool), finished_R])
        else:
            tokens_R, finished_R = answers.draw(rows_R, slots.step(tokens_R))
        if finished_R.any():
            stay_R = slots.drop(finished_R)
            rows_R, tokens_R = rows_R[stay_R], tokens_R[torch.from_numpy(stay_R).to(slots.device)]


def _decode_plainly(engine: LocalEngine, prompts: list[Sequence[int]], order: list[int], answers: _Answers, members: int) -> None:
    """For models in which prompts cannot be shared: their own cache, a row an answer, a batch to its end."""
    at_once = max(1, engine.rows // members)
    for start in range(0, len(prompts), at_once):
        chunk = prompts[start : start + at_once]
        ids_PK, valid_PK = _left_padded(chunk, engine.pad_id, engine.network.device)
        cache = DynamicCache(config=engine.network.config)
        positions_PK = (valid_PK.cumsum(1) - 1).clamp(min=0)
        logits_RV = _next_logits(engine, ids_PK, valid_PK, positions_PK, cache).repeat_interleave(members, 0)
        cache.batch_repeat_interleave(members)
        valid_RK = valid_PK.repeat_interleave(members, 0)
        rows_R = np.concatenate([index * members + np.arange(members) for index in order[start : start + at_once]])
        positions_R = valid_RK.sum(1)
        while True:
            tokens_R, finished_R = answers.draw(rows_R, logits_RV)
            if finished_R.all():
                break
            if finished_R.any():
                keep = torch.from_numpy(np.flatnonzero(~finished_R)).to(ids_PK.device)
                rows_R = rows_R[~finished_R]
                tokens_R, valid_RK, positions_R = tokens_R[keep], valid_RK[keep], positions_R[keep]
                cache.batch_select_indices(keep)
            valid_RK = torch.cat([valid_RK, valid_RK.new_ones(len(rows_R), 1)], dim=1)
            logits_RV = _next_logits(engine, tokens_R[:, None], valid_RK, positions_R[:, None], cache)
            positions_R = positions_R + 1


def _next_logits(engine: LocalEngine, ids_RQ: Tensor, valid_RK: Tensor, positions_RQ: Tensor, cache: Any) -> Tensor:
    output = engine.network(
        input_ids=ids_RQ, attention_mask=valid_RK.long(), position_ids=positions_RQ, past_key_values=cache, use_cache=True, logits_to_keep=1
    )
    logits: Tensor = output.logits[:, -1]
    return logits


def draw(logits_RV: Tensor, decoding: Decoding, uniforms_R: np.ndarray) -> tuple[Tensor, Tensor]:
    """Chosen ids [R] and their log-probabilities [R]."""
    logits_RV = logits_RV.float() / ((decoding.temperature or 1.0) * LN_2)  # to the base 2
    highest_R1 = logits_RV.amax(-1, keepdim=True)
    weights_RV = torch.exp2(logits_RV - highest_R1)
    if decoding.temperature == 0:
        chosen_R1 = logits_RV.argmax(-1, keepdim=True)
    else:
        chosen_R1 = _inverse_cdf(_filtered(weights_RV, decoding), torch.from_numpy(uniforms_R).to(logits_RV.device))
    logprobs_R1 = logits_RV.gather(1, chosen_R1) - highest_R1 - weights_RV.sum(-1, keepdim=True).log2()
    return chosen_R1[:, 0], logprobs_R1[:, 0] * LN_2


def _inverse_cdf(weights_RV: Tensor, uniforms_R: Tensor) -> Tensor:
    """[R, 1]: the first token whose cumulative weight exceeds the uniform share of the whole; never one of weight 0."""
    blocks_RBK = pad(weights_RV, (0, -weights_RV.shape[1] % BLOCK)).view(len(weights_RV), -1, BLOCK)
    sums_RB = blocks_RBK.sum(-1, dtype=torch.float64)
    ends_RB = sums_RB.cumsum(-1)
    targets_R1 = (uniforms_R * ends_RB[:, -1])[:, None]
    block_R1 = _first_beyond(ends_RB, sums_RB, targets_R1)
    within_RK = blocks_RBK.gather(1, block_R1[..., None].expand(-1, -1, BLOCK))[:, 0].double()
    before_R1 = (ends_RB - sums_RB).gather(1, block_R1)
    return block_R1 * BLOCK + _first_beyond(within_RK.cumsum(-1), within_RK, targets_R1 - before_R1)


def _first_beyond(ends: Tensor, weights: Tensor, targets: Tensor) -> Tensor:
    """Rounding may put the target beyond the last end: then it is the last that has weight."""
    last = weights.shape[-1] - 1 - (weights.flip(-1) > 0).int().argmax(-1, keepdim=True)
    return torch.minimum(torch.searchsorted(ends, targets, right=True), last)


def _filtered(weights_RV: Tensor, decoding: Decoding) -> Tensor:
    if decoding.top_k:
        floor_R1 = weights_RV.topk(min(decoding.top_k, weights_RV.shape[-1]), dim=-1).values[:, -1:]
        weights_RV = weights_RV.where(weights_RV >= floor_R1, 0.0)
    if decoding.top_p < 1:
        sorted_RV, order_RV = weights_RV.sort(dim=-1, descending=True)
        beyond_RV = sorted_RV.cumsum(-1) - sorted_RV >= decoding.top_p * sorted_RV.sum(-1, keepdim=True)
        weights_RV = weights_RV.masked_fill(torch.zeros_like(beyond_RV).scatter(1, order_RV, beyond_RV), 0.0)
    return weights_RV


def _completion(engine: LocalEngine, prompt: Prompt, answers: _Answers, answer: int) -> Completion:
    ids = tuple(answers.tokens[answer])
    segment = Segment("assistant", ids, tuple(answers.logprobs[answer]))
    return Completion((segment,), "stop" if answers.stopped[answer] else "length", prompt.opening + engine.decode(ids))


def _left_padded(sequences: Sequence[Sequence[int]], pad_id: int, device: torch.device) -> tuple[Tensor, Tensor]:
    width = max(len(sequence) for sequence in sequences)
    ids_PK = torch.full((len(sequences), width), pad_id, dtype=torch.long)
    valid_PK = torch.zeros((len(sequences), width), dtype=torch.bool)
    for row, sequence in enumerate(sequences):
        ids_PK[row, width - len(sequence) :] = torch.tensor(sequence, dtype=torch.long)
        valid_PK[row, width - len(sequence) :] = True
    return ids_PK.to(device), valid_PK.to(device)
