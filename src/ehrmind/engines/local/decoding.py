"""What is kept while a batch is decoded: each prompt's keys and values once, and every row's own.

`Slots` is the cache that `transformers` models write to. A slot holds one prompt, its rows are the answers being written to it.
Rows leave when they finish (the last row moves into the gap), a slot without rows takes the next prompt.

Letters: `_S` slots in use, `_G` most rows of a slot, `_R` rows in use, `_L` prompt tokens, `_T` own tokens, `_K` key heads, `_D` width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import Cache

from ehrmind.engines.local.packing import Packing
from ehrmind.engines.local.replay import REPLAYED_ON, Replays
from ehrmind.engines.local.scoring import selected_logits
from ehrmind.engines.local.step import Step, step_of

PREFILLED_AT_ONCE = 4096  # tokens; a longer prompt goes alone


class Slots(Cache):
    """`slots` prompts of up to `longest` tokens, `members` rows each."""

    def __init__(self, network: Any, slots: int, members: int, longest: int) -> None:
        super().__init__(layers=[])
        self.network, self.device = network, next(network.parameters()).device
        self.slots, self.members, self.longest = slots, members, longest
        self.prompts: dict[int, tuple[Tensor, Tensor]] = {}  # by layer: keys and values [S, K, L, D]
        self.own: dict[int, tuple[Tensor, Tensor]] = {}  # by layer: keys and values [R, K, T, D]
        self.lengths_S = np.zeros(0, dtype=np.int64)  # of the prompts in use
        self.slot_R = np.zeros(0, dtype=np.int64)  # each row's slot
        self.ages_R = np.zeros(0, dtype=np.int64)  # each row's own tokens so far
        self._filling: list[
            tuple[int, int, int]
        ] = []  # (slot, start, end) of the prompts in the sequence being prefilled
        self._step: Step | None = None
        self.replays = Replays(self) if self.device.type in REPLAYED_ON else None

    @property
    def free(self) -> int:
        return self.slots - len(self.lengths_S)

    def admit(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Prefill prompts into free slots; their rows come behind those in use, a prompt's side by side. Logits [prompts, V]."""
        logits: list[Tensor] = []
        for batch in _batches([len(prompt) for prompt in prompts], PREFILLED_AT_ONCE):
            packing = Packing([(prompts[index], ()) for index in batch], self.device)
            used = len(self.lengths_S)
            self._filling = [(used + place, start, end) for place, (start, end) in enumerate(packing.trunks)]
            last_P = torch.tensor([end - 1 for _, end in packing.trunks], device=self.device)
            logits.append(selected_logits(self.network, packing, last_P, cache=self))
            self._filling = []
            slots = np.arange(used, used + len(batch))
            self.lengths_S = np.concatenate([self.lengths_S, [len(prompts[index]) for index in batch]])
            self.slot_R = np.concatenate([self.slot_R, slots.repeat(self.members)])
            self.ages_R = np.concatenate([self.ages_R, np.zeros(len(batch) * self.members, dtype=np.int64)])
        self._rows_changed()
        return torch.cat(logits)

    def step(self, tokens_R: Tensor) -> Tensor:
        """Append one token to every row. Logits [R, V] of the next."""
        if self.replays is not None:
            logits = self.replays.step(tokens_R)
        else:
            places = torch.from_numpy(self.lengths_S[self.slot_R] + self.ages_R).to(self.device)
            logits = self.compute(step_of(self, self._step), tokens_R, places)
        self.ages_R = self.ages_R + 1
        return logits

    def compute(self, step: Step, tokens_R: Tensor, positions_R: Tensor) -> Tensor:
        """The model on one token of every row."""
        self._step = step
        output = self.network(
            input_ids=tokens_R[:, None],
            attention_mask=torch.zeros(1, 1, 1, 1, device=self.device),  # as it is: the layout says who sees whom
            position_ids=positions_R[:, None],
            past_key_values=self,
            use_cache=True,
            layout=step,
        )
        logits: Tensor = output.logits[:, -1]
        return logits

    def room_for(self, growth: int) -> int:
        """Own tokens that a row has room for once the next is written."""
        stored = next(iter(self.own.values()))[0].shape[2] if self.own else 0
        return max(stored, -(-(int(self.ages_R.max()) + 1) // growth) * growth)

    def drop(self, gone_R: np.ndarray) -> np.ndarray:
        """Rows leave. Returns the order of the old rows that the remaining ones are in from now on."""
        order = np.arange(len(self.slot_R))
        stays = ~gone_R
        left = int(stays.sum())
        gaps, movers = np.flatnonzero(gone_R[:left]), left + np.flatnonzero(stays[left:])
        order[gaps] = movers
        order = order[:left]
        _move(self.own, gaps, movers, int(self.ages_R.max(initial=0)))
        self.slot_R, self.ages_R = self.slot_R[order], self.ages_R[order]
        self._drop_empty_slots()
        self._rows_changed()
        return order

    def _rows_changed(self) -> None:
        self._step = None
        if self.replays is not None:
            self.replays.changed()

    def _drop_empty_slots(self) -> None:
        empty_S = np.bincount(self.slot_R, minlength=len(self.lengths_S)) == 0
        left = int((~empty_S).sum())
        gaps, movers = np.flatnonzero(empty_S[:left]), left + np.flatnonzero(~empty_S[left:])
        _move(self.prompts, gaps, movers, int(self.lengths_S.max(initial=0)))
        renamed_S = np.arange(len(self.lengths_S))
        renamed_S[movers] = gaps
        self.slot_R = renamed_S[self.slot_R]
        self.lengths_S[gaps] = self.lengths_S[movers]
        self.lengths_S = self.lengths_S[:left]

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """What a model calls in every layer: keep what is new, give what the layout's `attend` is to be handed."""
        if (
            value_states.device.type == "cpu"
        ):  # few rows' products are no faster in bf16 there, and fp32 scores are the learner's
            kept = key_states.float(), value_states.float()
        else:
            kept = key_states.to(value_states.dtype), value_states
        if self._filling:
            if layer_idx not in self.prompts:
                self.prompts[layer_idx] = self._room(*kept, self.slots, self.longest, turned=self.device.type == "cpu")
            for slot, start, end in self._filling:
                for store, states in zip(self.prompts[layer_idx], kept, strict=True):
                    store[slot, :, : end - start] = states[0, :, start:end]
            return key_states, value_states
        assert self._step is not None
        own = self.own.get(layer_idx)
        if own is None or own[0].shape[2] < self._step.room:
            larger = self._room(*kept, self.slots * self.members, self._step.room)
            for store, before in zip(larger, own or (), strict=False):
                store[:, :, : before.shape[2]] = before
            self.own[layer_idx] = own = larger
        return self._step.write(own[0], kept[0]), self._step.write(own[1], kept[1])

    def _room(
        self, key_states: Tensor, value_states: Tensor, rows: int, tokens: int, *, turned: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Zeros, since what is not yet written takes part in products with weight 0. `turned` keys lie as [rows, K, D, tokens], as their
        product reads them: of many tokens that takes a third less time, while one token is written more slowly."""
        heads, width = key_states.shape[1], key_states.shape[3]
        keys = (
            key_states.new_zeros(rows, heads, width, tokens).mT
            if turned
            else key_states.new_zeros(rows, heads, tokens, width)
        )
        return keys, value_states.new_zeros(rows, heads, tokens, value_states.shape[3])

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0  # positions are given with every call


def _move(stores: dict[int, tuple[Tensor, Tensor]], gaps: np.ndarray, movers: np.ndarray, tokens: int) -> None:
    """The first `tokens` of the movers' keys and values to where the gaps are."""
    if len(gaps):
        for store in (tensor for pair in stores.values() for tensor in pair):
            store[torch.from_numpy(gaps), :, :tokens] = store[torch.from_numpy(movers), :, :tokens]


def _batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Neighbours together up to `budget`."""
    batches: list[list[int]] = []
    for index, length in enumerate(lengths):
        if not batches or sum(lengths[i] for i in batches[-1]) + length > budget:
            batches.append([])
        batches[-1].append(index)
    return batches
