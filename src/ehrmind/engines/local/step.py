"""One decoding step: who sees whom when a token is computed for every row of a `Slots`, and the attention that follows from it.

Letters: `_S` slots, `_G` most rows of a slot, `_R` rows, `_L` prompt tokens, `_T` own tokens, `_K` key heads, `_D` width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ehrmind.engines.local.packing import hiding

if TYPE_CHECKING:
    from ehrmind.engines.local.decoding import Slots

GROWTH = 16  # tokens by which the rows' own room grows: products over a whole store are faster than over a part of it


class Step:
    """Who sees whom when one token is computed for every row.

    `ages_R`: each row's own tokens so far, `age` where all have the same; `lengths_S`: the prompts', none above `longest`; `room`: of the
    rows' own tokens. All on the device, so that a captured step (`replay.py`) finds them changed."""

    def __init__(
        self,
        cache: Slots,
        by_slot: BySlot,
        ages_R: Tensor,
        lengths_S: Tensor,
        *,
        longest: int,
        room: int,
        age: int | None,
    ) -> None:
        self.cache, self.by_slot, self.ages_R, self.lengths_S = cache, by_slot, ages_R, lengths_S
        self.rows, self.longest, self.room, self.age = len(ages_R), longest, room, age
        self.ragged = True  # some prompt may be shorter than the longest
        self.rows_R = torch.arange(self.rows, device=ages_R.device)
        self._masks: dict[int | None, tuple[Tensor, Tensor | None]] = {}

    def write(self, store_RKTD: Tensor, states_RK1D: Tensor) -> Tensor:
        """Put the token's keys (values) in; the rows' own, [R, K, T, D], zeros where nothing is yet."""
        if self.age is not None:
            store_RKTD[: self.rows, :, self.age] = states_RK1D[:, :, 0]
        else:
            store_RKTD[self.rows_R, :, self.ages_R] = states_RK1D[:, :, 0]
        return store_RKTD[: self.rows]

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, window: int | None, scale: float) -> Tensor:
        """[R, H, 1, D] queries to [R, 1, H, D]; query heads that share a key head, and a slot's rows, are rows of one product."""
        rows, heads, _, width = query.shape
        query_RKHD = (query * scale).reshape(rows, key.shape[1], -1, width).to(key.dtype)
        prompt_keys, prompt_values = (
            store[: self.by_slot.slots, :, : self.longest] for store in self.cache.prompts[layer]
        )
        own_mask, prompt_mask = self.masks(window, query_RKHD.shape[2], key.dtype)
        own, seen = query_RKHD @ key.mT, self.by_slot.gather(query_RKHD) @ prompt_keys.mT
        own = own + own_mask
        seen = seen if prompt_mask is None else seen + prompt_mask
        weights = torch.softmax(
            torch.cat([seen, self.by_slot.gather(own)], dim=-1), dim=-1
        )  # fp32 within, whatever the scores are
        of_prompt, of_own = weights[..., : self.longest], self.by_slot.scatter(weights[..., self.longest :])
        out = self.by_slot.scatter(of_prompt @ prompt_values) + of_own @ value
        return out.reshape(rows, 1, heads, width).to(query.dtype)  # a single slot is strided otherwise

    def masks(self, window: int | None, repeats: int, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        """What to add to scores for own keys [R, 1, 1, T], and for the prompt's [S, 1, 1 or rows, L] unless all are seen."""
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


def step_of(cache: Slots, before: Step | None) -> Step:
    """The next step of the rows as they are; `before` has the same rows."""
    ages_R, age = cache.ages_R, int(cache.ages_R.max())
    even = bool((ages_R == age).all())
    by_slot = before.by_slot if before is not None else by_slot_of(cache)
    ages, lengths = (torch.from_numpy(numbers).to(cache.device) for numbers in (ages_R, cache.lengths_S))
    step = Step(
        cache,
        by_slot,
        ages,
        lengths,
        longest=int(cache.lengths_S.max()),
        room=cache.room_for(GROWTH),
        age=age if even else None,
    )
    step.ragged = bool((cache.lengths_S < step.longest).any())
    return step


class BySlot:
    """Brings rows [R, K, H, D] to their slots [S, K, G · H, D] and back. `rows_SG`: each slot's rows; `back_R`: where a row stands among
    them, None where every slot has all its rows in order, so that both ways are views."""

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


def places_by_slot(slot_R: np.ndarray, slots: int, most: int) -> tuple[np.ndarray, np.ndarray]:
    """(rows of each slot [S, G], row 0 where it has fewer than `most`; the place of each row among them [R])"""
    order_R = np.argsort(slot_R, kind="stable")
    counts_S = np.bincount(slot_R, minlength=slots)
    places_R = np.concatenate([slot * most + np.arange(count) for slot, count in enumerate(counts_S)])
    rows, back = np.zeros(slots * most, dtype=np.int64), np.empty_like(order_R)
    rows[places_R] = order_R
    back[order_R] = places_R
    return rows.reshape(slots, most), back


def by_slot_of(cache: Slots) -> BySlot:
    counts_S = np.bincount(cache.slot_R, minlength=len(cache.lengths_S))
    rows_SG, back_R = places_by_slot(cache.slot_R, len(counts_S), int(counts_S.max()))
    in_order = rows_SG.size == len(back_R) and bool((rows_SG.ravel() == np.arange(rows_SG.size)).all())
    rows, back = (torch.from_numpy(numbers).to(cache.device) for numbers in (rows_SG, back_R))
    return BySlot(rows, None if in_order else back)
