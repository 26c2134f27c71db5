"""How likely each of a few answers is after what a model wrote before them, without sampling: for labels' probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from ehrmind.engines.local.fsdp import scorer
from ehrmind.engines.local.packing import Packed
from ehrmind.engines.local.scoring import microbatches
from ehrmind.types import Prompt

if TYPE_CHECKING:
    from ehrmind.engines.local.engine import LocalEngine

TOKENS_AT_ONCE = 16384  # padded; fixed, so that results do not depend on free memory


def option_logprobs(engine: LocalEngine, asked: Sequence[tuple[Prompt, str, Sequence[str]]]) -> list[list[float]]:
    """For each (prompt, text begun, options): the log-probability of every option as what comes next, at temperature 1.

    Options are tokenised behind the text begun, because tokens may reach over the seam; what they share is computed once. An option
    should end where an answer ends, so that one is not the beginning of another.
    """
    groups: list[Packed] = []
    for prompt, begun, options in asked:
        written = [engine.response_tokens(begun + option, prompt, own=True)[:-1] for option in options]
        shared = _common(written)
        groups.append(((*prompt.token_ids, *written[0][:shared]), [tokens[shared:] for tokens in written]))
    found: list[list[float]] = [[] for _ in groups]
    engine.network.eval()
    with torch.no_grad():
        for batch in microbatches(groups, TOKENS_AT_ONCE):
            packed = [groups[index] for index in batch]
            flat = scorer(engine.network)(packed, temperature=1.0, shared=engine.shared, pad_id=engine.pad_id).logprobs
            lengths = [len(option) for _, options in packed for option in options]
            sums = iter([float(part.sum()) for part in flat.split(lengths)])
            for index in batch:
                found[index] = [next(sums) for _ in groups[index][1]]
    return found


def _common(sequences: Sequence[Sequence[int]]) -> int:
    """Length of the common beginning, one token short of the shortest."""
    length = 0
    while length < min(map(len, sequences)) - 1 and len({sequence[length] for sequence in sequences}) == 1:
        length += 1
    return length
