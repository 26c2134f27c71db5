"""Compares the sizes in a config with its weight files before anything is allocated.

transformers builds a model on the meta device, module by module, and allocates afterwards. So a
config that describes a model far larger than its files is stopped while the model is built,
whatever its keys are called.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch.nn.modules import module as registered

from ehrmind.engines.local.opening.gate import cannot, short
from ehrmind.engines.local.opening.named_code import shown
from ehrmind.types import InputError

POSITIVE = {
    *("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim", "vocab_size"),
    *("n_embd", "n_layer", "n_head", "d_model"),
}
# Lists get as many entries as these numbers say
COUNTED = re.compile(r"(layers?|blocks|depths?|labels|stages|experts|heads|codebooks)\Z")
MOST_COUNTED, LARGEST, LONGEST = 100_000, 2**31, 2**62
# Numbers with such keys are no tensor's size
UNBOUNDED = re.compile("theta|length|position|base|scale|factor|token|seed|window|context|limit|clip")
SPARE_NUMBERS, NUMBERS_OF_A_BYTE = 50_000_000, 8  # tied and packed weights are counted again as they are read
SPARE_MODULES, MODULES_OF_A_TENSOR, MOST_MODULES = 20_000, 20, 2_000_000
HOOKS = (
    "register_module_module_registration_hook",
    "register_module_parameter_registration_hook",
    "register_module_buffer_registration_hook",
)


def refuse_odd_sizes(config: Mapping[str, Any], folder: Path) -> None:
    """Refuses numbers in config.json that no model has. Raises InputError."""
    for part in (config, config.get("text_config") or {}):
        for key in sorted(POSITIVE & part.keys()):
            if (
                part[key] is not None
                and _is_number(part[key])
                and not part[key] >= 1
                and part[key] != _default(part, key)
            ):
                raise cannot(folder, f"config.json says {key} {shown(part[key])}; get the model's own config.json")
        length = part.get("max_position_embeddings")
        if length is not None and not (_is_number(length) and 1 <= length < LONGEST):
            raise cannot(
                folder, f"config.json says max_position_embeddings {shown(length)}; get the model's own config.json"
            )
    for key, value in _numbers(config):
        most = MOST_COUNTED if COUNTED.search(key) else math.inf if UNBOUNDED.search(key) else LARGEST
        if value != value or abs(value) > most:
            raise cannot(
                folder,
                f"config.json says {key[:80]} {shown(value)}, which no model has; get the model's own config.json",
            )


def _default(config: Mapping[str, Any], key: str) -> Any:
    """Returns transformers' default of a key for this type of config; some have 0 as the size of a
    head.
    """
    from transformers import CONFIG_MAPPING

    kind = config.get("model_type")
    return getattr(CONFIG_MAPPING[kind], key, None) if isinstance(kind, str) and kind in CONFIG_MAPPING else None


def _numbers(tree: Any, key: str = "") -> Iterator[tuple[str, float]]:
    if _is_number(tree):
        yield key, tree
    elif isinstance(tree, Mapping):
        for name, value in tree.items():
            yield from _numbers(value, name)
    elif isinstance(tree, list):
        for value in tree:
            yield from _numbers(value, key)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@contextmanager
def within_files(files: Sequence[Path], folder: Path) -> Iterator[None]:
    """Stops a model that grows far beyond its weight `files` while it is built.

    Raises InputError.
    """
    tensors = sum(_tensors(file, folder) for file in files)
    numbers = SPARE_NUMBERS + NUMBERS_OF_A_BYTE * sum(file.stat().st_size for file in files)
    modules = min(MOST_MODULES, SPARE_MODULES + MODULES_OF_A_TENSOR * tensors)
    built = {"modules": 0, "numbers": 0}

    def count_module(_: Any, name: str, module: Any) -> None:
        built["modules"] += 1
        if built["modules"] > modules:
            raise _too_large(folder, f"more than {modules:,} parts", f"{tensors:,} tensors")

    def count_numbers(_: Any, name: str, tensor: Any) -> None:
        built["numbers"] += 0 if tensor is None else tensor.numel()
        if built["numbers"] > numbers:
            raise _too_large(
                folder, f"more than {numbers:,} numbers", f"{sum(file.stat().st_size for file in files):,} bytes"
            )

    counts = (count_module, count_numbers, count_numbers)
    handles = [getattr(registered, name)(count) for name, count in zip(HOOKS, counts, strict=True)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _too_large(folder: Path, asked: str, there: str) -> InputError:
    return InputError(
        f"{folder.name}/config.json describes a model of {asked}, and its weight files hold {there}; "
        "put the weights and the config.json of one model together."
    )


def _tensors(file: Path, folder: Path) -> int:
    """Counts the tensors of a safetensors file from its header."""
    try:
        with file.open("rb") as opened:
            size = int.from_bytes(opened.read(8), "little")
            return len(json.loads(opened.read(size)))
    except (OSError, ValueError, RecursionError) as error:
        raise cannot(folder, f"{file.name} is cut off or damaged ({short(error)}); get the file again") from None
