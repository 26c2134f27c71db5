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

from ehrmind.engines.local.packing import Packing, hiding
from ehrmind.engines.local.scoring import selected_logits

PREFILLED_AT_ONCE = 4096  # tokens; a longer prompt goes alone
GROWTH = 16  # tokens by which the rows' own room grows: products over a whole store are faster than over a part of it


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
        self._filling: list[tuple[int, int, int]] = []  # (slot, start, end) of the prompts in the sequence being prefilled
        self._step: Step | None = None

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
        self._step = None
        return torch.cat(logits)

    def step(self, tokens_R: Tensor) -> Tensor:
        """Append one token to every row. Logits [R, V] of the next."""
        self._step = Step(self, self._step)
        output = self.network(
            input_ids=tokens_R[:, None],
            attention_mask=torch.zeros(1, 1, 1, 1, device=self.device),  # as it is: the layout says who sees whom
            position_ids=torch.from_numpy(self.lengths_S[self.slot_R] + self.ages_R).to(self.device)[:, None],
            past_key_values=self,
            use_cache=True,
            layout=self._step,
        )
        self.ages_R = self.ages_R + 1
        logits: Tensor = output.logits[:, -1]
        return logits

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
        self._step = None
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

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """What a model calls in every layer: keep what is new, give what the layout's `attend` is to be handed."""
        if value_states.device.type == "cpu":  # few rows' products are no faster in bf16 there, and fp32 scores are the learner's
            kept = key_states.float(), value_states.float()
        else:
            kept = key_states.to(value_states.dtype), value_states
        if self._filling:
            if layer_idx not in self.prompts:
                self.prompts[layer_idx] = self._room(*kept, self.slots, self.longest, turned=True)
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

    def _room(self, key_states: Tensor, value_states: Tensor, rows: int, tokens: int, *, turned: bool = False) -> tuple[Tensor, Tensor]:
        """Zeros, since what is not yet written takes part in products with weight 0. `turned` keys lie as [rows, K, D, tokens], as their
        product reads them: of many tokens that takes a third less time, while one token is written more slowly."""
        heads, width = key_states.shape[1], key_states.shape[3]
        keys = key_states.new_zeros(rows, heads, width, tokens).mT if turned else key_states.new_zeros(rows, heads, tokens, width)
        return keys, value_states.new_zeros(rows, heads, tokens, value_states.shape[3])

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0  # positions are given with every call


