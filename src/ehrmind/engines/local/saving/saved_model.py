"""Writes the model in memory as a `transformers` directory, adapters merged, and proves it
(`proof.py`).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ehrmind.engines import Proof
from ehrmind.engines.local.model import LocalModel
from ehrmind.engines.local.opening.adapters import copied, merged
from ehrmind.engines.local.opening.dropout import as_it_was
from ehrmind.engines.local.opening.quantised import was_dequantised
from ehrmind.engines.local.saving.proof import Memory, logprobs, prove, tried_tokens
from ehrmind.engines.local.workers.fsdp import full_weights, whole
from ehrmind.files import write_text, written_whole
from ehrmind.world import current

PROCESSORS = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")


def save_model(model: LocalModel, folder: Path) -> Proof:
    """Writes into a temporary folder on the first worker and renames it once it is proven.

    Raises InputError if the written model is another one.
    """
    dtype = getattr(torch, model.settings.dtype)
    ids = tried_tokens(model.tokenizer, model.network.get_input_embeddings().weight.shape[0])
    with whole(model.network):
        wanted = logprobs(model.network, ids)
    network = model.network if model.settings.lora is None else merged(copied(model.network))
    weights = full_weights(network, dtype)

    def write() -> Proof:
        with written_whole(folder, private=True) as partial:
            write_model(network, weights, partial, dtype)
            model.tokenizer.save_pretrained(partial)
            _copy_processors(model.folder, partial)
            return prove(partial, folder.name, Memory(network, weights, wanted, ids, dtype))

    return current().from_first(write)


def _copy_processors(source: Path, target: Path) -> None:
    """Copies the files that a server needs for text and images, if the saved model still takes
    both.
    """
    kinds = {
        json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"] for folder in (source, target)
    }
    for name in PROCESSORS if len(kinds) == 1 else ():
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def write_model(network: Any, weights: Mapping[str, Tensor], folder: Path, dtype: torch.dtype) -> None:
    """Writes config and weights. Dequantised weights stay dequantised.

    The config gets the type of the written weights, and whether they are tied.
    """
    if was_dequantised(network):
        network._weight_conversions = None  # they would quantise again, without saying how
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
    """Tells whether every pair that the model's class ties is one tensor in `weights`; true without
    pairs.
    """
    pairs = getattr(network, "_tied_weights_keys", None) or {}
    found = [
        (weights.get(one), weights.get(other)) for one, other in (pairs.items() if isinstance(pairs, dict) else ())
    ]
    return all(one is None or other is None or one.data_ptr() == other.data_ptr() for one, other in found)
