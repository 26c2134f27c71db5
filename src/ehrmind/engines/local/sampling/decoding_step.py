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

from ehrmind.engines.local.forward.packing import hiding

Stores = Mapping[int, tuple[Tensor, Tensor]]  # by layer: keys and values


class RowsBySlot:
    """Brings rows [R, K, H, D] to their slots [S, K, G · H, D] and back.

    `rows_SG` lists each slot's rows. `back_R` is where a row stands among them. It is None if every
    slot has all its rows in order: then both directions are views.
    """

    def __init__(self, rows_SG: Tensor, back_R: Tensor | None) -> None:
        self.rows_SG, self.back_R = rows_SG, back_R
        self.slots, self.most = rows_SG.shape

    def gather(self, query_RKHD: Tensor) -> Tensor:
        _, key_heads, repeats, width = query_RKHD.shape
        if self.back_R is not None:
            query_RKHD = query_RKHD[self.rows_SG.view(-1)]
        by_slot = query_RKHD.reshape(self.slots, self.most, key_heads, repeats, width)
        return by_slot.transpose(1, 2).reshape(self.slots, key_heads, self.most * repeats, width)

    def scatter(self, seen_SKGD: Tensor) -> Tensor:
        slots, key_heads, rows, width = seen_SKGD.shape
        by_row = seen_SKGD.reshape(slots, key_heads, self.most, rows // self.most, width).transpose(1, 2)
        flat = by_row.reshape(slots * self.most, key_heads, rows // self.most, width)
        return flat if self.back_R is None else flat[self.back_R]


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
        self._masks: dict[int | None, tuple[Tensor, Tensor | None]] = {}

    def write(self, store_RKTD: Tensor, states_RK1D: Tensor) -> Tensor:
        """Stores the new token's keys (or values).

        Returns the rows' own [R, K, T, D], with zeros beyond.
        """
        if self.age is not None:
            store_RKTD[: self.rows, :, self.age] = states_RK1D[:, :, 0]
        else:
            store_RKTD[self.rows_R, :, self.ages_R] = states_RK1D[:, :, 0]
        return store_RKTD[: self.rows]

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, window: int | None, scale: float) -> Tensor:
        """Attends with [R, H, 1, D] queries to the prompt and to a row's own tokens. Returns [R, 1,
        H, D].

        Query heads that share a key head, and the rows of a slot, are rows of one matmul.
        """
        rows, heads, _, width = query.shape
        query_RKHD = (query * scale).reshape(rows, key.shape[1], -1, width).to(key.dtype)
        prompt_keys, prompt_values = (store[: self.by_slot.slots, :, : self.longest] for store in self.prompts[layer])
        own_mask, prompt_mask = self.masks(window, query_RKHD.shape[2], key.dtype)
        own, seen = query_RKHD @ key.mT, self.by_slot.gather(query_RKHD) @ prompt_keys.mT
        own = own + own_mask
        seen = seen if prompt_mask is None else seen + prompt_mask
        weights = torch.softmax(torch.cat([seen, self.by_slot.gather(own)], dim=-1), dim=-1)  # fp32 inside
        weights = weights.to(value.dtype)
        of_prompt, of_own = weights[..., : self.longest], self.by_slot.scatter(weights[..., self.longest :])
        out = self.by_slot.scatter(of_prompt @ prompt_values) + of_own @ value
        return out.reshape(rows, 1, heads, width).to(query.dtype)  # a single slot is strided otherwise

    def masks(self, window: int | None, repeats: int, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        """Builds what is added to scores: own keys [R, 1, 1, T]; prompt keys [S, 1, 1 or rows, L],
        None if all are seen.
        """
        if window not in self._masks:
            prompt = self._prompt_mask(window, repeats)
            self._masks[window] = self._own_mask(window).to(dtype), None if prompt is None else prompt.to(dtype)
        return self._masks[window]

    def _own_mask(self, window: int | None) -> Tensor:
        distances_RT = self.ages_R[:, None] - torch.arange(self.room, device=self.ages_R.device)
        return hiding((distances_RT < 0) | (distances_RT >= (window or self.room)))[:, None, None]

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
