"""Decoding steps at fixed shapes, captured once as CUDA graphs and replayed.

Launching the thousand small kernels of a step one by one takes longer than they run. So shapes are
kept while answers are written: spare rows and slots are computed too, a row's room grows by many
tokens at once, and what changes (tokens, ages, each row's slot) lies in tensors that the graph
reads. The first step of a shape runs without a graph, the second is captured. A model that cannot
be captured runs every step without a graph and logs a warning.
"""

from __future__ import annotations

import logging
from typing import Any
from weakref import WeakSet

import numpy as np
import torch
from torch import Tensor

from ehrmind.engines.local.sampling.decoding_step import RowsBySlot, Step, places_by_slot
from ehrmind.engines.local.sampling.kv_cache import KVCache

LOG = logging.getLogger(__name__)
GROWTH = 256  # tokens by which the rows' room grows
LENGTHS = 256  # prompt lengths are rounded up to a multiple of this
SPARE = 2 << 30  # bytes that a graph may need; the allocator cannot give back memory during a capture
NOT_CAPTURED: WeakSet[Any] = WeakSet()  # models whose step waits for the CPU
NOT_REPLAYED = (
    "%s: a decoding step cannot be captured as a CUDA graph (%s); "
    "its kernels will be launched one by one, which takes longer"
)


class CudaGraphs:
    """The fixed steps of a KV cache, by shape."""

    def __init__(self, cache: KVCache) -> None:
        self.cache = cache
        self.shapes: dict[tuple[int, int, int, int, bool], FixedStep] = {}
        self.now: FixedStep | None = None
        self.pool = torch.cuda.graph_pool_handle() if cache.device.type == "cuda" else None

    def rows_changed(self) -> None:
        """Forgets the current step after rows came, left or moved."""
        self.now = None

    def step(self, tokens_R: Tensor) -> Tensor:
        """Returns logits [R, V] after these tokens."""
        room = self.cache.room_for(GROWTH)
        if self.now is None or self.now.room != room:
            self.now = self._loaded(room)
        return self.now.step(tokens_R)[: len(tokens_R)]

    def _loaded(self, room: int) -> FixedStep:
        """Returns the step whose shape fits the current rows, filled with them."""
        cache = self.cache
        if any(shape.room != room for shape in self.shapes.values()):
            self.shapes.clear()  # their graphs read keys and values at the old addresses
        rows = at_least(len(cache.slot_R), cache.slots * cache.group_size)
        slots = at_least(len(cache.lengths_S), cache.slots)
        longest = min(-(-int(cache.lengths_S.max()) // LENGTHS) * LENGTHS, cache.longest)
        rows_SG, back_R = places_by_slot(cache.slot_R, slots, cache.group_size)
        in_order = rows == rows_SG.size == len(back_R) and bool((back_R == np.arange(rows)).all())
        key = rows, slots, longest, room, in_order
        if key not in self.shapes:
            self.shapes[key] = FixedStep(cache, self.pool, *key)
        self.shapes[key].load(rows_SG, back_R)
        return self.shapes[key]


class FixedStep:
    """A step of `rows` rows in `slots` slots, with prompts of up to `longest` tokens and `room` own
    tokens a row.

    `in_order`: every slot has all its rows, slot after slot.
    """

    def __init__(
        self, cache: KVCache, pool: Any, rows: int, slots: int, longest: int, room: int, in_order: bool
    ) -> None:
        self.cache, self.pool, self.longest, self.room, self.in_order = cache, pool, longest, room, in_order
        self.tokens_R, self.ages_R, self.slot_R, self.back_R = (_integers(cache, rows) for _ in range(4))
        self.lengths_S, self.rows_SG = _integers(cache, slots), _integers(cache, slots, cache.group_size)
        self.graph: Any = None
        self.logits: Tensor | None = None  # the graph writes them here

    def load(self, rows_SG: np.ndarray, back_R: np.ndarray) -> None:
        """Fills in the current rows and slots.

        Spare rows are empty rows of the first slot, spare slots are empty prompts.
        """
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
            self.logits = self._compute()  # the first run also loads all kernels and libraries
            return self.logits
        if self.graph is None and self.cache.network not in NOT_CAPTURED:
            self.graph = self._captured()
        if self.graph is None:
            return self._compute()
        self.graph.replay()
        return self.logits

    def _compute(self) -> Tensor:
        by_slot = RowsBySlot(self.rows_SG, None if self.in_order else self.back_R)
        step = Step(
            self.cache.prompts,
            self.cache.own,
            by_slot,
            self.lengths_S,
            rows=len(self.ages_R),
            longest=self.longest,
            room=self.room,
        ).begin(self.ages_R, None)
        logits = self.cache.compute(step, self.tokens_R, self.lengths_S[self.slot_R] + self.ages_R)
        self.ages_R += 1
        return logits

    def _captured(self) -> Any:
        """Captures the step as a graph. Returns None if the model's code cannot be captured."""
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
            LOG.warning(NOT_REPLAYED, type(self.cache.network).__name__, str(error)[:300])
            return None
        torch.cuda.current_stream().wait_stream(stream)
        return graph


def at_least(count: int, most: int) -> int:
    """Halves `most` as long as the result is no less than `count`: few shapes, and at most twice
    the work.
    """
    size = most
    while size > 1 and -(-size // 2) >= count:
        size = -(-size // 2)
    return size


def _integers(cache: KVCache, *shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.long, device=cache.device)
