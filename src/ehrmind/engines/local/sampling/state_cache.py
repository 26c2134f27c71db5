"""The states of rows that are decoded, for layers that keep a state instead of keys and values.

A prompt's final states are copied to each of its rows when it is prefilled. A decoding step changes
them in place, as the layers of `transformers` do with their own cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import Cache

from ehrmind.engines.local.forward.states import CONVOLUTION, RECURRENT, States, last_inputs


class StateCache(Cache):
    """The part of a KV cache that holds states."""

    slots: int
    group_size: int

    def __init__(self) -> None:
        super().__init__(layers=[])
        self.states: dict[tuple[int, str, int], Tensor] = {}  # by layer, sort and number: [rows, …]
        self.computed = 0  # rows of a step, spare ones included

    def rows_in_use(self) -> int:
        raise NotImplementedError

    def fork(self, layer: int, states: States) -> None:
        """Copies the final states of prompts that are being prefilled to their new rows."""
        first = self.rows_in_use()
        for (sort, number), found in states.items():
            state = found.float() if sort == RECURRENT else found  # sums of many steps
            store = self.states.get((layer, sort, number))
            if store is None:
                store = state.new_zeros(self.slots * self.group_size, *state.shape[1:])
                self.states[layer, sort, number] = store
            store[first : first + len(state) * self.group_size] = state.repeat_interleave(self.group_size, 0)

    def move_states(self, gaps: np.ndarray, movers: np.ndarray) -> None:
        """Copies the states of the movers into the gaps."""
        if len(gaps):
            for store in self.states.values():
                store[torch.from_numpy(gaps)] = store[torch.from_numpy(movers)]

    def get_conv_state(self, layer_idx: int, state_idx: int = 0) -> Tensor | None:
        return self.states[layer_idx, CONVOLUTION, state_idx][: self.computed]

    def get_recurrent_state(self, layer_idx: int, state_idx: int = 0) -> Tensor | None:
        store = self.states.get((layer_idx, RECURRENT, state_idx))  # short convolutions have none
        return None if store is None else store[: self.computed]

    def update_conv_state(self, conv_states: Tensor, layer_idx: int, state_idx: int = 0, **_: Any) -> Tensor:
        store = self.states[layer_idx, CONVOLUTION, state_idx][: self.computed]
        inputs = torch.cat([store, conv_states], dim=-1)
        store.copy_(last_inputs(inputs, store.shape[-1]))
        return inputs

    def update_recurrent_state(self, recurrent_states: Tensor, layer_idx: int, state_idx: int = 0, **_: Any) -> Tensor:
        store = self.states[layer_idx, RECURRENT, state_idx][: self.computed]
        # A step of ours has changed the store in place
        return store if recurrent_states.data_ptr() == store.data_ptr() else store.copy_(recurrent_states)

    def has_previous_state(self, layer_idx: int | None = None, state_idx: int | None = None) -> bool:
        return bool(self.states)

    def is_recording_past(self, layer_idx: int) -> bool:
        return False
