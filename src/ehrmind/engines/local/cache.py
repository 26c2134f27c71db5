"""A preallocated key-value cache: `transformers`' growing cache copies everything at every token."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import DynamicLayer


class PreallocatedLayer(DynamicLayer):
    """Keys and values [rows, heads, capacity, width] of which the first `length` tokens are filled."""

    keys: Tensor
    values: Tensor

    def __init__(self, keys: Tensor, values: Tensor, members: int, capacity: int) -> None:
        super().__init__()
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True
        self.length = keys.shape[-2]
        self.keys, self.values = (_expanded(tensor, members, capacity) for tensor in (keys, values))

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        end = self.length + key_states.shape[-2]
        self.keys[:, :, self.length : end] = key_states
        self.values[:, :, self.length : end] = value_states
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def get_seq_length(self) -> int:
        return self.length

    def keep(self, rows: Tensor) -> None:
        self.keys, self.values = self.keys[rows], self.values[rows]


def preallocated(prefilled: Any, members: int, capacity: int) -> Cache:
    """Each prompt's keys and values (of a `DynamicCache`) repeated for its members, with room for `capacity` tokens in all."""
    return Cache(layers=[PreallocatedLayer(layer.keys, layer.values, members, capacity) for layer in prefilled.layers])


def _expanded(tensor: Tensor, members: int, capacity: int) -> Tensor:
    prompts, heads, length, width = tensor.shape
    out = torch.empty((prompts * members, heads, capacity, width), dtype=tensor.dtype, device=tensor.device)
    out[:, :, :length] = tensor.repeat_interleave(members, dim=0)
    return out
