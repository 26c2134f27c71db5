"""Computes answers a row each, for models whose prompts cannot be shared.

Models differ in what they compute correctly: padding may spoil the states of linear attention, and
some models ignore their cache. The way that a model needs is tried when it is opened (`trial.py`)
and kept with it.

Letters: `_R` rows, `_K` tokens so far, `_V` vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from ehrmind.engines.local.forward.rotary import forget_lengths, switch_of

ATTRIBUTE = "ehrmind_rows"  # of a model: how it takes its rows


@dataclass(frozen=True)
class Rows:
    """How a model takes rows.

    `cached`: a step computes one token on top of the cache, otherwise the whole sequence again.
    `padded`: rows of several lengths are decoded together, padded on the left; `masked`: every step
    gets the mask. `scored_padded`: such rows are scored together, padded on the right. Rows of one
    length always go together.
    """

    cached: bool = True
    padded: bool = True
    masked: bool = True
    scored_padded: bool = True


def rows_of(network: Any) -> Rows:
    found: Rows = getattr(network, ATTRIBUTE, None) or Rows()
    return found


def taken_by(network: Any) -> frozenset[str]:
    """Returns the names of the arguments that a model's forward pass takes."""
    inner = network.get_base_model() if hasattr(network, "get_base_model") else network
    return frozenset(inspect.signature(inner.forward).parameters)


class Written:
    """Sequences that grow by a token a step."""

    def __init__(self, network: Any, rows: Rows, sequences: Sequence[Sequence[int]], pad_id: int) -> None:
        self.network, self.rows, self.takes, self.switch = network, rows, taken_by(network), switch_of(network)
        self.ids_RK, self.valid_RK = left_padded(sequences, pad_id, next(network.parameters()).device)
        self.cache: Any = None

    def next_logits(self) -> Tensor:
        """Computes the logits [R, V] of every sequence's next token."""
        width = self.ids_RK.shape[1]
        switched = self.switch is not None and (self.switch.grows or width == self.switch.length + 1)
        whole = self.cache is None or (switched and width > self.switch.length)  # type: ignore[union-attr]
        if whole:
            self.cache = DynamicCache(config=self.network.config) if self.rows.cached else None
        if self.switch is not None and self.switch.grows:
            forget_lengths(self.network)
        new = slice(None) if whole else slice(-1, None)
        call: dict[str, Any] = {"input_ids": self.ids_RK[:, new], "use_cache": self.rows.cached, "logits_to_keep": 1}
        if self.rows.masked or (self.rows.padded and whole):
            call["attention_mask"] = self.valid_RK.long()
        call["position_ids"] = (self.valid_RK.cumsum(1) - 1).clamp(min=0)[:, new]
        call |= dict.fromkeys(("past_key_values", "cache_params"), self.cache) if self.rows.cached else {}
        logits: Tensor = self.network(**{name: value for name, value in call.items() if name in self.takes}).logits[
            :, -1
        ]
        return logits

    def append(self, tokens_R: Tensor) -> None:
        self.ids_RK = torch.cat([self.ids_RK, tokens_R[:, None]], dim=1)
        self.valid_RK = torch.cat([self.valid_RK, self.valid_RK.new_ones(len(tokens_R), 1)], dim=1)

    def take(self, rows: Tensor) -> None:
        """Keeps these rows, each as often as it is listed."""
        self.ids_RK, self.valid_RK = self.ids_RK[rows], self.valid_RK[rows]
        if self.cache is not None:
            self.cache.reorder_cache(rows)


def left_padded(sequences: Sequence[Sequence[int]], pad_id: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Pads on the left. Returns ids and which of them are no padding, both [R, K]."""
    width = max(len(sequence) for sequence in sequences)
    ids_RK = torch.full((len(sequences), width), pad_id, dtype=torch.long)
    valid_RK = torch.zeros((len(sequences), width), dtype=torch.bool)
    for row, sequence in enumerate(sequences):
        ids_RK[row, width - len(sequence) :] = torch.tensor(sequence, dtype=torch.long)
        valid_RK[row, width - len(sequence) :] = True
    return ids_RK.to(device), valid_RK.to(device)


def batches(keys: Sequence[Any], at_once: int) -> list[list[int]]:
    """Groups neighbours with the same key, at most `at_once` of them. Returns indices."""
    found: list[list[int]] = []
    for index, key in enumerate(keys):
        if not found or len(found[-1]) == at_once or keys[found[-1][-1]] != key:
            found.append([])
        found[-1].append(index)
    return found