class Step:
    """Who sees whom when one token is computed for every row; made anew for every token."""

    def __init__(self, cache: Slots, before: Step | None) -> None:
        self.cache = cache
        self.rows, self.longest, self.age = len(cache.slot_R), int(cache.lengths_S.max()), int(cache.ages_R.max())
        stored = next(iter(cache.own.values()))[0].shape[2] if cache.own else 0
        self.room = max(stored, -(-(self.age + 1) // GROWTH) * GROWTH)
        self.even = bool((cache.ages_R == self.age).all())
        self.ages_R = torch.from_numpy(cache.ages_R).to(cache.device)
        self.rows_R = torch.arange(self.rows, device=cache.device)
        self.by_slot: BySlot = before.by_slot if before is not None else BySlot(cache)
        self._masks: dict[int | None, tuple[Tensor, Tensor | None]] = {}

    def write(self, store_RKTD: Tensor, states_RK1D: Tensor) -> Tensor:
        """Put the token's keys (values) in; the rows' own, [R, K, T, D], zeros where nothing is yet."""
        if self.even:
            store_RKTD[: self.rows, :, self.age] = states_RK1D[:, :, 0]
        else:
            store_RKTD[self.rows_R, :, self.ages_R] = states_RK1D[:, :, 0]
        return store_RKTD[: self.rows]

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, window: int | None, scale: float) -> Tensor:
        """[R, H, 1, D] queries to [R, 1, H, D]; query heads that share a key head, and a slot's rows, are rows of one product."""
        rows, heads, _, width = query.shape
        query_RKHD = (query * scale).view(rows, key.shape[1], -1, width).to(key.dtype)
        prompt_keys, prompt_values = (store[: self.by_slot.slots, :, : self.longest] for store in self.cache.prompts[layer])
        own_mask, prompt_mask = self.masks(window, query_RKHD.shape[2])
        own, seen = (query_RKHD @ key.mT).float(), (self.by_slot.gather(query_RKHD) @ prompt_keys.mT).float()
        own = own + own_mask
        seen = seen if prompt_mask is None else seen + prompt_mask
        weights = torch.softmax(torch.cat([seen, self.by_slot.gather(own)], dim=-1), dim=-1).to(value.dtype)
        of_prompt, of_own = weights[..., : self.longest], self.by_slot.scatter(weights[..., self.longest :])
        out = self.by_slot.scatter(of_prompt @ prompt_values) + of_own @ value
        return out.view(rows, 1, heads, width).to(query.dtype)

    def masks(self, window: int | None, repeats: int) -> tuple[Tensor, Tensor | None]:
        """What to add to scores for own keys [R, 1, 1, T], and for the prompt's [S, 1, 1 or rows, L] unless all are seen."""
        if window not in self._masks:
            self._masks[window] = self._own_mask(window), self._prompt_mask(window, repeats)
        return self._masks[window]

    def _own_mask(self, window: int | None) -> Tensor:
        distances_RT = self.ages_R[:, None] - torch.arange(self.room, device=self.ages_R.device)
        return hiding((distances_RT < 0) | (distances_RT >= (window or self.room)))[:, None, None]

    def _prompt_mask(self, window: int | None, repeats: int) -> Tensor | None:
        lengths_S = torch.from_numpy(self.cache.lengths_S).to(self.ages_R.device)
        places_L = torch.arange(self.longest, device=self.ages_R.device)
        absent_SL = places_L >= lengths_S[:, None]
        if window is None or self.longest + self.age < window:
            return hiding(absent_SL)[:, None, None] if bool(absent_SL.any()) else None
        ages_SG = self.ages_R[self.by_slot.rows_SG].repeat_interleave(repeats, 1)
        distances_SGL = (lengths_S[:, None] + ages_SG)[..., None] - places_L
        return hiding(absent_SL[:, None] | (distances_SGL >= window))[:, None]


class BySlot:
    """Brings rows [R, K, H, D] to their slots [S, K, G · H, D] and back, by a view where every slot has all its rows in order."""

    def __init__(self, cache: Slots) -> None:
        order_R = np.argsort(cache.slot_R, kind="stable")
        counts_S = np.bincount(cache.slot_R, minlength=len(cache.lengths_S))
        self.slots, self.most = len(counts_S), int(counts_S.max())
        places_R = np.concatenate([slot * self.most + np.arange(count) for slot, count in enumerate(counts_S)])
        rows = np.zeros(self.slots * self.most, dtype=np.int64)
        rows[places_R] = order_R
        back = np.empty_like(order_R)
        back[order_R] = places_R
        self.rows_SG = torch.from_numpy(rows).view(self.slots, self.most).to(cache.device)
        self.back_R = torch.from_numpy(back).to(cache.device)
        self.in_order = len(rows) == len(order_R) and bool((rows == np.arange(len(rows))).all())

    def gather(self, query_RKHD: Tensor) -> Tensor:
        _, key_heads, repeats, width = query_RKHD.shape
        if not self.in_order:
            query_RKHD = query_RKHD[self.rows_SG.view(-1)]
        by_slot = query_RKHD.view(self.slots, self.most, key_heads, repeats, width)
        return by_slot.transpose(1, 2).reshape(self.slots, key_heads, self.most * repeats, width)

    def scatter(self, seen_SKGD: Tensor) -> Tensor:
        slots, key_heads, rows, width = seen_SKGD.shape
        by_row = seen_SKGD.view(slots, key_heads, self.most, rows // self.most, width).transpose(1, 2)
        flat = by_row.reshape(slots * self.most, key_heads, rows // self.most, width)
        return flat if self.in_order else flat[self.back_R]


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
