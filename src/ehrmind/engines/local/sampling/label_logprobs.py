"""Scores a few labels as the continuation of what a model wrote, without sampling: for labels'
probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ehrmind.engines.local.forward.packing import Packed
from ehrmind.engines.local.model import LocalModel
from ehrmind.engines.local.scoring import microbatches
from ehrmind.engines.local.workers.fsdp import scorer, whole
from ehrmind.engines.local.workers.sharding import in_shards
from ehrmind.types import Prompt

TOKENS_AT_ONCE = 16384  # padded; fixed, so that results do not depend on free memory
Asked = tuple[Prompt, str, Sequence[str]]  # prompt, text begun, labels


def label_logprobs(model: LocalModel, asked: Sequence[Asked]) -> list[list[float]]:
    """For each (prompt, text begun, labels): every label's log-probability as what comes next, at
    temperature 1.

    A label should end where an answer ends, so that no label is the beginning of another.
    """
    lengths = [len(prompt.token_ids) for prompt, _, _ in asked]
    with whole(model.network):
        return in_shards(lengths, model.shards, lambda items: _score_labels(model, [asked[item] for item in items]))


def _score_labels(model: LocalModel, asked: Sequence[Asked]) -> list[list[float]]:
    """Tokenises labels behind the text begun, because tokens may reach over the seam.

    A common beginning is computed once.
    """
    groups: list[Packed] = []
    for prompt, begun, labels in asked:
        written = [model.response_tokens(begun + label, prompt, own=True)[:-1] for label in labels]
        shared = _common(written)
        groups.append(((*prompt.token_ids, *written[0][:shared]), [tokens[shared:] for tokens in written]))
    found: list[list[float]] = [[] for _ in groups]
    model.network.eval()
    with torch.no_grad():
        for batch in microbatches(groups, TOKENS_AT_ONCE):
            packed = [groups[index] for index in batch]
            flat = scorer(model.network)(packed, temperature=1.0, shared=model.shared, pad_id=model.pad_id).logprobs
            lengths = [len(label) for _, labels in packed for label in labels]
            sums = iter([float(part.sum()) for part in flat.split(lengths)])
            for index in batch:
                found[index] = [next(sums) for _ in groups[index][1]]
    return found


def _common(sequences: Sequence[Sequence[int]]) -> int:
    """Measures the common beginning, at most one token short of the shortest sequence."""
    length = 0
    while length < min(map(len, sequences)) - 1 and len({sequence[length] for sequence in sequences}) == 1:
        length += 1
    return length
