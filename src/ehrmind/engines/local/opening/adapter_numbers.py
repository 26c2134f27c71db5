"""Refuses numbers in an adapter's config that no adapter has, before they cost memory or time."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from safetensors import safe_open

from ehrmind.engines.local.opening.gate import ADAPTER, ADAPTER_WEIGHTS
from ehrmind.engines.local.opening.named_code import shown
from ehrmind.types import InputError

MOST_TOKENS, MOST_LAYERS, MOST_ROUNDS = 1 << 20, 1000, 1000
ROUNDS = ("loftq_iter", "num_cayley_neumann_terms", "num_samples")  # counts of repetitions in peft
ITERATED = re.compile(r"_niter_(?!\d{1,3}\Z)")


def refuse_odd_numbers(config: dict[str, Any], folder: Path) -> None:
    """Refuses ranks that no tensor has, tokens beyond any vocabulary, and endless repetitions.

    Raises InputError.
    """
    _refuse_ranks(config, folder)
    _refuse_repetitions(config, folder)
    tokens = config.get("trainable_token_indices") or []
    for chosen in tokens.values() if isinstance(tokens, dict) else [tokens]:
        if not isinstance(chosen, list) or any(
            type(token) is not int or not 0 <= token < MOST_TOKENS for token in chosen
        ):
            raise _refusal(folder, "trainable_token_indices that are no ids of tokens")


def _refuse_ranks(config: dict[str, Any], folder: Path) -> None:
    with safe_open(folder / ADAPTER_WEIGHTS, framework="pt") as tensors:
        widest = max((size for name in tensors.keys() for size in tensors.get_slice(name).get_shape()), default=0)  # noqa: SIM118
    ranks = {key: config.get(key) for key in ("r", "init_r", "target_r", "mini_r")}
    ranks |= {f"rank_pattern.{name}": rank for name, rank in (config.get("rank_pattern") or {}).items()}
    for name, rank in ranks.items():
        if config.get("peft_type") == "ADALORA" and isinstance(rank, list):
            rank = len(rank)  # a mask with an entry for each part of the rank
        if rank is not None and not (type(rank) is int and 0 <= rank <= widest):
            raise _refusal(folder, f"{name[:80]} {shown(rank)}, which none of its tensors has")


def _refuse_repetitions(config: dict[str, Any], folder: Path) -> None:
    if isinstance(began := config.get("init_lora_weights"), str) and ITERATED.search(began):
        raise _refusal(folder, f"init_lora_weights {shown(began)}, which takes more than {MOST_ROUNDS} rounds")
    for part in (config, *(value for value in config.values() if isinstance(value, dict))):
        for key in ROUNDS:
            count = part.get(key)
            if isinstance(count, int | float) and not count <= MOST_ROUNDS:
                raise _refusal(folder, f"{key} {shown(count)}, which is more than {MOST_ROUNDS} rounds")
    if (parts := config.get("layer_replication")) is None:
        return
    if not isinstance(parts, list) or not all(
        isinstance(part, list) and [type(end) for end in part] == [int, int] for part in parts
    ):
        raise _refusal(folder, "layer_replication that is no list of pairs of layers")
    if any(not 0 <= begin < end for begin, end in parts) or sum(end - begin for begin, end in parts) > MOST_LAYERS:
        raise _refusal(folder, f"layer_replication of no layers, or of more than {MOST_LAYERS}")


def _refusal(folder: Path, why: str) -> InputError:
    return InputError(f"{folder.name}/{ADAPTER} says {why}; get the whole adapter.")
