"""Deals a batch into shards and gathers the results: they depend on the shards, never on who holds
them.

How rows are batched decides how sums are rounded, and a rounding can change a drawn token. So a
shard is computed as if it were a batch of its own, on any worker, and results are gathered in the
order of the batch.
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
    """Returns the items of each shard, in order.

    Items are dealt by length, forth and back, so that shards have similar work.
    """
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
    pack: Callable[[list[T]], Any] = lambda found: found,
    unpack: Callable[[Any], list[T]] = lambda message: message,
) -> list[T]:
    """Computes results for all items, in their order. Every worker computes the shards that it
    holds.

    `compute` returns a result for each item of a list. `pack` and `unpack` turn results into a
    message between workers and back.
    """
    world, dealt = current(), deal(lengths, shards)
    mine = [found for shard in world.block(shards) if dealt[shard] for found in compute(dealt[shard])]
    parts = [mine] if world.size == 1 else map(unpack, world.gather(pack(mine)))
    order = [index for items in dealt for index in items]
    by_index = dict(zip(order, (found for part in parts for found in part), strict=True))
    return [by_index[index] for index in range(len(lengths))]


def pack_completions(groups: list[list[Completion]]) -> bytes:
    """Packs sampled completions, one segment each: a line of JSON, then ids as int32 and
    log-probabilities as fp32.

    Nothing is lost: the log-probabilities are fp32 numbers.
    """
    written = [completion for group in groups for completion in group]
    about = [len(groups), *([len(c.segments[0].token_ids), c.finish_reason, c.text] for c in written)]
    ids = np.array([token for c in written for token in c.segments[0].token_ids], dtype=np.int32)
    logprobs = np.array([value for c in written for value in c.segments[0].logprobs], dtype=np.float32)
    return json.dumps(about).encode() + b"\n" + ids.tobytes() + logprobs.tobytes()


def unpack_completions(message: bytes) -> list[list[Completion]]:
    """Unpacks the message of `pack_completions`."""
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
    group_size = len(written) // max(1, count)
    return [written[place * group_size : (place + 1) * group_size] for place in range(count)]


class TreeSum:
    """Sums items that come one by one as a tree of neighbours, ((a + b) + (c + d)).

    It keeps at most one sum of each level. If shards and workers are powers of two, a worker's
    block is a branch of the tree, so that the rounding does not show who held what.
    """

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
        """Returns the sum of all items; leftovers are added last-in, first-out."""
        (_, total), *others = reversed(self.waiting)
        for _, item in others:
            total = self.add(item, total)
        return total
