"""Log-probabilities of completions under the model, with each prompt computed once for its whole group.

`score(network, batch, …)` takes groups as (prompt ids, [completion ids, …]) and gives the log-probabilities of
all completion tokens as one flat tensor, group by group, answer by answer. `shared=False` is the plain path: a row per
answer, for models whose attention cannot be packed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ehrmind.engines.local.masks import PADDING, layer_kinds, packed_masks

Packed = tuple[Sequence[int], Sequence[Sequence[int]]]  # prompt ids, completions' ids


class Scores(NamedTuple):
    """`logprobs` [tokens] fp32, temperature-scaled and untruncated; `entropies` [tokens], detached."""

    logprobs: Tensor
    entropies: Tensor


def packed_length(group: Packed) -> int:
    return len(group[0]) + sum(len(completion) for completion in group[1])


def microbatches(groups: Sequence[Packed], budget: int) -> Iterator[list[int]]:
    """Indices of groups that fit `budget` padded tokens together, longest first; a longer group goes alone."""
    batch: list[int] = []
    longest = 0
    for index in sorted(range(len(groups)), key=lambda i: (-packed_length(groups[i]), i)):
        longest = longest or packed_length(groups[index])
        if batch and longest * (len(batch) + 1) > budget:
            yield batch
            batch, longest = [], packed_length(groups[index])
        batch.append(index)
    if batch:
        yield batch


def score(network: Any, groups: Sequence[Packed], *, temperature: float, shared: bool, pad_id: int) -> Scores:
    """Score every completion token of `groups`; gradients flow when enabled by the caller."""
    if not shared:
        groups = [(prompt, [completion]) for prompt, completions in groups for completion in completions]
    device = next(network.parameters()).device
    ids_BL, segments_BL, positions_BL = _pack(groups, pad_id, device)
    predictors, targets = _predictors(groups, ids_BL.shape[1])
    if shared:
        mask: Any = packed_masks(network.config, segments_BL, positions_BL, network.dtype)
    else:
        mask = (segments_BL != PADDING).long()
    logits_NV = selected_logits(network, ids_BL, mask, positions_BL, torch.tensor(predictors, device=device))
    logits_NV = logits_NV.float() / (temperature or 1.0)
    logprobs_NV = torch.log_softmax(logits_NV, dim=-1)
    with torch.no_grad():
        entropies = -(logprobs_NV.exp() * logprobs_NV).sum(-1)
    return Scores(logprobs_NV.gather(1, torch.tensor(targets, device=device)[:, None])[:, 0], entropies)


def selected_logits(network: Any, ids_BL: Tensor, mask: Any, positions_BL: Tensor, flat_N: Tensor) -> Tensor:
    """Logits [N, V] at flat positions only. The hidden states are selected in front of the output layer, so that what
    a model does with its logits afterwards (soft caps, scaling) still happens, and no [L, V] tensor is ever made."""
    head = network.get_output_embeddings()
    hook = head.register_forward_pre_hook(lambda _, args: (args[0].reshape(-1, args[0].shape[-1])[flat_N][None],))
    try:
        output = network(input_ids=ids_BL, attention_mask=mask, position_ids=positions_BL, use_cache=False)
    finally:
        hook.remove()
    return output.logits[0]


def can_share(network: Any) -> bool:
    """Whether packed groups give this model's own log-probabilities: its layer kinds are known, and a small made-up group
    scored both ways agrees (which also finds models that ignore or refuse a mask of their caller)."""
    if layer_kinds(network.config) is None or network.config._attn_implementation not in ("sdpa", "eager"):
        return False
    ids = torch.randint(0, network.config.vocab_size, (24,), generator=torch.Generator().manual_seed(0)).tolist()
    probe: list[Packed] = [(ids[:9], [ids[9:14], ids[14:21], ids[21:]]), (ids[3:8], [ids[:4], ids[4:6], ids[6:12]])]
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            packed, plain = (score(network, probe, temperature=1.0, shared=way, pad_id=0).logprobs for way in (True, False))
    except (RuntimeError, TypeError, ValueError, KeyError, AttributeError):
        return False
    finally:
        network.train(training)
    tolerance = 1e-4 if network.dtype == torch.float32 else 0.1
    return bool((packed - plain).abs().max() < tolerance)


def _pack(groups: Sequence[Packed], pad_id: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids, segment numbers and positions, each [B, L], padded on the right."""
    length = max(packed_length(group) for group in groups)
    ids_BL = torch.full((len(groups), length), pad_id, dtype=torch.long)
    segments_BL = torch.full((len(groups), length), PADDING, dtype=torch.long)
    positions_BL = torch.zeros((len(groups), length), dtype=torch.long)
    for row, (prompt, completions) in enumerate(groups):
        start = 0
        for segment, tokens in enumerate([prompt, *completions]):
            end = start + len(tokens)
            first = 0 if segment == 0 else len(prompt)
            ids_BL[row, start:end] = torch.tensor(tokens, dtype=torch.long)
            segments_BL[row, start:end] = segment
            positions_BL[row, start:end] = torch.arange(first, first + len(tokens))
            start = end
    return ids_BL.to(device), segments_BL.to(device), positions_BL.to(device)


def _predictors(groups: Sequence[Packed], length: int) -> tuple[list[int], list[int]]:
    """Flat positions whose hidden state predicts each completion token, and those tokens. A completion's first token
    is predicted by the prompt's last, which therefore stands G times."""
    predictors: list[int] = []
    targets: list[int] = []
    for row, (prompt, completions) in enumerate(groups):
        start = row * length + len(prompt)
        for completion in completions:
            if completion:
                predictors += [row * length + len(prompt) - 1, *range(start, start + len(completion) - 1)]
                targets += completion
            start += len(completion)
    return predictors, targets
