"""Dropout of every kind off: the policy that learns is the one that sampled, and runs of one seed are equal.

Reinforcement learning needs the log-probabilities of the policy that sampled, which had no dropout (as TRL's `disable_dropout` and
verl's actors have it); supervised steps keep to the same, so that a model learns in one way only. `model.lora.dropout` stays as asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from ehrmind.types import InputError

SET = "ehrmind_dropout"  # the attribute of a model that holds what its config said
KEYS = re.compile("drop(?!less)|jitter")
READ_IN_EVALUATION = {("phimoe", "router_jitter_noise")}  # a threshold of its router, in training or not


class Dropped(NamedTuple):
    """A key of a config, or of a part of it such as `text_config`, and what it said."""

    part: tuple[str, ...]
    key: str
    value: float


def without_dropout(config: Any, part: tuple[str, ...] = ()) -> list[Dropped]:
    """Set a config's dropout, and its parts', to 0. What it was."""
    found = [
        Dropped(part, key, value)
        for key, value in vars(config).items()
        if KEYS.search(key) and isinstance(value, int | float) and not isinstance(value, bool) and value > 0
    ]
    found = [entry for entry in found if (getattr(config, "model_type", ""), entry.key) not in READ_IN_EVALUATION]
    for entry in found:
        setattr(config, entry.key, 0.0)
    parts = {name: getattr(config, name, None) for name in getattr(config, "sub_configs", {})}
    return found + [
        entry for name, under in parts.items() if under is not None for entry in without_dropout(under, (*part, name))
    ]


def in_words(found: list[Dropped]) -> str:
    return ", ".join(f"{key} {value:g}" for key, value in sorted({(entry.key, entry.value) for entry in found}))


def dropout_of(folder: Path) -> dict[str, float]:
    """Reads the dropout in a model's config that this engine sets to 0; empty if it is no model of
    `transformers`."""
    from ehrmind.engines.local.gate import admit_model
    from ehrmind.engines.local.opening import opened_config, opening

    try:
        if "model_type" not in admit_model(folder):
            return {}
        with opening(folder):
            config = opened_config(folder)
    except InputError:
        return {}  # what is wrong with it is said when it is opened
    return {".".join((*entry.part, entry.key)): entry.value for entry in without_dropout(config)}


@contextmanager
def as_it_was(network: Any) -> Iterator[None]:
    """Restores the dropout in a model's config while the model is saved."""
    found: list[Dropped] = getattr(network, SET, None) or []
    places = [(place, entry) for entry in found if (place := _place(network.config, entry.part)) is not None]
    for place, entry in places:
        setattr(place, entry.key, entry.value)
    try:
        yield
    finally:
        for place, entry in places:
            setattr(place, entry.key, 0.0)


def _place(config: Any, part: tuple[str, ...]) -> Any:
    """The part of a config; of a model of which only the text was opened, that is the text's."""
    for name in part:
        config = getattr(config, name, config if name == "text_config" else None)
    return config
