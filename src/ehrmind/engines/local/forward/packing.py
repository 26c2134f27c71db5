"""Packs groups into one sequence without padding: `[prompt | c1 | … | cG | prompt | c1 | …]`.

Positions restart after the prompt for each completion. A completion sees its prompt and itself. A
prompt with one completion is a plain sequence. `Packing.pieces` says which tokens see which;
`attention.py` computes it.

Letters: `_B` one sequence, `_N` its packed tokens, `_M` completions, `_C` the longest completion's
tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache, cached_property, lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

Packed = tuple[Sequence[int], Sequence[Sequence[int]]]  # prompt ids, completions' ids


SHORT = 512  # tokens; shorter completions attend to themselves many at a time
FAR = -1e9  # finite: a query that sees nothing in a piece gets weight 0 in the merge, not NaN


class Piece(NamedTuple):
    """Queries [start, end) that attend to keys [start, end), to earlier ones only if `causal`.

    `mask` is added to the scores. `merging`: another piece lets these queries attend to themselves,
    and the two results are merged.
    """

    queries: tuple[int, int]
    keys: tuple[int, int]
    causal: bool
    mask: Tensor | None
    merging: bool


class Pieces(NamedTuple):
    """The parts of a packing's attention.

    `causal`: trunks and long completions to themselves. `branches`: completions to their prompt.
    `own_mask`: short completions to themselves; None stands for plain causal attention.
    """

    causal: list[Piece]
    branches: list[Piece]
    own_mask: Tensor | None


class Packing:
    """Token ids and positions [1, N] of packed groups, and the stretches that attend to each
    other.
    """

    def __init__(self, groups: Sequence[Packed], device: torch.device) -> None:
        ids: list[int] = []
        positions: list[int] = []
        self.predictors: list[int] = []  # the place before each completion token; the prompt's last place comes G times
        self.targets: list[int] = []
        self.trunks: list[tuple[int, int]] = []
        self.branches: list[tuple[tuple[int, int], tuple[int, int]]] = []  # a trunk and its completions
        self.completions: list[tuple[int, int]] = []  # of groups with several
        self.continued: list[int] = []  # the number of each such completion's trunk
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
                        self.continued.append(len(self.trunks))
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
        self.block_masks: dict[int | None, Any] = {}  # FlexAttention's, filled by attention.py
        self.state_plan: Any = None  # filled by states.py

    @cached_property
    def valid_N(self) -> Tensor:
        """Indices of real tokens in the flat `places_MC`.

        Lazy, because on CUDA it waits for the device.
        """
        return self.valid_MC.flatten().nonzero()[:, 0]

    @cached_property
    def own_N(self) -> Tensor:
        """Packed places of the short completions' tokens."""
        return self.places_MC.flatten()[self.valid_N]

    def pieces(self, window: int | None) -> Pieces:
        """Returns the attention's parts under a sliding window, built once for all layers that have
        it.
        """
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
        """Returns each token's group number and completion number (0 for trunks), both [1, N]."""
        groups_BN, segments_BN = torch.zeros_like(self.ids_BN), torch.zeros_like(self.ids_BN)
        for number, (start, _) in enumerate(self.trunks):
            groups_BN[0, start:] = number
        for number, (start, end) in enumerate(self.completions, start=1):
            segments_BN[0, start:end] = number
        return groups_BN, segments_BN


def _places(own: Sequence[tuple[int, int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns where token c of completion m lies and whether it exists.

    Beyond the end the last place is repeated.
    """
    if not own:
        return torch.zeros((0, 0), dtype=torch.long, device=device), torch.zeros(
            (0, 0), dtype=torch.bool, device=device
        )
    starts_M1, ends_M1 = (torch.tensor(side, device=device)[:, None] for side in zip(*own, strict=True))
    offsets_C = torch.arange(int((ends_M1 - starts_M1).max()), device=device)
    places_MC = starts_M1 + offsets_C
    return places_MC.minimum(ends_M1 - 1), places_MC < ends_M1


def _causal(stretch: tuple[int, int], window: int | None) -> Iterator[Piece]:
    """Yields the pieces of a stretch that attends to itself: one, or blocks of the window's length
    to keep cost linear.
    """
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
    """Builds what is added to scores: 0 for keys at distance 0 ≤ d < window behind their query,
    else `FAR`.
    """
    distances = queries[:, None] - keys[None, :]
    return hiding(distances < 0 if window is None else (distances < 0) | (distances >= window))


def hiding(hidden: Tensor) -> Tensor:
    """Builds what is added to scores so that hidden ones get weight 0."""
    return torch.zeros(hidden.shape, device=hidden.device).masked_fill_(hidden, FAR)


@lru_cache(maxsize=8)
def _band(first: int, queries: int, keys: int, window: int) -> Tensor:
    """Builds the mask of neighbouring tokens on CPU; the first query is `first` tokens behind the
    first key.
    """
    with torch.inference_mode(False):
        return _mask(first + torch.arange(queries), torch.arange(keys), window)


@cache
def ahead(length: int) -> Tensor:
    """Builds the causal mask of `length` tokens on CPU."""
    with torch.inference_mode(False):
        return _mask(torch.arange(length), torch.arange(length), None)
