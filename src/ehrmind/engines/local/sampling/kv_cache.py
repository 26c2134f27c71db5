"""The KV cache of a batch that is decoded: each prompt's keys and values once, and every row's own.

`KVCache` is the cache that `transformers` models write to. A slot holds one prompt, its rows are
the answers to it. When rows finish, the last rows move into the gaps. A slot without rows is free
for the next prompt.

Letters: `_S` slots in use, `_R` rows in use, `_K` key heads, `_L` prompt tokens, `_T` own tokens,
`_D` width, `_V` vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ehrmind.engines.local.forward.attention import SharedPrompt
from ehrmind.engines.local.forward.packing import Packing
from ehrmind.engines.local.sampling.decoding_step import Step
from ehrmind.engines.local.sampling.plain_layers import packed_layers
from ehrmind.engines.local.sampling.state_cache import StateCache
from ehrmind.engines.local.scoring import selected_logits

PREFILLED_AT_ONCE = 4096  # tokens; a longer prompt goes alone


class KVCache(StateCache):
    """Holds `slots` prompts of up to `longest` tokens, with `group_size` rows each."""

    def __init__(self, network: Any, slots: int, group_size: int, longest: int) -> None:
        super().__init__()
        self.network, self.device = network, next(network.parameters()).device
        self.slots, self.group_size, self.longest = slots, group_size, longest
        self.prompts: dict[int, tuple[Tensor, Tensor]] = {}  # by layer: keys and values [S, K, L, D]
        self.own: dict[int, tuple[Tensor, Tensor]] = {}  # by layer: keys and values [R, K, T, D]
        self.lengths_S = np.zeros(0, dtype=np.int64)  # lengths of the prompts in use
        self.slot_R = np.zeros(0, dtype=np.int64)  # each row's slot
        self.ages_R = np.zeros(0, dtype=np.int64)  # each row's own tokens so far
        self._filling: list[tuple[int, int, int]] = []  # (slot, start, end) of the prompts being prefilled
        self._step: Step | None = None

    @property
    def free(self) -> int:
        return self.slots - len(self.lengths_S)

    def admit(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Prefills prompts into free slots. Returns logits [prompts, V].

        New rows come after those in use, the rows of a prompt next to each other.
        """
        logits: list[Tensor] = []
        for batch in _batches([len(prompt) for prompt in prompts], PREFILLED_AT_ONCE):
            packing = Packing([(prompts[index], ()) for index in batch], self.device)
            used = len(self.lengths_S)
            self._filling = [(used + place, start, end) for place, (start, end) in enumerate(packing.trunks)]
            last_P = torch.tensor([end - 1 for _, end in packing.trunks], device=self.device)
            logits.append(self._prefilled(packing, last_P))
            self._filling = []
            slots = np.arange(used, used + len(batch))
            self.lengths_S = np.concatenate([self.lengths_S, [len(prompts[index]) for index in batch]])
            self.slot_R = np.concatenate([self.slot_R, slots.repeat(self.group_size)])
            self.ages_R = np.concatenate([self.ages_R, np.zeros(len(batch) * self.group_size, dtype=np.int64)])
        return torch.cat(logits)

    def rows_in_use(self) -> int:
        return len(self.slot_R)

    def compute(self, step: Step, tokens_R: Tensor, positions_R: Tensor) -> Tensor:
        """Runs the model on one token of every row. Returns logits [R, V]."""
        self._step, self.computed = step, step.rows
        if (plain := packed_layers(self.network)) is not None:
            return plain.logits(tokens_R, positions_R, self._attend_to_slots)
        output = self.network(
            input_ids=tokens_R[:, None],
            attention_mask=torch.zeros(1, 1, 1, 1, device=self.device),  # unused: the layout says what each token sees
            position_ids=positions_R[:, None],
            past_key_values=self,
            use_cache=True,
            layout=step,
        )
        logits: Tensor = output.logits[:, -1]
        return logits

    def _prefilled(self, packing: Packing, last_P: Tensor) -> Tensor:
        plain = packed_layers(self.network)
        if plain is None:
            return selected_logits(self.network, packing, last_P, cache=self)

        def attend(layer: int, query: Tensor, key: Tensor, value: Tensor, window: int | None) -> Tensor:
            query, key, value = (states_NHD.transpose(0, 1)[None] for states_NHD in (query, key, value))
            self.update(key, value, layer)
            out: Tensor = SharedPrompt.apply(query, key, value, packing, window, 1.0)
            return out.flatten(2)[0]

        return plain.logits(packing.ids_BN[0], packing.positions_BN[0], attend, last_P)

    def _attend_to_slots(self, layer: int, query: Tensor, key: Tensor, value: Tensor, window: int | None) -> Tensor:
        assert self._step is not None
        self._store(layer, key, value)
        return self._step.attended(layer, query, window)

    def room_for(self, growth: int) -> int:
        """Returns how many own tokens a row has room for once the next one is written, grown in
        steps of `growth`.
        """
        stored = next(iter(self.own.values()))[0].shape[2] if self.own else 0
        return max(stored, -(-(int(self.ages_R.max()) + 1) // growth) * growth)

    def drop(self, gone_R: np.ndarray) -> np.ndarray:
        """Removes rows. Returns the old number of each remaining row, in its new order."""
        order = np.arange(len(self.slot_R))
        stays = ~gone_R
        left = int(stays.sum())
        gaps, movers = np.flatnonzero(gone_R[:left]), left + np.flatnonzero(stays[left:])
        order[gaps] = movers
        order = order[:left]
        _move(self.own, gaps, movers, int(self.ages_R.max(initial=0)))
        self.move_states(gaps, movers)
        self.slot_R, self.ages_R = self.slot_R[order], self.ages_R[order]
        self._drop_empty_slots()
        return order

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
        """Stores new keys and values, as a model asks in every layer.

        Returns what the layout's `attend` is given.
        """
        if not self._filling:
            return self._store(layer_idx, key_states[:, :, 0], value_states[:, :, 0])
        kept = self._kept(key_states, value_states)
        if layer_idx not in self.prompts:
            self.prompts[layer_idx] = self._room(*kept, self.slots, self.longest, transposed=self.device.type == "cpu")
        for slot, start, end in self._filling:
            for store, states in zip(self.prompts[layer_idx], kept, strict=True):
                store[slot, :, : end - start] = states[0, :, start:end]
        return key_states, value_states

    def _store(self, layer: int, key_RKD: Tensor, value_RKD: Tensor) -> tuple[Tensor, Tensor]:
        """Stores the keys and values of one token of every row."""
        assert self._step is not None
        own = self.own.get(layer)
        if own is None or own[0].shape[2] < self._step.room:
            larger = self._room(*self._kept(key_RKD, value_RKD), self.slots * self.group_size, self._step.room)
            for store, before in zip(larger, own or (), strict=False):
                store[:, :, : before.shape[2]] = before
            self.own[layer] = larger
        return self._step.write(layer, key_RKD, value_RKD)

    def _kept(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Casts keys: the learner's scores are fp32 on CPU, its weighted sums have the type of
        values.
        """
        return keys.float() if values.device.type == "cpu" else keys.to(values.dtype), values

    def _room(
        self, key_states: Tensor, value_states: Tensor, rows: int, tokens: int, *, transposed: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Allocates keys and values as zeros, because unwritten places take part in matmuls with
        weight 0.

        `transposed` keys lie as [rows, K, D, tokens], as their matmul reads them. For many tokens
        that takes a third less time, while writing one token is slower.
        """
        heads, width = key_states.shape[1], key_states.shape[-1]
        shape = (rows, heads, width, tokens) if transposed else (rows, heads, tokens, width)
        keys = key_states.new_zeros(shape)
        return keys.mT if transposed else keys, value_states.new_zeros(rows, heads, tokens, value_states.shape[-1])

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0  # positions are given with every call


def _move(stores: dict[int, tuple[Tensor, Tensor]], gaps: np.ndarray, movers: np.ndarray, tokens: int) -> None:
    """Copies the first `tokens` keys and values of the movers into the gaps."""
    if len(gaps):
        for store in (tensor for pair in stores.values() for tensor in pair):
            store[torch.from_numpy(gaps), :, :tokens] = store[torch.from_numpy(movers), :, :tokens]


def _batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Groups neighbours up to `budget` tokens."""
    batches: list[list[int]] = []
    for index, length in enumerate(lengths):
        if not batches or sum(lengths[i] for i in batches[-1]) + length > budget:
            batches.append([])
        batches[-1].append(index)
    return batches
