"""Files of `export model`: weights, a merged adapter or a copy, proven to be the model that was
named."""

from __future__ import annotations

import json
from pathlib import Path

from ehrmind.config import Model
from ehrmind.engines.local.adapters import merged, opened_adapter
from ehrmind.engines.local.engine import as_it_is
from ehrmind.engines.local.gate import ADAPTER, admit_adapter, admit_model
from ehrmind.engines.local.opening import open_network
from ehrmind.engines.local.ordinary import copy_model, is_adapter
from ehrmind.engines.local.proof import Memory, is_room, logprobs, prove, tried_tokens
from ehrmind.engines.local.saving import write_model
from ehrmind.types import InputError


def copy_proven(source: Path, target: Path, *, leave_out: tuple[str, ...] = ()) -> None:
    """The files of a model; source and copy are opened one after the other, where there is room, and compute the same. An adapter is copied
    as it is. Raises InputError."""
    copy_model(source, target, leave_out=leave_out)
    if is_adapter(source) or not is_room(target):
        return
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    named = config.get("dtype") or config.get("torch_dtype")
    settings = Model(name=str(source), dtype="bfloat16" if named == "bfloat16" else "float32", device="cpu")
    tokenizer = as_it_is(target)
    network = open_network(settings, source)
    ids = tried_tokens(tokenizer, network.get_input_embeddings().weight.shape[0])
    wanted = logprobs(network, ids)
    del network
    if not bool((logprobs(open_network(settings, target), ids) == wanted).all()):
        raise InputError(f"The copy of {source.name} does not compute what it does; export it again onto another disk.")


def merge_adapter(source: Path, target: Path, name: str) -> None:
    """The base model with the adapter's changes, saved as one model and proven to be it. Raises InputError where the base is not a
    directory here or the two do not fit."""
    base = Path(str(admit_adapter(source).get("base_model_name_or_path")))
    base = base if base.is_absolute() or base.is_dir() else source / base
    if not (base / "config.json").is_file():
        raise InputError(
            f"{source / ADAPTER} names the base model {base.name}, which is no directory here; put its path there."
        )
    admit_model(base)
    tokens = source if (source / "tokenizer_config.json").is_file() else base
    tokenizer = as_it_is(tokens)
    adapted, types = opened_adapter(source, base)
    rows = adapted.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise InputError(
            f"The tokenizer in {tokens} has {len(tokenizer)} tokens and the merged model {rows}; take the adapter's own tokenizer."
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
