"""Writes the model in memory as an ordinary `transformers` directory, adapters merged, and proves what was written (`proof.py`)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ehrmind.engines.local.adapters import copied, merged
from ehrmind.engines.local.dropout import as_it_was
from ehrmind.engines.local.fsdp import full_weights, whole
from ehrmind.engines.local.proof import Memory, logprobs, prove, tried_tokens
from ehrmind.engines.local.quantised import was_dequantised
from ehrmind.files import write_text, written_whole
from ehrmind.world import current

if TYPE_CHECKING:
    from ehrmind.engines.local.engine import LocalEngine

PROCESSORS = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")


def save_model(engine: LocalEngine, folder: Path) -> dict[str, Any]:
    """Writes into a temporary folder and renames it once it is proven, on the first worker. Returns
    how it was proven. Raises InputError if it is another model."""
    dtype = getattr(torch, engine.settings.dtype)
    ids = tried_tokens(engine.tokenizer, engine.network.get_input_embeddings().weight.shape[0])
    with whole(engine.network):
        wanted = logprobs(engine.network, ids)
    network = engine.network if engine.settings.lora is None else merged(copied(engine.network))
    weights = full_weights(network, dtype)

    def write() -> dict[str, Any]:
        with written_whole(folder, private=True) as partial:
            write_model(network, weights, partial, dtype)
            engine.tokenizer.save_pretrained(partial)
            _copy_processors(engine.folder, partial)
            return prove(partial, folder.name, Memory(network, weights, wanted, ids, dtype))

    return current().from_first(write)


def _copy_processors(source: Path, target: Path) -> None:
    """Copies the files that a server opens a model of text and images with, if the saved model is
    still one."""
    kinds = {
        json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"] for folder in (source, target)
    }
    for name in PROCESSORS if len(kinds) == 1 else ():
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def write_model(network: Any, weights: Mapping[str, Tensor], folder: Path, dtype: torch.dtype) -> None:
    """Writes config and weights. Dequantised weights are written as they are computed with. The
    config says type and tying of what is written."""
    if was_dequantised(network):
        network._weight_conversions = None  # they would quantise again, and leave out how
    with as_it_was(network):
        network.save_pretrained(folder, safe_serialization=True, state_dict=dict(weights))
    file = folder / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    tied = _is_tied(network, weights)
    for part in (config, config.get("text_config") or {}):
        part.pop("quantization_config", None)
        if part is config or "dtype" in part:
            part["dtype"] = str(dtype).removeprefix("torch.")
        if not tied and part:
            part["tie_word_embeddings"] = False
    write_text(file, json.dumps(config, indent=2, sort_keys=True) + "\n")


def _is_tied(network: Any, weights: Mapping[str, Tensor]) -> bool:
    """Tells whether every pair that the model's class ties is one tensor in `weights`; also true
    without pairs."""
    pairs = getattr(network, "_tied_weights_keys", None) or {}
    found = [
        (weights.get(one), weights.get(other)) for one, other in (pairs.items() if isinstance(pairs, dict) else ())
    ]
    return all(one is None or other is None or one.data_ptr() == other.data_ptr() for one, other in found)
