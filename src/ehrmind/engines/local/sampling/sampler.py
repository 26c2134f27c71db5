"""Samples answers with continuous batching.

Every prompt is prefilled once for its group. Rows leave as they finish, and waiting prompts take
their place. A token is drawn by inverse CDF with a uniform number of its own
(`engines/uniforms.py`), so an answer depends on the other rows of its batch only through floating
point. Log-probabilities are temperature-scaled, untruncated and fp32; top-p and top-k only filter
the draw.

Letters: `_R` rows, `_P` prompts, `_K` keys, `_V` vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from ehrmind.config import Decoding
from ehrmind.engines.local.forward.plain_rows import Written, batches, rows_of
from ehrmind.engines.local.forward.rotary import side, switch_of
from ehrmind.engines.local.model import LocalModel
from ehrmind.engines.local.sampling.decoder import Decoder
from ehrmind.engines.local.sampling.plain_layers import rollout_weights
from ehrmind.engines.local.workers.fsdp import whole
from ehrmind.engines.local.workers.sharding import in_shards, pack_completions, unpack_completions
from ehrmind.engines.uniforms import row_keys, uniforms
from ehrmind.types import Completion, InputError, Prompt, Segment

LN_2 = math.log(2)
PLAIN = -1  # stands for no side of the rotary factors
DRAWN_AT_ONCE = 1 << 19  # logits
SORTED = 1024  # weights
BLOCK = 64  # tokens; the inverse CDF finds the block first, then the token in it


class _Answers:
    """Keeps what has been written, by answer; the answers to a prompt are neighbours."""

    def __init__(
        self, keys: np.ndarray, decoding: Decoding, stop_ids: frozenset[int], said_end: Callable[[Sequence[int]], bool]
    ) -> None:
        self.keys, self.decoding, self.stop_ids, self.said_end = keys, decoding, stop_ids, said_end
        self.tokens: list[list[int]] = [[] for _ in keys]
        self.logprobs: list[list[float]] = [[] for _ in keys]
        self.stopped = np.zeros(len(keys), dtype=bool)

    def draw(self, answers_R: np.ndarray, logits_RV: Tensor) -> tuple[Tensor, np.ndarray]:
        """Draws and keeps the next token of each answer.

        Returns tokens [R] and which answers are finished now [R].
        """
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
    model: LocalModel, prompts: Sequence[Prompt], keys: Sequence[int], group_size: int, decoding: Decoding
) -> list[list[Completion]]:
    """Samples `group_size` completions for each prompt, in the prompts' order.

    Prompts of similar length are decoded together. Raises InputError if a prompt leaves no room.
    """
    longest = max((len(prompt.token_ids) for prompt in prompts), default=0)
    if longest + decoding.max_new_tokens > model.context:
        raise InputError(
            f"A prompt of {longest} tokens and {decoding.max_new_tokens} new ones exceed the model's context of "
            f"{model.context}; "
            "lower prompts.max_tokens with prompts.too_long=leave_out, or decoding.max_new_tokens."
        )
    if not prompts:
        return []

    def of_shard(items: list[int]) -> list[list[Completion]]:
        return _sample_shard(
            model, [prompts[item] for item in items], [keys[item] for item in items], group_size, decoding
        )

    training = model.network.training
    model.network.eval()
    try:
        with whole(model.network), torch.inference_mode(), model.autocast(), rollout_weights(model.network):
            lengths = [len(prompt.token_ids) for prompt in prompts]
            return in_shards(lengths, model.shards, of_shard, pack_completions, unpack_completions)
    finally:
        model.network.train(training)


def _sample_shard(
    model: LocalModel, prompts: Sequence[Prompt], keys: Sequence[int], group_size: int, decoding: Decoding
) -> list[list[Completion]]:
    answers = _Answers(row_keys(list(keys), group_size), decoding, model.stop_ids, model.chat.said_end)
    order = sorted(range(len(prompts)), key=lambda index: (-len(prompts[index].token_ids), index))
    for shared, places in _parts(model, [len(prompts[index].token_ids) for index in order], decoding.max_new_tokens):
        part = [order[place] for place in places]
        (_decode if shared else _decode_plainly)(
            model, [prompts[index].token_ids for index in part], part, answers, group_size
        )
    return [
        [_completion(model, prompt, answers, place * group_size + member) for member in range(group_size)]
        for place, prompt in enumerate(prompts)
    ]


def _parts(model: LocalModel, lengths: list[int], new: int) -> Iterator[tuple[bool, list[int]]]:
    """Groups prompts that may be decoded together. Yields whether they are shared, and their
    places.

    All rows of a step have one set of rotary factors. A prompt whose answer may cross the length
    where these change takes the plain path, which computes the sequence again there.
    """
    switch = switch_of(model.network)
    if switch is None:
        yield model.shared, list(range(len(lengths)))
        return
    kinds: dict[int, list[int]] = {}
    for place, length in enumerate(lengths):
        stays = length + new <= switch.length or (length > switch.length and not switch.grows)
        kinds.setdefault(side(switch, length) if model.shared and stays else PLAIN, []).append(place)
    for kind, places in kinds.items():
        yield kind != PLAIN, places


def _decode(
    model: LocalModel, prompts: list[Sequence[int]], order: list[int], answers: _Answers, group_size: int
) -> None:
    """Decodes `prompts`, longest first, with continuous batching; `order` are their numbers among
    the answers.
    """
    new = answers.decoding.max_new_tokens
    count = max(1, min(model.rows // group_size, model.tokens // (len(prompts[0]) + group_size * new), len(prompts)))
    decoder = Decoder(model.network, count, group_size, longest=len(prompts[0]))
    rows_R = np.zeros(0, dtype=np.int64)  # the answer that each row writes
    tokens_R = torch.zeros(0, dtype=torch.long, device=decoder.device)
    waiting = 0
    while waiting < len(prompts) or len(rows_R):
        if decoder.free and waiting < len(prompts):
            admitted = range(waiting, min(waiting + decoder.free, len(prompts)))
            waiting = admitted.stop
            logits_RV = decoder.admit([prompts[place] for place in admitted]).repeat_interleave(group_size, 0)
            new_R = np.concatenate([order[place] * group_size + np.arange(group_size) for place in admitted])
            chosen_R, finished_R = answers.draw(new_R, logits_RV)
            rows_R, tokens_R = np.concatenate([rows_R, new_R]), torch.cat([tokens_R, chosen_R])
            finished_R = np.concatenate([np.zeros(len(rows_R) - len(new_R), dtype=bool), finished_R])
        else:
            tokens_R, finished_R = answers.draw(rows_R, decoder.step(tokens_R))
        if finished_R.any():
            stay_R = decoder.drop(finished_R)
            rows_R, tokens_R = rows_R[stay_R], tokens_R[torch.from_numpy(stay_R).to(decoder.device)]


def _decode_plainly(
    model: LocalModel, prompts: list[Sequence[int]], order: list[int], answers: _Answers, group_size: int
) -> None:
    """Decodes one row per answer, each batch to its end, for models whose prompts cannot be
    shared.
    """
    rows, switch = rows_of(model.network), switch_of(model.network)
    new = answers.decoding.max_new_tokens
    apart = not rows.padded or (switch is not None and len(prompts[0]) + new > switch.length)
    for batch in batches([len(prompt) if apart else 0 for prompt in prompts], max(1, model.rows // group_size)):
        written = Written(model.network, rows, [prompts[place] for place in batch], model.pad_id)
        rows_R = np.concatenate([order[place] * group_size + np.arange(group_size) for place in batch])
        logits_RV = written.next_logits().repeat_interleave(group_size, 0)
        written.take(torch.arange(len(batch), device=logits_RV.device).repeat_interleave(group_size))
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
    """Draws a token for each row. Returns ids [R] and log-probabilities [R].

    On CPU a few rows at a time stay in the processor's cache.
    """
    rows = max(1, DRAWN_AT_ONCE // logits_RV.shape[1]) if logits_RV.device.type == "cpu" else len(logits_RV)
    drawn = [
        _draw(logits_RV[start : start + rows], decoding, uniforms_R[start : start + rows])
        for start in range(0, len(logits_RV), rows)
    ]
    return torch.cat([chosen_R for chosen_R, _ in drawn]), torch.cat([logprobs_R for _, logprobs_R in drawn])


def _draw(logits_RV: Tensor, decoding: Decoding, uniforms_R: np.ndarray) -> tuple[Tensor, Tensor]:
    logits_RV = logits_RV.float() / ((decoding.temperature or 1.0) * LN_2)  # to the base 2
    highest_R1 = logits_RV.amax(-1, keepdim=True)
    weights_RV = (logits_RV - highest_R1).exp2_()
    if decoding.temperature == 0:
        chosen_R1 = logits_RV.argmax(-1, keepdim=True)
    else:
        chosen_R1 = _inverse_cdf(_filtered(weights_RV, decoding), torch.from_numpy(uniforms_R).to(logits_RV.device))
    logprobs_R1 = logits_RV.gather(1, chosen_R1) - highest_R1 - weights_RV.sum(-1, keepdim=True).log2()
    return chosen_R1[:, 0], logprobs_R1[:, 0] * LN_2


def _inverse_cdf(weights_RV: Tensor, uniforms_R: Tensor) -> Tensor:
    """Finds the first token whose cumulative weight exceeds the uniform share of the total [R, 1];
    never one of weight 0.
    """
    beyond = -weights_RV.shape[1] % BLOCK
    blocks_RBK = (pad(weights_RV, (0, beyond)) if beyond else weights_RV).view(len(weights_RV), -1, BLOCK)
    sums_RB = blocks_RBK.sum(-1).double()
    ends_RB = sums_RB.cumsum(-1)
    targets_R1 = (uniforms_R * ends_RB[:, -1])[:, None]
    block_R1 = _first_beyond(ends_RB, sums_RB, targets_R1)
    within_RK = blocks_RBK.gather(1, block_R1[..., None].expand(-1, -1, BLOCK))[:, 0].double()
    before_R1 = (ends_RB - sums_RB).gather(1, block_R1)
    return block_R1 * BLOCK + _first_beyond(within_RK.cumsum(-1), within_RK, targets_R1 - before_R1)


def _first_beyond(ends: Tensor, weights: Tensor, targets: Tensor) -> Tensor:
    """Finds the first end beyond the target.

    If rounding puts the target behind all ends, takes the last with weight.
    """
    last = weights.shape[-1] - 1 - (weights.flip(-1) > 0).int().argmax(-1, keepdim=True)
    return torch.minimum(torch.searchsorted(ends, targets, right=True), last)


def _filtered(weights_RV: Tensor, decoding: Decoding) -> Tensor:
    if decoding.top_k:
        floor_R1 = weights_RV.topk(min(decoding.top_k, weights_RV.shape[-1]), dim=-1).values[:, -1:]
        weights_RV = weights_RV.where(weights_RV >= floor_R1, 0.0)
    return weights_RV if decoding.top_p >= 1 else _nucleus(weights_RV, decoding.top_p)


def _nucleus(weights_RV: Tensor, top_p: float) -> Tensor:
    """Sets all but a row's largest weights to 0: as many as reach the share `top_p` of its sum.

    On CPU the largest `SORTED` are sorted first. Only rows that need more are sorted as a whole,
    which takes seven times as long.
    """
    limits_R1 = top_p * weights_RV.sum(-1, keepdim=True)
    kept_RV = torch.zeros_like(weights_RV)
    rows_R = torch.arange(len(weights_RV), device=weights_RV.device)
    for count in (SORTED, weights_RV.shape[1]) if weights_RV.device.type == "cpu" else (weights_RV.shape[1],):
        if len(rows_R) and count <= weights_RV.shape[1]:
            largest_RK, order_RK = weights_RV[rows_R].topk(count)
            ends_RK = largest_RK.cumsum(-1)
            inside_RK = largest_RK.masked_fill(ends_RK - largest_RK >= limits_R1[rows_R], 0.0)
            kept_RV[rows_R] = torch.zeros_like(weights_RV[rows_R]).scatter(1, order_RK, inside_RK)
            rows_R = rows_R[ends_RK[:, -1] < limits_R1[rows_R, 0]]
    return kept_RV


def _completion(model: LocalModel, prompt: Prompt, answers: _Answers, answer: int) -> Completion:
    ids = tuple(answers.tokens[answer])
    segment = Segment("assistant", ids, tuple(answers.logprobs[answer]))
    return Completion((segment,), "stop" if answers.stopped[answer] else "length", prompt.opening + model.decode(ids))
