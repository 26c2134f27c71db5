"""The decoding step at fixed shapes, on CUDA captured once as a graph and replayed.

Launching a step's thousand small kernels one by one takes longer than they run. So its shapes stay while answers are written: rows
and slots are computed though nobody is in them, a row's room grows by many tokens at once, and what changes (tokens, ages, which
row belongs to which slot) lies in tensors that the graph reads. The first step of a shape runs as it is, the second is captured.
A model that cannot be captured runs every step as it is, and says so.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import numpy as np
import torch
from torch import Tensor

from ehrmind.engines.local.step import BySlot, Step, places_by_slot

if TYPE_CHECKING:
    from ehrmind.engines.local.decoding import Slots

SAID = logging.getLogger(__name__)
REPLAYED_ON = ("cuda",)
GROWTH = 256  # tokens by which the rows' own room grows
LENGTHS = 256  # prompts are computed to the next multiple
SPARE = (
    2 << 30
)  # bytes that a graph's own memory may need; the allocator cannot give back what it keeps while one is captured
NOT_CAPTURED: WeakSet[Any] = WeakSet()  # models whose step waits for the processor
NOT_REPLAYED = "%s: a decoding step cannot be captured as a CUDA graph (%s); its kernels will be launched one by one, which takes longer"


class Replays:
    """The steps of a `Slots`, by shape."""

    def __init__(self, cache: Slots) -> None:
        self.cache = cache
        self.shapes: dict[tuple[int, int, int, int, bool], FixedStep] = {}
        self.now: FixedStep | None = None
        self.pool = torch.cuda.graph_pool_handle() if cache.device.type == "cuda" else None

    def changed(self) -> None:
        """Rows came, went or moved."""
        self.now = None

    def step(self, tokens_R: Tensor) -> Tensor:
        """Logits [R, V] behind these tokens."""
        room = self.cache.room_for(GROWTH)
        if self.now is None or self.now.room != room:
            self.now = self._shape(room)
        return self.now.step(tokens_R)[: len(tokens_R)]

    def _shape(self, room: int) -> FixedStep:
        """That of the rows as they are, with them in it."""
        cache = self.cache
        if any(shape.room != room for shape in self.shapes.values()):
            self.shapes.clear()  # their graphs read the keys and values where these lay before
        rows = at_least(len(cache.slot_R), cache.slots * cache.members)
        slots = at_least(len(cache.lengths_S), cache.slots)
        longest = min(-(-int(cache.lengths_S.max()) // LENGTHS) * LENGTHS, cache.longest)
        rows_SG, back_R = places_by_slot(cache.slot_R, slots, cache.members)
        in_order = rows == rows_SG.size == len(back_R) and bool((back_R == np.arange(rows)).all())
        key = rows, slots, longest, room, in_order
        if key not in self.shapes:
            self.shapes[key] = FixedStep(cache, self.pool, *key)
        self.shapes[key].load(rows_SG, back_R)
        return self.shapes[key]


class FixedStep:
    """A step of `rows` rows in `slots` slots, whose prompts have up to `longest` tokens and whose rows have `room` for their own.
    `in_order`: every slot has all its rows, one slot's after the other's."""

    def __init__(self, cache: Slots, pool: Any, rows: int, slots: int, longest: int, room: int, in_order: bool) -> None:
        self.cache, self.pool, self.longest, self.room, self.in_order = cache, pool, longest, room, in_order
        self.tokens_R, self.ages_R, self.slot_R, self.back_R = (_integers(cache, rows) for _ in range(4))
        self.lengths_S, self.rows_SG = _integers(cache, slots), _integers(cache, slots, cache.members)
        self.graph: Any = None
        self.logits: Tensor | None = None  # where the graph leaves them

    def load(self, rows_SG: np.ndarray, back_R: np.ndarray) -> None:
        """Who is in the rows and slots now; nobody's are rows of the first slot with nothing written, nobody's slots empty prompts."""
        cache, rows = self.cache, len(self.cache.slot_R)
        numbers = (cache.ages_R, cache.slot_R, back_R, cache.lengths_S, rows_SG)
        for tensor, found in zip(
            (self.ages_R, self.slot_R, self.back_R, self.lengths_S, self.rows_SG), numbers, strict=True
        ):
            whole = np.zeros(tuple(tensor.shape), dtype=np.int64)
            whole[: len(found)] = found
            tensor.copy_(torch.from_numpy(whole))
        self.tokens_R[rows:] = 0

    def step(self, tokens_R: Tensor) -> Tensor:
        self.tokens_R[: len(tokens_R)] = tokens_R
        if self.logits is None or self.cache.device.type != "cuda":
            self.logits = self._compute()  # as it is, also so that all kernels and libraries are loaded
            return self.logits
        if self.graph is None and self.cache.network not in NOT_CAPTURED:
            self.graph = self._captured()
        if self.graph is None:
            return self._compute()
        self.graph.replay()
        return self.logits

    def _compute(self) -> Tensor:
        by_slot = BySlot(self.rows_SG, None if self.in_order else self.back_R)
        step = Step(self.cache, by_slot, self.ages_R, self.lengths_S, longest=self.longest, room=self.room, age=None)
        logits = self.cache.compute(step, self.tokens_R, self.lengths_S[self.slot_R] + self.ages_R)
        self.ages_R += 1
        return logits

    def _captured(self) -> Any:
        """The step as a graph, or None where the model's code cannot be captured."""
        if torch.cuda.mem_get_info()[0] < SPARE:
            torch.cuda.empty_cache()
        stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
        stream.wait_stream(torch.cuda.current_stream())
        try:
            with torch.cuda.stream(stream):
                graph.capture_begin(pool=self.pool, capture_error_mode="thread_local")
                try:
                    self.logits = self._compute()
                finally:
                    graph.capture_end()
        except RuntimeError as error:
            NOT_CAPTURED.add(self.cache.network)
            SAID.warning(NOT_REPLAYED, type(self.cache.network).__name__, str(error)[:300])
            return None
        torch.cuda.current_stream().wait_stream(stream)
        return graph


def at_least(count: int, most: int) -> int:
    """The smallest half of a half of … `most` that is no less than `count`: few shapes, and no more than twice the work."""
    size = most
    while size > 1 and -(-size // 2) >= count:
        size = -(-size // 2)
    return size


def _integers(cache: Slots, *shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.long, device=cache.device)
