"""Groups laid side by side in one sequence without padding: `[prompt | c1 | … | cG | prompt | c1 | …]`.

Positions restart after the prompt for each completion, and a completion sees its prompt and itself. A prompt with one
completion is an ordinary sequence. Who sees whom is said by `Packing.pieces`; `attention.py` computes it.

Letters: `_B` one sequence, `_N` its packed tokens, `_M` completions, `_C` the longest completion's tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache, cached_property, lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

Packed = tuple[Sequence[int], Sequence[Sequence[int]]]  # prompt ids, completions' ids


SHORT = 512  # tokens of a completion: up to here they are computed many at a time, each against its whole self
FAR = -1e9  # finite, so that a query which sees nothing in a piece gets weight 0 in the merge and not NaN


class Piece(NamedTuple):
    """Queries [start, end) look at keys [start, end): at those not ahead where `causal`, else at all, with `mask` added to the
    scores. `merging`: these queries look at themselves too, in a piece of another kind."""

    queries: tuple[int, int]
    keys: tuple[int, int]
    causal: bool
    mask: Tensor | None
    merging: bool


class Pieces(NamedTuple):
    """What a packing's attention is made of: trunks and long completions to themselves, completions to their prompt, and, many at
    a time, short completions to themselves."""

    causal: list[Piece]
    branches: list[Piece]
    own_mask: Tensor | None  # none: just not ahead


class Packing:
    """Token ids and positions [1, N] of packed groups, and which stretches of them attend to which."""

    def __init__(self, groups: Sequence[Packed], device: torch.device) -> None:
        ids: list[int] = []
        positions: list[int] = []
        self.predictors: list[int] = []  # where each completion token is predicted; the prompt's last stands G times
        self.targets: list[int] = []
        self.trunks: list[tuple[int, int]] = []
        self.branches: list[tuple[tuple[int, int], tuple[int, int]]] = []  # a trunk, and the stretch of its completions
        self.completions: list[tuple[int, int]] = []  # of groups with several
        for prompt, completions in groups:
            start = len(ids)
            ids += prompt
            positions += range(len(prompt))
            prompt_end = len(ids)
            for completion in completions:
                begin = len(ids)
                ids += completion
                positions += range(len(prompt), len(prompt) + len(completion))
                if completion:
                    if len(completions) > 1:
                        self.completions.append((begin, len(ids)))
                    self.predictors += [prompt_end - 1, *range(begin, len(ids) - 1)]
                    self.targets += completion
            if len(completions) == 1:
                self.trunks.append((start, len(ids)))
            else:
                self.trunks.append((start, prompt_end))
                if len(ids) > prompt_end:
                    self.branches.append(((start, prompt_end), (prompt_end, len(ids))))
        self.ids_BN = torch.tensor([ids], dtype=torch.long, device=device)
        self.positions_BN = torch.tensor([positions], dtype=torch.long, device=device)
        self.own = [place for place in self.completions if place[1] - place[0] <= SHORT]
        self.places_MC, self.valid_MC = _places(self.own, device)
        self._pieces: dict[int | None, Pieces] = {}
        self.block_masks: dict[int | None, Any] = {}  # FlexAttention's, filled where they are used

    @cached_property
    def valid_N(self) -> Tensor:
        """Where `places_MC`, laid flat, has a token; on CUDA, where nothing asks, it would wait for the device."""
        return self.valid_MC.flatten().nonzero()[:, 0]

    @cached_property
    def own_N(self) -> Tensor:
        """The packed places of the short completions' tokens."""
        return self.places_MC.flatten()[self.valid_N]

    def pieces(self, window: int | None) -> Pieces:
        """Under a sliding window; made once for all layers that have it."""
        if window not in self._pieces:
            positions_N = self.positions_BN[0]
            long = [(start, end) for start, end in self.completions if end - start > SHORT]
            longest = self.places_MC.shape[1]
            offsets_C = torch.arange(longest, device=positions_N.device)
            self._pieces[window] = Pieces(
                [piece for stretch in self.trunks + long for piece in _causal(stretch, window)],
                [piece for branch in self.branches for piece in _branch(*branch, window, positions_N)],
                None if window is None or window >= longest else _mask(offsets_C, offsets_C, window),
            )
        return self._pieces[window]

    def segments(self) -> tuple[Tensor, Tensor]:
        """(number of the group, number of the completion within the packing, 0 for trunks), each [1, N]."""
        groups_BN, segments_BN = torch.zeros_like(self.ids_BN), torch.zeros_like(self.ids_BN)
        for number, (start, _) in enumerate(self.trunks):
            groups_BN[0, start:] = number
        for number, (start, end) in enumerate(self.completions, start=1):
            segments_BN[0, start:end] = number
        return groups_BN, segments_BN


def _places(own: Sequence[tuple[int, int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Where token c of completion m lies, and whether it has one; beyond its end its last place is repeated."""
    if not own:
        return torch.zeros((0, 0), dtype=torch.long, device=device), torch.zeros(
            (0, 0), dtype=torch.bool, device=device
        )
    starts_M1, ends_M1 = (torch.tensor(side, device=device)[:, None] for side in zip(*own, strict=True))
    offsets_C = torch.arange(int((ends_M1 - starts_M1).max()), device=device)
    places_MC = starts_M1 + offsets_C
    return places_MC.minimum(ends_M1 - 1), places_MC < ends_M1


def _causal(stretch: tuple[int, int], window: int | None) -> Iterator[Piece]:
    """To itself: at once where the window is no shorter, otherwise by blocks of a window's length, so that cost stays linear."""
    start, end = stretch
    if window is None or end - start <= window:
        yield Piece(stretch, stretch, causal=True, mask=None, merging=False)
        return
    for block in range(start, end, window):
        queries, keys = (block, min(block + window, end)), (max(start, block - window + 1), min(block + window, end))
        yield Piece(
            queries,
            keys,
            causal=False,
            mask=_band(block - keys[0], queries[1] - block, keys[1] - keys[0], window),
            merging=False,
        )


def _branch(
    trunk: tuple[int, int], completions: tuple[int, int], window: int | None, positions_N: Tensor
) -> Iterator[Piece]:
    start, end = trunk
    if window is None:
        yield Piece(completions, trunk, causal=False, mask=None, merging=True)
    elif window > 1:
        keys = (max(start, end - window + 1), end)
        mask = _mask(positions_N[slice(*completions)], positions_N[slice(*keys)], window)
        yield Piece(completions, keys, causal=False, mask=mask, merging=True)


def _mask(queries: Tensor, keys: Tensor, window: int | None) -> Tensor:
    """What to add to scores: a key must be 0 ≤ distance < window behind its query."""
    distances = queries[:, None] - keys[None, :]
    return hiding(distances < 0 if window is None else (distances < 0) | (distances >= window))


def hiding(hidden: Tensor) -> Tensor:
    """What to add to scores so that these count for nothing."""
    return torch.zeros(hidden.shape, device=hidden.device).masked_fill_(hidden, FAR)


@lru_cache(maxsize=8)
def _band(first: int, queries: int, keys: int, window: int) -> Tensor:
    """What to add to the scores of neighbouring tokens, the first query `first` tokens behind the first key; on CPU."""
    with torch.inference_mode(False):
        return _mask(first + torch.arange(queries), torch.arange(keys), window)


@cache
def ahead(length: int) -> Tensor:
    """What to add to the scores of `length` tokens to themselves, on CPU."""
    with torch.inference_mode(False):
        return _mask(torch.arange(length), torch.arange(length), None)
