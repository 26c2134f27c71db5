"""A batch cut into shards that are computed apart, and put together again: the result depends on the shards, never on who holds them.

How rows are batched decides how sums are rounded, and a token that is drawn on an edge turns on that. So a shard is computed as if it
were a batch of its own, on whatever worker, and what the workers found is gathered in the order of the batch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from ehrmind.types import Completion, Segment
from ehrmind.world import current

T = TypeVar("T")


def deal(lengths: Sequence[int], shards: int) -> list[list[int]]:
    """The items of each shard, in their order: like lengths are dealt round, there and back, so that shards have like work."""
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    dealt: list[list[int]] = [[] for _ in range(shards)]
    for place, index in enumerate(order):
        turn, seat = divmod(place, shards)
        dealt[seat if turn % 2 == 0 else shards - 1 - seat].append(index)
    return [sorted(items) for items in dealt]


def in_shards(
    lengths: Sequence[int],
    shards: int,
    compute: Callable[[list[int]], list[T]],
    told: Callable[[list[T]], Any] = lambda found: found,
    heard: Callable[[Any], list[T]] = lambda message: message,
) -> list[T]:
    """`compute` gives what belongs to each of some items. Of all items, in their order; every worker computes the shards that it holds.
    `told` and `heard` make of it what workers can tell each other, and back."""
    world, dealt = current(), deal(lengths, shards)
    mine = [found for shard in world.block(shards) if dealt[shard] for found in compute(dealt[shard])]
    parts = [mine] if world.size == 1 else map(heard, world.gather(told(mine)))
    order = [index for items in dealt for index in items]
    by_index = dict(zip(order, (found for part in parts for found in part), strict=True))
    return [by_index[index] for index in range(len(lengths))]


def told_completions(groups: list[list[Completion]]) -> bytes:
    """Of what the sampler wrote, one segment an answer: a line of JSON, then all ids as 32-bit and all log-probabilities as fp32 numbers,
    which they are."""
    written = [completion for group in groups for completion in group]
    about = [len(groups), *([len(c.segments[0].token_ids), c.finish_reason, c.text] for c in written)]
    ids = np.array([token for c in written for token in c.segments[0].token_ids], dtype=np.int32)
    logprobs = np.array([value for c in written for value in c.segments[0].logprobs], dtype=np.float32)
    return json.dumps(about).encode() + b"\n" + ids.tobytes() + logprobs.tobytes()


def heard_completions(message: bytes) -> list[list[Completion]]:
    line, numbers = message.split(b"\n", 1)
    count, *about = json.loads(line)
    half = len(numbers) // 2
    ids, logprobs = (
        np.frombuffer(numbers[:half], dtype=np.int32).tolist(),
        np.frombuffer(numbers[half:], dtype=np.float32).tolist(),
    )
    written: list[Completion] = []
    start = 0
    for length, reason, text in about:
        end = start + length
        written.append(
            Completion((Segment("assistant", tuple(ids[start:end]), tuple(logprobs[start:end])),), reason, text)
        )
        start = end
    members = len(written) // max(1, count)
    return [written[place * members : (place + 1) * members] for place in range(count)]


class TreeSum:
    """Adds up items that come one by one as a tree of neighbours, ((a + b) + (c + d)), keeping no more than one of each level. Workers'
    blocks are branches of it where shards and workers are powers of two, so that who held what does not show in the sum's rounding."""

    def __init__(self, add: Callable[[Any, Any], Any]) -> None:
        self.add = add
        self.waiting: list[tuple[int, Any]] = []  # (level, sum), the highest first

    def take(self, item: Any) -> None:
        level = 0
        while self.waiting and self.waiting[-1][0] == level:
            item = self.add(self.waiting.pop()[1], item)
            level += 1
        self.waiting.append((level, item))

    def total(self) -> Any:
        """Of all; what a number that is no power of two leaves over is added last first."""
        (_, total), *others = reversed(self.waiting)
        for _, item in others:
            total = self.add(item, total)
        return total
