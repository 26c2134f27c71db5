"""Samples answers: every prompt is prefilled once for its group, rows leave as they finish and waiting prompts take their place.

A token is drawn by inverse CDF with the contract's uniform number (`engines/uniforms.py`), so an answer does not depend on
which other rows are in the batch beyond floating point. Log-probabilities are temperature-scaled, untruncated and fp32; top-p
and top-k only filter the draw.

Letters: `_R` rows, `_P` prompts, `_K` keys, `_V` vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from ehrmind.config import Decoding
from ehrmind.engines.local.decoding import Slots
from ehrmind.engines.local.fsdp import whole
from ehrmind.engines.local.products import packed_weights
from ehrmind.engines.local.ropes import side, switch_of
from ehrmind.engines.local.rows import Written, batches, rows_of
from ehrmind.engines.local.sharding import heard_completions, in_shards, told_completions
from ehrmind.engines.uniforms import row_keys, uniforms
from ehrmind.types import Completion, InputError, Prompt, Segment

if TYPE_CHECKING:
    from ehrmind.engines.local.engine import LocalEngine

LN_2 = math.log(2)
PLAIN = -1  # no side of the rotary factors
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
        for row, (answer, token, logprob) in enumerate(
            zip(answers_R.tolist(), chosen_R.tolist(), logprob_R.tolist(), strict=True)
        ):
            self.tokens[answer].append(token)
            self.logprobs[answer].append(logprob)
            self.stopped[answer] = token in self.stop_ids or self.said_end(self.tokens[answer])
            finished_R[row] = self.stopped[answer] or len(self.tokens[answer]) == self.decoding.max_new_tokens
        return chosen_R, finished_R


def sample(
    engine: LocalEngine, prompts: Sequence[Prompt], keys: Sequence[int], members: int, decoding: Decoding
) -> list[list[Completion]]:
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
        return _sample_shard(
            engine, [prompts[item] for item in items], [keys[item] for item in items], members, decoding
        )

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
    for shared, places in _parts(engine, [len(prompts[index].token_ids) for index in order], decoding.max_new_tokens):
        part = [order[place] for place in places]
        (_decode if shared else _decode_plainly)(
            engine, [prompts[index].token_ids for index in part], part, answers, members
        )
    return [
        [_completion(engine, prompt, answers, place * members + member) for member in range(members)]
        for place, prompt in enumerate(prompts)
    ]


def _parts(engine: LocalEngine, lengths: list[int], new: int) -> Iterator[tuple[bool, list[int]]]:
    """Groups prompts that may be decoded together: whether they are shared, and their places. All
    rows of a step have one set of rotary factors. A prompt whose answer may get beyond the length
    where these change goes the plain way, which computes it again there."""
    switch = switch_of(engine.network)
    if switch is None:
        yield engine.shared, list(range(len(lengths)))
        return
    kinds: dict[int, list[int]] = {}
    for place, length in enumerate(lengths):
        stays = length + new <= switch.length or (length > switch.length and not switch.grows)
        kinds.setdefault(side(switch, length) if engine.shared and stays else PLAIN, []).append(place)
    for kind, places in kinds.items():
        yield kind != PLAIN, places


def _decode(
    engine: LocalEngine, prompts: list[Sequence[int]], order: list[int], answers: _Answers, members: int
) -> None:
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


def _decode_plainly(
    engine: LocalEngine, prompts: list[Sequence[int]], order: list[int], answers: _Answers, members: int
) -> None:
    """Decodes for models in which prompts cannot be shared: one row per answer, each batch to its
    end, in the way that the model takes its rows."""
    rows, switch = rows_of(engine.network), switch_of(engine.network)
    new = answers.decoding.max_new_tokens
    apart = not rows.padded or (switch is not None and len(prompts[0]) + new > switch.length)
    for batch in batches([len(prompt) if apart else 0 for prompt in prompts], max(1, engine.rows // members)):
        written = Written(engine.network, rows, [prompts[place] for place in batch], engine.pad_id)
        rows_R = np.concatenate([order[place] * members + np.arange(members) for place in batch])
        logits_RV = written.next_logits().repeat_interleave(members, 0)
        written.take(torch.arange(len(batch), device=logits_RV.device).repeat_interleave(members))
        while True:
            tokens_R, finished_R = answers.draw(rows_R, logits_RV)
            if finished_R.all():
                break
            written.append(tokens_R)
            if finished_R.any():
                written.take(torch.from_numpy(np.flatnonzero(~finished_R)).to(logits_RV.device))
                rows_R = rows_R[~finished_R]
            logits_RV = written.next_logits()


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
