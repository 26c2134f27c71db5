"""Layers that keep a state instead of keys and values, over a packing: short convolutions, gated
delta nets, Mamba-2.

Such a layer computes every prompt once. The prompt's final states are the initial states of all its
completions, and gradients flow back through them. `transformers` gives a layer its states through a
cache and takes them from there. So a layer runs unchanged, once on the prompts and once on the
completions, each time with a small cache of ours.

Letters: `_B` one sequence, `_N` packed tokens, `_M` rows, `_L` tokens of a row, `_E` width.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from ehrmind.engines.local.forward.packing import Packing
from ehrmind.engines.local.sampling.state_steps import with_own_steps

KINDS = frozenset({"conv", "linear_attention", "hybrid"})  # what configs call such layers
OTHERS = frozenset({"moe", "mlp"})  # layers that compute every token alone
CACHES = ("past_key_values", "cache_params")  # what forward passes call their cache
CHUNK = 64  # tokens; on CPU, Mamba-2's own chunks of 256 take two to three times as long
NARROWEST = 2  # tokens; layers change a state in place when they are given a single one
PADDED = 4 / 3  # most tokens of a batch of completions with padding, for one without

States = Mapping[tuple[str, int], Tensor]  # by sort (convolution, recurrent) and number: [rows, ...]
CONVOLUTION, RECURRENT = "convolution", "recurrent"


class RowsOfStates(Protocol):
    """A cache that keeps prompts' final states for their rows."""

    def fork(self, layer: int, states: States) -> None: ...


class CallStates:
    """The cache of one call of a layer: holds initial states, keeps final ones."""

    def __init__(self, initial: States) -> None:
        self.initial = initial
        self.final: dict[tuple[str, int], Tensor] = {}

    def get_conv_state(self, layer_idx: int, state_idx: int = 0) -> Tensor | None:
        return self.initial.get((CONVOLUTION, state_idx))

    def get_recurrent_state(self, layer_idx: int, state_idx: int = 0) -> Tensor | None:
        return self.initial.get((RECURRENT, state_idx))

    def update_conv_state(
        self, conv_states: Tensor, layer_idx: int, state_idx: int = 0, *, conv_kernel_size: int, **_: Any
    ) -> Tensor:
        """Returns the new inputs behind those before, and keeps the last ones."""
        before = self.initial.get((CONVOLUTION, state_idx))
        inputs = conv_states if before is None else torch.cat([before, conv_states], dim=-1)
        self.final[CONVOLUTION, state_idx] = last_inputs(inputs, conv_kernel_size)
        return inputs

    def update_recurrent_state(self, recurrent_states: Tensor, layer_idx: int, state_idx: int = 0, **_: Any) -> Tensor:
        self.final[RECURRENT, state_idx] = recurrent_states
        return recurrent_states

    def has_previous_state(self, layer_idx: int | None = None, state_idx: int | None = None) -> bool:
        return bool(self.initial)

    def is_recording_past(self, layer_idx: int) -> bool:
        return True  # keeps layers from changing a convolution's state in place


def last_inputs(inputs: Tensor, kernel: int) -> Tensor:
    """Returns the inputs that a convolution may still see, with zeros before a short prompt."""
    return torch.nn.functional.pad(inputs[..., -kernel:], (max(0, kernel - inputs.shape[-1]), 0))


class Batch(NamedTuple):
    """Rows of a packing that are computed together: their places [M, L], and which trunks they
    continue.

    `trunks_M` is None for trunks themselves. Beyond its end a row repeats its last place.
    """

    places_ML: Tensor
    trunks_M: Tensor | None


class Plan(NamedTuple):
    """The batches of a packing, trunks first.

    Trunks are numbered in the order of their batches; `trunks_T` lists these numbers in the order
    of the packing. `found_N` says where a packed token stands in the batches' results.
    """

    batches: list[Batch]
    trunks_T: Tensor
    found_N: Tensor


class SharedStates(torch.nn.Module):
    """A layer that keeps a state, with a forward pass over packings. Mixed into the model's own
    class.
    """

    layer_idx: int
    cache_name: str
    decode: Any  # the forward pass over one token of every row

    def forward(self, hidden_states: Tensor, *, layout: Any = None, **options: Any) -> Any:
        if layout is None:
            return super().forward(hidden_states, **options)
        if "attention_mask" in options:
            options["attention_mask"] = None  # the layout says what each token sees
        if not isinstance(layout, Packing):
            return self.decode(hidden_states, **options)  # the cache holds every row's states
        plan = plan_of(layout)
        kept: RowsOfStates | None = options.pop(self.cache_name, None)
        found, finals = [], []
        of_trunks: dict[tuple[str, int], Tensor] = {}
        for batch in plan.batches:
            if batch.trunks_M is None:
                states = CallStates({})
                finals.append(states.final)
            else:
                of_trunks = of_trunks or _joined(finals)
                states = CallStates({key: state.index_select(0, batch.trunks_M) for key, state in of_trunks.items()})
            found.append(self._of_rows(hidden_states, batch, states, options))
        if kept is not None:
            kept.fork(
                self.layer_idx, {key: state.index_select(0, plan.trunks_T) for key, state in _joined(finals).items()}
            )
        return torch.cat(found).index_select(0, plan.found_N)[None]

    def _of_rows(self, hidden_BNE: Tensor, batch: Batch, states: CallStates, options: dict[str, Any]) -> Tensor:
        """Computes one batch. Returns its results as flat rows."""
        rows_MLE = hidden_BNE[0].index_select(0, batch.places_ML.flatten()).unflatten(0, batch.places_ML.shape)
        out: Tensor = super().forward(rows_MLE, **{**options, self.cache_name: states})
        return out.flatten(0, 1)


