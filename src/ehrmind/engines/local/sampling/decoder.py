"""Decodes token by token on a KV cache: step by step on CPU, by CUDA graphs on CUDA."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ehrmind.engines.local.sampling.cuda_graphs import CudaGraphs
from ehrmind.engines.local.sampling.decoding_step import Step, rows_by_slot
from ehrmind.engines.local.sampling.kv_cache import KVCache

GRAPHS_ON = ("cuda",)
GROWTH = 16  # tokens by which the rows' room grows: a matmul over a whole store is faster than over a part of it


class Decoder:
    """Decodes up to `slots` prompts at once, with `group_size` answers each."""

    def __init__(self, network: Any, slots: int, group_size: int, longest: int) -> None:
        self.cache = KVCache(network, slots, group_size, longest)
        self.device = self.cache.device
        self.graphs = CudaGraphs(self.cache) if self.device.type in GRAPHS_ON else None
        self._step: Step | None = None  # of the rows as they are

    @property
    def free(self) -> int:
        """Slots that can take a prompt."""
        return self.cache.free

    def admit(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Prefills prompts into free slots. Returns logits [prompts, V]."""
        logits = self.cache.admit(prompts)
        self._rows_changed()
        return logits

    def step(self, tokens_R: Tensor) -> Tensor:
        """Appends one token to every row. Returns logits [R, V] of the next one."""
        cache = self.cache
        if self.graphs is not None:
            logits = self.graphs.step(tokens_R)
        else:
            places = torch.from_numpy(cache.lengths_S[cache.slot_R] + cache.ages_R).to(self.device)
            logits = cache.compute(self._next_step(), tokens_R, places)
        cache.ages_R = cache.ages_R + 1
        return logits

    def drop(self, gone_R: np.ndarray) -> np.ndarray:
        """Removes rows. Returns the old number of each remaining row, in its new order."""
        order = self.cache.drop(gone_R)
        self._rows_changed()
        return order

    def _next_step(self) -> Step:
        cache, room = self.cache, self.cache.room_for(GROWTH)
        if self._step is None or self._step.room != room:
            longest = int(cache.lengths_S.max())
            self._step = Step(
                cache.prompts,
                cache.own,
                rows_by_slot(cache.slot_R, len(cache.lengths_S), self.device),
                torch.from_numpy(cache.lengths_S).to(self.device),
                rows=len(cache.slot_R),
                longest=longest,
                room=room,
                ragged=bool((cache.lengths_S < longest).any()),
            )
        age = int(cache.ages_R.max())
        same = bool((cache.ages_R == age).all())
        return self._step.begin(torch.from_numpy(cache.ages_R).to(self.device), age if same else None)

    def _rows_changed(self) -> None:
        self._step = None
        if self.graphs is not None:
            self.graphs.rows_changed()
