"""Numbers of an adapter's config that no adapter has, found before memory or time is spent on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import safe_open

from ehrmind.engines.local.gate import ADAPTER, ADAPTER_WEIGHTS
from ehrmind.engines.local.named_code import shown
from ehrmind.types import InputError

MOST_TOKENS = 1 << 20


def refuse_odd_numbers(config: dict[str, Any], folder: Path) -> None:
    """Refuses ranks that no tensor of the adapter has, and tokens beyond any vocabulary, before memory is taken for them."""
    with safe_open(folder / ADAPTER_WEIGHTS, framework="pt") as tensors:
        widest = max((size for name in tensors.keys() for size in tensors.get_slice(name).get_shape()), default=0)  # noqa: SIM118
    ranks = {"r": config.get("r"), **{f"rank_pattern.{name}": rank for name, rank in (config.get("rank_pattern") or {}).items()}}
    for name, rank in ranks.items():
        if rank is not None and not (type(rank) is int and 0 <= rank <= widest):
            why = f"says {name[:80]} {shown(rank)}, which none of its tensors has"
            raise InputError(f"{folder.name}/{ADAPTER} {why}; get the whole adapter.")
    tokens = config.get("trainable_token_indices") or []
    for chosen in tokens.values() if isinstance(tokens, dict) else [tokens]:
        if not isinstance(chosen, list) or any(type(token) is not int or not 0 <= token < MOST_TOKENS for token in chosen):
            raise InputError(f"{folder.name}/{ADAPTER} says trainable_token_indices that are no ids of tokens; get the whole adapter.")