def _joined(finals: Sequence[States]) -> dict[tuple[str, int], Tensor]:
    return {key: torch.cat([of_batch[key] for of_batch in finals]) for key in finals[0]}


def share_states(network: Any) -> bool:
    """Gives every layer that keeps a state its forward pass over packings.

    Returns False, and changes nothing, if some of these layers cannot be found.
    """
    kinds = getattr(network.config.get_text_config(), "layer_types", None) or []
    wanted = [layer for layer, kind in enumerate(kinds) if kind in KINDS]
    takes = {
        module: name
        for module in network.modules()
        if getattr(module, "layer_idx", None) in wanted and (name := _cache_name(module)) is not None
    }
    inner = [module for module in takes if not takes.keys() & set(list(module.modules())[1:])]
    if sorted(module.layer_idx for module in inner) != wanted:
        return False
    for module in inner:
        device = next(module.parameters()).device.type
        module.__class__ = _sharing(module.__class__, takes[module], device)
    return True


def forget_states(network: Any) -> None:
    """Gives these layers their own class again."""
    for module in network.modules():
        if isinstance(module, SharedStates):
            module.__class__ = type(module).__mro__[2]


@cache
def _sharing(own: Any, cache_name: str, device: str) -> Any:
    """Makes the class of a layer.

    On CPU it has steps of our own, and it computes at most `CHUNK` tokens at a time.
    """
    members = {"cache_name": cache_name, "decode": own.forward}
    if device == "cpu":
        members |= {"decode": with_own_steps(own.forward), "chunk_size": property(_short_chunk)}
    return type(own.__name__, (SharedStates, own), members)


def _short_chunk(layer: Any) -> int:
    if "chunk_size" not in layer.__dict__:
        raise AttributeError("chunk_size")
    return min(layer.__dict__["chunk_size"], CHUNK)


def _cache_name(module: Any) -> str | None:
    """Returns the name of the cache that a layer takes its states from; None for other modules."""
    if hasattr(module, "is_causal"):
        return None  # attention in a layer that also keeps a state
    taken = inspect.signature(type(module).forward).parameters
    return next((name for name in CACHES if name in taken), None)


def plan_of(packing: Packing) -> Plan:
    """Returns a packing's plan, made once for all layers."""
    if packing.state_plan is None:
        packing.state_plan = _planned(packing)
    plan: Plan = packing.state_plan
    return plan


def _planned(packing: Packing) -> Plan:
    device = packing.ids_BN.device
    found_N = torch.empty(packing.ids_BN.shape[1], dtype=torch.long)
    numbers: list[int] = []  # of the trunks, in the order of their batches
    batches: list[Batch] = []
    taken = 0
    for of_trunks, rows in [(True, rows) for rows in _batches(packing.trunks, padded=1.0)] + [
        (False, rows) for rows in _batches(packing.completions, padded=PADDED)
    ]:
        stretches = [(packing.trunks if of_trunks else packing.completions)[row] for row in rows]
        width = max(end - start for start, end in stretches)
        width = width if of_trunks else max(width, NARROWEST)
        for start, end in stretches:
            found_N[start:end] = taken + torch.arange(end - start)
            taken += width
        starts_M1, ends_M1 = (torch.tensor(side)[:, None] for side in zip(*stretches, strict=True))
        places_ML = (starts_M1 + torch.arange(width)).minimum(ends_M1 - 1).to(device)
        if of_trunks:
            numbers += rows
            batches.append(Batch(places_ML, None))
        else:
            continued = [numbers.index(packing.continued[row]) for row in rows]
            batches.append(Batch(places_ML, torch.tensor(continued, device=device)))
    trunks_T = torch.tensor(numbers).argsort().to(device)
    return Plan(batches, trunks_T, found_N.to(device))


def _batches(stretches: Sequence[tuple[int, int]], *, padded: float) -> Iterator[list[int]]:
    """Groups stretches of similar length. Yields indices, longest first.

    With padding, a batch has at most `padded` times its tokens.
    """
    batch: list[int] = []
    longest = tokens = 0
    for index in sorted(range(len(stretches)), key=lambda index: (stretches[index][0] - stretches[index][1], index)):
        length = stretches[index][1] - stretches[index][0]
        if batch and (len(batch) + 1) * longest > padded * (tokens + length):
            yield batch
            batch, tokens = [], 0
        longest = longest if batch else length
        batch.append(index)
        tokens += length
    if batch:
        yield batch
