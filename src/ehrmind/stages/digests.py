"""Digests of a model: the one place that hashes weights and the other files that an answer depends
on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from ehrmind.files import stored
from ehrmind.types import InputError

# Weights, the token that ends an answer, text to tokens and back, messages to text.
DECIDING = (
    *("*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json", "adapter_config.json"),
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab*", "merges.txt", "*.model", "tekken.json"),
    *("*.tiktoken", "chat_template*", "additional_chat_templates/*"),
)


def digests(folder: Path) -> dict[str, str]:
    """Returns the sha256 of every file that an answer depends on."""
    files = {*_named_weights(folder), *(path for pattern in DECIDING for path in folder.glob(pattern))}
    return {path.relative_to(folder).as_posix(): stored(path).sha256 for path in sorted(files) if path.is_file()}


def _named_weights(folder: Path) -> Iterator[Path]:
    """Files inside the directory or its subfolders that an index or the config names as weights.
    Opening the model reports what is wrong with them."""
    for file in (folder / "config.json", *folder.glob("*.safetensors.index.json")):
        try:
            tree = json.loads(file.read_text(encoding="utf-8"))
            named = {tree.get("transformers_weights"), *(tree.get("weight_map") or {}).values()}
        except (OSError, ValueError, RecursionError, AttributeError, TypeError):
            continue
        yield from (
            folder / name
            for name in named
            if isinstance(name, str) and ".." not in Path(name).parts and not Path(name).is_absolute()
        )


def refuse_changed(which: str, whose: str, before: Mapping[str, str], folder: Path, remedy: str) -> None:
    """Refuses a model if a file that decides answers has changed. Compares nothing if nothing was
    recorded."""
    if before and (changed := differing_files(before, digests(folder))):
        raise InputError(f"{which} is not {whose}: {', '.join(changed)} changed; {remedy}.")


def differing_files(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Names of files whose digests differ."""
    return sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
