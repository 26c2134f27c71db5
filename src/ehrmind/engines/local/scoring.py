"""Log-probabilities of completions under the model, with each prompt computed once for its whole
group.

`score(network, groups, …)` takes groups as (prompt ids, [completion ids, …]). It returns the
log-probabilities of all completion tokens as one flat tensor, group by group, answer by answer.
`shared=False` is the plain path with a row per answer, for models whose attention cannot be packed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from torch.nn.utils.rnn import pad_sequence

from ehrmind.engines.local.forward.lm_head import lm_head_of, token_logprobs
from ehrmind.engines.local.forward.packing import Packed, Packing
from ehrmind.engines.local.forward.plain_rows import rows_of, taken_by
from ehrmind.engines.local.forward.rotary import forget_lengths, side, switch_of
from ehrmind.types import InputError


class Scores(NamedTuple):
    """Scores of completion tokens: `logprobs` [tokens] fp32, temperature-scaled; `entropies`
    [tokens], detached.
    """

    logprobs: Tensor
    entropies: Tensor


def packed_length(group: Packed) -> int:
    return len(group[0]) + sum(len(completion) for completion in group[1])


def microbatches(groups: Sequence[Packed], budget: int) -> Iterator[list[int]]:
    """Yields indices of groups that fit `budget` tokens together, longest first; a longer group
    goes alone.
    """
    batch: list[int] = []
    tokens = 0
    for index in sorted(range(len(groups)), key=lambda i: (-packed_length(groups[i]), i)):
        length = packed_length(groups[index])
        if batch and tokens + length > budget:
            yield batch
            batch, tokens = [], 0
        batch.append(index)
        tokens += length
    if batch:
        yield batch


def score(network: Any, groups: Sequence[Packed], *, temperature: float, shared: bool, pad_id: int) -> Scores:
    """Scores every completion token of `groups`. Gradients flow if the caller enables them.

    Raises InputError if a sharded model's sequences do not fit into one call.
    """
    temperature = temperature or 1.0
    rows = [(prompt, answer) for prompt, answers in groups for answer in answers]
    switch = switch_of(network)
    lengths = [len(prompt) + len(answer) for prompt, answer in rows]
    apart = not shared and not rows_of(network).scored_padded
    keys = [(side(switch, length), length if apart else 0) for length in lengths]
    if len(set(keys)) <= 1:
        return _score_alike(network, groups, temperature, shared, pad_id)
    if isinstance(network, FSDPModule):  # with different numbers of calls, workers would wait for each other in vain
        raise InputError("This model's sequences cannot all be scored in one call; set cluster.strategy=ddp.")
    found: dict[int, Scores] = {}  # by row
    for key in sorted(set(keys)):
        chosen = [place for place, other in enumerate(keys) if other == key]
        scores = _score_alike(network, _regrouped(groups, set(chosen)), temperature, shared, pad_id)
        parts = (tensor.split([len(rows[place][1]) for place in chosen]) for tensor in scores)
        found |= {place: Scores(*both) for place, both in zip(chosen, zip(*parts, strict=True), strict=True)}
    return Scores(*(torch.cat([found[place][part] for place in range(len(rows))]) for part in range(2)))


def _regrouped(groups: Sequence[Packed], chosen: set[int]) -> list[Packed]:
    """Keeps the chosen answers, numbered through all groups."""
    numbers = iter(range(sum(len(answers) for _, answers in groups)))
    left = [(prompt, [answer for answer in answers if next(numbers) in chosen]) for prompt, answers in groups]
    return [group for group in left if group[1]]


def _score_alike(network: Any, groups: Sequence[Packed], temperature: float, shared: bool, pad_id: int) -> Scores:
    """Scores sequences that may share a call."""
    switch = switch_of(network)
    if switch is not None and switch.grows:
        forget_lengths(network)
    if not shared:
        return _score_rows(
            network, [(prompt, answer) for prompt, answers in groups for answer in answers], temperature, pad_id
        )
    packing = Packing(groups, next(network.parameters()).device)
    predictors_N, targets_N = (
        torch.tensor(side, dtype=torch.long, device=packing.ids_BN.device)
        for side in (packing.predictors, packing.targets)
    )
    head = lm_head_of(network)
    if head is None:
        return _from_logits(selected_logits(network, packing, predictors_N), targets_N, temperature)
    inner = network.get_base_model() if hasattr(network, "get_base_model") else network
    output = inner.base_model(**_packed_call(packing), use_cache=False)
    return Scores(
        *token_logprobs(output.last_hidden_state[0].index_select(0, predictors_N), head, targets_N, temperature)
    )


def selected_logits(network: Any, packing: Packing, flat_N: Tensor, cache: Any = None) -> Tensor:
    """Computes the model's logits [N, V] at some positions of a packing.

    Hidden states are selected in front of the output layer, so that the model's own changes to
    logits still happen.
    """
    with _selecting(network, flat_N):
        output = network(**_packed_call(packing), past_key_values=cache, use_cache=cache is not None)
    logits: Tensor = output.logits[0]
    return logits


def _packed_call(packing: Packing) -> dict[str, Any]:
    # Models pass a four-dimensional mask through unchanged; the layout says which tokens see which
    unused = torch.zeros(1, 1, 1, 1, device=packing.ids_BN.device)
    return {
        "input_ids": packing.ids_BN,
        "attention_mask": unused,
        "position_ids": packing.positions_BN,
        "layout": packing,
    }


def _selecting(network: Any, flat_N: Tensor) -> Any:
    """Lets only these flat hidden states reach the output layer, until the returned context
    ends.
    """
    return network.get_output_embeddings().register_forward_pre_hook(
        lambda _, args: (args[0].reshape(-1, args[0].shape[-1])[flat_N][None],)
    )


def _score_rows(
    network: Any, rows: Sequence[tuple[Sequence[int], Sequence[int]]], temperature: float, pad_id: int
) -> Scores:
    """Scores on the plain path: prompt and answer in a row, padded on the right."""
    device = next(network.parameters()).device
    ids_BL = pad_sequence(
        [torch.tensor([*prompt, *answer]) for prompt, answer in rows], batch_first=True, padding_value=pad_id
    )
    lengths_B = torch.tensor([len(prompt) + len(answer) for prompt, answer in rows])
    mask_BL = (torch.arange(ids_BL.shape[1]) < lengths_B[:, None]).long()
    width = ids_BL.shape[1]
    flat = [
        row * width + len(prompt) - 1 + place
        for row, (prompt, answer) in enumerate(rows)
        for place in range(len(answer))
    ]
    targets = [token for _, answer in rows for token in answer]
    call = {"input_ids": ids_BL.to(device), "attention_mask": mask_BL.to(device), "use_cache": False}
    with _selecting(network, torch.tensor(flat, dtype=torch.long, device=device)):
        logits = network(**{name: value for name, value in call.items() if name in taken_by(network)}).logits
    if logits.shape[:2] == ids_BL.shape:  # the model did not call its output layer
        logits = logits.reshape(1, -1, logits.shape[-1])[:, flat]
    return _from_logits(logits[0], torch.tensor(targets, dtype=torch.long, device=device), temperature)


def _from_logits(logits_NV: Tensor, targets_N: Tensor, temperature: float) -> Scores:
    logprobs_NV = torch.log_softmax(logits_NV.float() / temperature, dim=-1)
    with torch.no_grad():
        entropies = -(logprobs_NV.exp() * logprobs_NV).sum(-1)
    return Scores(logprobs_NV.gather(1, targets_N[:, None])[:, 0], entropies)
