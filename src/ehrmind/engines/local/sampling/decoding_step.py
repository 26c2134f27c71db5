"""Decoding steps: which keys every row sees when a token is computed for each, and the attention
over them.

Rows are answers being written. A slot of the KV cache holds one prompt and serves the rows of its
group.

Letters: `_S` slots, `_G` most rows of a slot, `_R` rows, `_L` prompt tokens, `_T` own tokens, `_K`
key heads, `_D` width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ehrmind.engines.local.forward.matmul import batched_matmul
from ehrmind.engines.local.forward.packing import hiding

Stores = Mapping[int, tuple[Tensor, Tensor]]  # by layer: keys and values


class RowsBySlot:
    """Brings rows [R, K, H, D] to their slots [S, K, G, H, D] and back, as [S, G, K, H, D] or
    [1, R, K, H, D].

    `rows_SG` lists each slot's rows. `back_R` is where a row stands among them. It is None if every
    slot has all its rows in order: then both directions are views.
    """

    def __init__(self, rows_SG: Tensor, back_R: Tensor | None) -> None:
        self.rows_SG, self.back_R = rows_SG, back_R
        self.slots, self.most = rows_SG.shape

    def gather(self, states_RKHD: Tensor) -> Tensor:
        if self.back_R is not None:
            states_RKHD = states_RKHD[self.rows_SG.view(-1)]
        return states_RKHD.view(self.slots, self.most, *states_RKHD.shape[1:]).transpose(1, 2)

    def scatter(self, states_SKGHD: Tensor) -> Tensor:
        states_SGKHD = states_SKGHD.transpose(1, 2)
        return states_SGKHD if self.back_R is None else states_SGKHD.flatten(0, 1)[None, self.back_R]


class _Layer(NamedTuple):
    """Keys and values of a layer that a step reads, as its matmuls take them."""

    prompt_keys_BDL: Tensor
    prompt_values_BLD: Tensor
    own_keys_RKTD: Tensor
    own_values_RKTD: Tensor
    own_keys_CDT: Tensor
    own_values_CTD: Tensor


class _Scores(NamedTuple):
    """Room for the scores of one layer after the other.

    Those of a prompt and of own tokens lie next to each other, where one softmax reads them.
    """

    all_BXZ: Tensor
    of_prompt_BXL: Tensor
    of_own_SKGHT: Tensor
    weights_BXL: Tensor | None  # of the prompt, if values have another type


class Step:
    """The layout of decoding steps of the same rows: one new token for every row.

    `prompts` are the prompts' keys and values by layer, `own` those of the rows' own tokens.
    `lengths_S` are the prompts' lengths, none above `longest`. `room` is how many own tokens are
    stored for a row. The tensors lie on the device, so that a captured CUDA graph finds new values
    in them. `ragged`: some prompt may be shorter than the longest.

    Letters: `_B` slots · key heads, `_X` rows · query heads of one of them, `_Z` prompt and own
    tokens, `_C` rows · key heads.
    """

    def __init__(
        self,
        prompts: Stores,
        own: Stores,
        by_slot: RowsBySlot,
        lengths_S: Tensor,
        *,
        rows: int,
        longest: int,
        room: int,
        ragged: bool = True,
    ) -> None:
        self.prompts, self.own, self.by_slot, self.lengths_S = prompts, own, by_slot, lengths_S
        self.rows, self.longest, self.room, self.ragged = rows, longest, room, ragged
        self.rows_R = torch.arange(rows, device=lengths_S.device)
        self._bmm = batched_matmul(lengths_S.device)  # torch's own is faster for a row's few scores
        self._layers: dict[int, _Layer] = {}
        self._scores: dict[tuple[int, ...], _Scores] = {}

    def begin(self, ages_R: Tensor, age: int | None) -> Step:
        """Begins the next step. `ages_R` counts each row's own tokens so far; `age` is that number
        if all rows have the same.
        """
        self.ages_R, self.age = ages_R, age
        self._masks: dict[int | None, tuple[Tensor | None, Tensor]] = {}
        return self

    def write(self, layer: int, key_RKD: Tensor, value_RKD: Tensor) -> tuple[Tensor, Tensor]:
        """Stores the new token's keys and values.

        Returns the rows' own [R, K, T, D], with zeros beyond.
        """
        states = self._layers.get(layer) or self._of_layer(layer)
        keys, values = states.own_keys_RKTD, states.own_values_RKTD
        if self.age is not None:
            keys.select(2, self.age).copy_(key_RKD)
            values.select(2, self.age).copy_(value_RKD)
        else:
            keys[self.rows_R, :, self.ages_R] = key_RKD.to(keys.dtype)
            values[self.rows_R, :, self.ages_R] = value_RKD
        return keys, values

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, window: int | None, scale: float) -> Tensor:
        """Attends with [R, H, 1, D] queries to the prompt and to a row's own tokens, which were
        stored. Returns [R, 1, H, D].
        """
        rows, heads, _, width = query.shape
        out = self.attended(layer, (query[:, :, 0] * scale).to(key.dtype), window)
        return out.view(rows, 1, heads, width).to(query.dtype)

    def attended(self, layer: int, query_RHD: Tensor, window: int | None) -> Tensor:
        """Attends with scaled queries to the prompt and to a row's own tokens. Returns [R, H · D].

        Query heads that share a key head, and the rows of a slot, are rows of one matmul.
        """
        states = self._layers[layer]
        rows, key_heads, room, width = states.own_keys_RKTD.shape
        query_RKHD = query_RHD.reshape(rows, key_heads, -1, width)
        query_BXD = self.by_slot.gather(query_RKHD).reshape(len(states.prompt_keys_BDL), -1, width)
        scores = self._scores.get(query_RKHD.shape) or self._room_for_scores(query_RKHD, states)
        prompt_mask, own_mask = self._masks.get(window) or self._masked(window, query_RKHD)
        own_CHT = torch.bmm(query_RKHD.flatten(0, 1), states.own_keys_CDT)
        torch.add(self.by_slot.gather(own_CHT.view(rows, key_heads, -1, room)), own_mask, out=scores.of_own_SKGHT)
        self._bmm(query_BXD, states.prompt_keys_BDL, out=scores.of_prompt_BXL)
        if prompt_mask is not None:
            scores.of_prompt_BXL.unflatten(0, (-1, key_heads)).add_(prompt_mask)
        torch.softmax(scores.all_BXZ, -1, out=scores.all_BXZ)  # fp32 inside
        own = self.by_slot.scatter(scores.of_own_SKGHT)
        own = own.to(states.own_values_CTD.dtype, memory_format=torch.contiguous_format).flatten(0, 2)
        own_CHD = self._bmm(own, states.own_values_CTD)
        weights_BXL = scores.of_prompt_BXL
        if scores.weights_BXL is not None:
            weights_BXL = scores.weights_BXL.copy_(weights_BXL)
        seen_BXD = self._bmm(weights_BXL, states.prompt_values_BLD)
        seen = self.by_slot.scatter(seen_BXD.view(*scores.of_own_SKGHT.shape[:4], width))
        return own_CHD.view(seen.shape).add_(seen).view(rows, -1)

    def _of_layer(self, layer: int) -> _Layer:
        keys, values = (store[: self.by_slot.slots, :, : self.longest].flatten(0, 1) for store in self.prompts[layer])
        own = [store[: self.rows, :, : self.room] for store in self.own[layer]]
        own_keys, own_values = (store.flatten(0, 1) for store in own)
        self._layers[layer] = _Layer(keys.mT, values, own[0], own[1], own_keys.mT, own_values)
        return self._layers[layer]

    def _room_for_scores(self, query_RKHD: Tensor, states: _Layer) -> _Scores:
        _, key_heads, repeats, _ = query_RKHD.shape
        slots, most, values = self.by_slot.slots, self.by_slot.most, states.prompt_values_BLD
        all_BXZ = query_RKHD.new_empty(slots * key_heads, most * repeats, self.longest + self.room)
        of_prompt = all_BXZ[..., : self.longest]
        of_own = all_BXZ[..., self.longest :].view(slots, key_heads, most, repeats, self.room)
        narrow = None if values.dtype == all_BXZ.dtype else values.new_empty(of_prompt.shape)
        self._scores[query_RKHD.shape] = _Scores(all_BXZ, of_prompt, of_own, narrow)
        return self._scores[query_RKHD.shape]

    def _masked(self, window: int | None, query_RKHD: Tensor) -> tuple[Tensor | None, Tensor]:
        """Builds what is added to scores: prompt keys [S, 1, 1 or rows, L], None if all are seen;
        own keys [S, 1, G, 1, T].
        """
        prompt, own = self._prompt_mask(window, query_RKHD.shape[2]), self._own_mask(window)
        dtype = query_RKHD.dtype
        self._masks[window] = None if prompt is None else prompt.to(dtype), own.to(dtype)
        return self._masks[window]

    def _own_mask(self, window: int | None) -> Tensor:
        ages_SG = self.ages_R[self.by_slot.rows_SG]
        distances_SGT = ages_SG[..., None] - torch.arange(self.room, device=self.ages_R.device)
        return hiding((distances_SGT < 0) | (distances_SGT >= (window or self.room)))[:, None, :, None]

    def _prompt_mask(self, window: int | None, repeats: int) -> Tensor | None:
        places_L = torch.arange(self.longest, device=self.ages_R.device)
        absent_SL = places_L >= self.lengths_S[:, None]
        if window is None or self.longest + self.room <= window:
            return hiding(absent_SL)[:, None, None] if self.ragged else None
        ages_SG = self.ages_R[self.by_slot.rows_SG].repeat_interleave(repeats, 1)
        distances_SGL = (self.lengths_S[:, None] + ages_SG)[..., None] - places_L
        return hiding(absent_SL[:, None] | (distances_SGL >= window))[:, None]


def places_by_slot(slot_R: np.ndarray, slots: int, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the rows of each slot [S, G], padded with row 0, and the place of each row among them
    [R].
    """
    order_R = np.argsort(slot_R, kind="stable")
    counts_S = np.bincount(slot_R, minlength=slots)
    places_R = np.concatenate([slot * most + np.arange(count) for slot, count in enumerate(counts_S)])
    rows, back = np.zeros(slots * most, dtype=np.int64), np.empty_like(order_R)
    rows[places_R] = order_R
    back[order_R] = places_R
    return rows.reshape(slots, most), back


def rows_by_slot(slot_R: np.ndarray, slots: int, device: torch.device) -> RowsBySlot:
    """Builds the two directions for rows whose slots are `slot_R`."""
    counts_S = np.bincount(slot_R, minlength=slots)
    rows_SG, back_R = places_by_slot(slot_R, len(counts_S), int(counts_S.max()))
    in_order = rows_SG.size == len(back_R) and bool((rows_SG.ravel() == np.arange(rows_SG.size)).all())
    rows, back = (torch.from_numpy(numbers).to(device) for numbers in (rows_SG, back_R))
    return RowsBySlot(rows, None if in_order else back)
