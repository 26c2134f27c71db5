"""One decoding step: which keys every row sees when a token is computed for each, and the attention
over them.

Rows are answers being written. A slot of the KV cache holds one prompt and serves the rows of its
group.

Letters: `_S` slots, `_G` most rows of a slot, `_R` rows, `_L` prompt tokens, `_T` own tokens, `_K`
key heads, `_D` width.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from ehrmind.engines.local.forward.matmul import batches_by_onednn
from ehrmind.engines.local.forward.packing import hiding

Stores = Mapping[int, tuple[Tensor, Tensor]]  # by layer: keys and values


class RowsBySlot:
    """Brings rows [R, K, H, D] to their slots [S, K, G, H, D] and back.

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
        states_RKHD = states_SKGHD.transpose(1, 2).flatten(0, 1)
        return states_RKHD if self.back_R is None else states_RKHD[self.back_R]


class Step:
    """The layout of one step: one new token for every row.

    `prompts` are the prompts' keys and values by layer. `lengths_S` are the prompts' lengths, none
    above `longest`. `ages_R` counts each row's own tokens so far; `age` is that number if all rows
    have the same. `room` is how many own tokens are stored for a row. The tensors lie on the
    device, so that a captured CUDA graph finds new values in them. `ragged`: some prompt may be
    shorter than the longest.
    """

    def __init__(
        self,
        prompts: Stores,
        by_slot: RowsBySlot,
        ages_R: Tensor,
        lengths_S: Tensor,
        *,
        longest: int,
        room: int,
        age: int | None,
        ragged: bool = True,
    ) -> None:
        self.prompts, self.by_slot, self.ages_R, self.lengths_S = prompts, by_slot, ages_R, lengths_S
        self.rows, self.longest, self.room, self.age, self.ragged = len(ages_R), longest, room, age, ragged
        self.rows_R = torch.arange(self.rows, device=ages_R.device)
        self._masks: dict[int | None, tuple[Tensor | None, Tensor]] = {}
        self._scores: tuple[Tensor, Tensor | None] | None = None  # of one layer after the other

    def write(self, store_RKTD: Tensor, states_RKD: Tensor) -> Tensor:
        """Stores the new token's keys (or values).

        Returns the rows' own [R, K, T, D], with zeros beyond.
        """
        own_RKTD = store_RKTD[: self.rows]
        if self.age is not None:
            own_RKTD.select(2, self.age).copy_(states_RKD)
        else:
            own_RKTD[self.rows_R, :, self.ages_R] = states_RKD
        return own_RKTD

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, window: int | None, scale: float) -> Tensor:
        """Attends with [R, H, 1, D] queries to the prompt and to a row's own tokens. Returns [R, 1,
        H, D].
        """
        query_RHD = (query[:, :, 0] * scale).to(key.dtype)
        return self.attended(layer, query_RHD, key, value, window).to(query.dtype)[:, None]

    def attended(
        self, layer: int, query_RHD: Tensor, key_RKTD: Tensor, value_RKTD: Tensor, window: int | None
    ) -> Tensor:
        """Attends with scaled queries to the prompt and to a row's own tokens. Returns [R, H, D].

        Query heads that share a key head, and the rows of a slot, are rows of one matmul. Scores
        of prompt and own tokens lie next to each other, where one softmax reads them.
        """
        rows, key_heads, room, width = key_RKTD.shape
        slots, most, longest = self.by_slot.slots, self.by_slot.most, self.longest
        keys, values = (store[:slots, :, :longest].flatten(0, 1) for store in self.prompts[layer])
        query_RKHD = query_RHD.reshape(rows, key_heads, -1, width)
        query_BXD = self.by_slot.gather(query_RKHD).reshape(slots * key_heads, -1, width)
        scores_BXZ, weights_BXL = self._room_for_scores(query_BXD, room, value_RKTD.dtype)
        prompt_mask, own_mask = self.masks(window, query_RKHD.shape[2], scores_BXZ.dtype)
        own = torch.bmm(query_RKHD.flatten(0, 1), key_RKTD.flatten(0, 1).mT).view(rows, key_heads, -1, room)
        own_SKGHT = scores_BXZ[..., longest:].view(slots, key_heads, most, -1, room)
        torch.add(self.by_slot.gather(own), own_mask, out=own_SKGHT)
        with batches_by_onednn():
            seen_BXL = torch.bmm(query_BXD, keys.mT, out=scores_BXZ[..., :longest])
            if prompt_mask is not None:
                seen_BXL.view(slots, key_heads, -1, longest).add_(prompt_mask)
            torch.softmax(scores_BXZ, -1, out=scores_BXZ)  # fp32 inside
            own_RKHT = self.by_slot.scatter(own_SKGHT).to(value_RKTD.dtype, memory_format=torch.contiguous_format)
            out_RKHD = torch.bmm(own_RKHT.flatten(0, 1), value_RKTD.flatten(0, 1)).view(query_RKHD.shape)
            out_BXD = torch.bmm(seen_BXL if weights_BXL is None else weights_BXL.copy_(seen_BXL), values)
        out_RKHD += self.by_slot.scatter(out_BXD.view(slots, key_heads, most, -1, width))
        return out_RKHD.flatten(1, 2)

    def _room_for_scores(self, query_BXD: Tensor, room: int, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        """Returns room for scores, and for the prompt's weights if these have another type."""
        shape = *query_BXD.shape[:2], self.longest + room
        if self._scores is None or self._scores[0].shape != shape:
            scores = query_BXD.new_empty(shape)
            narrow = None if dtype == scores.dtype else scores.new_empty(*shape[:2], self.longest, dtype=dtype)
            self._scores = scores, narrow
        return self._scores

    def masks(self, window: int | None, repeats: int, dtype: torch.dtype) -> tuple[Tensor | None, Tensor]:
        """Builds what is added to scores: prompt keys [S, 1, 1 or rows, L], None if all are seen;
        own keys [S, 1, G, 1, T].
        """
        if window not in self._masks:
            prompt, own = self._prompt_mask(window, repeats), self._own_mask(window)
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
