"""Turns dropout of every kind off, so that the policy that learns is the one that sampled.

RLVR needs the log-probabilities of the policy that sampled, and sampling has no dropout (TRL's
`disable_dropout` and verl's actors do the same). Supervised steps keep it off too, so that a model
learns in one way, and runs of one seed are equal. `model.lora.dropout` stays as set.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

SET = "ehrmind_dropout"  # attribute of a model: the dropout that its config set
KEYS = re.compile("drop(?!less)|jitter")
READ_IN_EVALUATION = {("phimoe", "router_jitter_noise")}  # its router's threshold, used outside training too


class Dropped(NamedTuple):
    """A key of a config, or of a part of it such as `text_config`, and its value."""

    part: tuple[str, ...]
    key: str
    value: float


def without_dropout(config: Any, part: tuple[str, ...] = ()) -> list[Dropped]:
    """Sets the dropout of a config and its parts to 0. Returns what it was."""
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
    """Returns a part of a config.

    For a model whose text part alone was opened, `text_config` is the config itself.
    """
    for name in part:
        config = getattr(config, name, config if name == "text_config" else None)
    return config
