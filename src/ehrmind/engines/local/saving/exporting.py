"""Copies a model or merges an adapter for `ehrmind export model`, and proves the result."""

from __future__ import annotations

import json
from pathlib import Path

from ehrmind.config import Model
from ehrmind.engines.local.opening.adapters import merged, opened_adapter
from ehrmind.engines.local.opening.gate import ADAPTER, admit_adapter, admit_model
from ehrmind.engines.local.opening.network import open_network
from ehrmind.engines.local.opening.tokenizer import open_unchanged
from ehrmind.engines.local.saving.hf_export import copy_model, is_adapter
from ehrmind.engines.local.saving.proof import Memory, is_room, logprobs, prove, tried_tokens
from ehrmind.engines.local.saving.saved_model import write_model
from ehrmind.types import InputError


def copy_proven(source: Path, target: Path, *, leave_out: tuple[str, ...] = ()) -> None:
    """Copies a model's files. If there is room, opens source and copy and compares what they
    compute.

    An adapter is copied without that. Raises InputError if they differ.
    """
    copy_model(source, target, leave_out=leave_out)
    if is_adapter(source) or not is_room(target):
        return
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    named = config.get("dtype") or config.get("torch_dtype")
    settings = Model(name=str(source), dtype="bfloat16" if named == "bfloat16" else "float32", device="cpu")
    tokenizer = open_unchanged(target)
    network = open_network(settings, source)
    ids = tried_tokens(tokenizer, network.get_input_embeddings().weight.shape[0])
    wanted = logprobs(network, ids)
    del network
    if not bool((logprobs(open_network(settings, target), ids) == wanted).all()):
        raise InputError(f"The copy of {source.name} does not compute what it does; export it again onto another disk.")


def merge_adapter(source: Path, target: Path, name: str) -> None:
    """Merges an adapter into its base, saves one model and proves it.

    Raises InputError if the base is no directory here, or if the two do not fit.
    """
    base = Path(str(admit_adapter(source).get("base_model_name_or_path")))
    base = base if base.is_absolute() or base.is_dir() else source / base
    if not (base / "config.json").is_file():
        raise InputError(
            f"{source / ADAPTER} names the base model {base.name}, which is no directory here; put its path there."
        )
    admit_model(base)
    tokens = source if (source / "tokenizer_config.json").is_file() else base
    tokenizer = open_unchanged(tokens)
    adapted, types = opened_adapter(source, base)
    rows = adapted.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise InputError(
            f"The tokenizer in {tokens} has {len(tokenizer)} tokens and the merged model {rows}; take the adapter's "
            "own tokenizer."
        )
    ids = tried_tokens(tokenizer, rows)
    wanted = logprobs(adapted, ids)
    network = merged(adapted)
    for weight_name, weight in network.named_parameters():  # peft keeps whole layers of a narrow base in fp32
        weight.data = weight.data.to(types.get(weight_name, network.dtype))
    weights = dict(network.state_dict())
    write_model(network, weights, target, network.dtype)
    tokenizer.save_pretrained(target)
    prove(target, name, Memory(network, weights, wanted, ids, network.dtype))
