"""A model directory as everybody opens it: `transformers`, TRL, `vllm serve`, `transformers serve`. Files are copied, adapters merged on
request.

What a served model needs beyond the files is when to stop: the generation config gets the token that the chat template ends a turn with.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ehrmind.engines.local.engine import OURS_ALONE, end_of_turn, open_tokenizer, refuse_unsafe, render_prompt
from ehrmind.files import write_text
from ehrmind.prompts.protocol import ANSWER_CLOSE, ANSWER_OPEN, THINK_CLOSE, THINK_OPEN
from ehrmind.types import InputError, Message, Prompt

KEPT = {".json", ".safetensors", ".jinja", ".txt", ".model"}
ADAPTER, GENERATION = "adapter_config.json", "generation_config.json"


def is_adapter(folder: Path) -> bool:
    """A folder of peft's, without the model that it changes."""
    return (folder / ADAPTER).is_file() and not (folder / "config.json").is_file()


def copy_model(source: Path, target: Path, *, leave_out: tuple[str, ...] = ()) -> None:
    """The files of a model, links followed; nothing else that lies there. Raises InputError where the directory holds code or pickles."""
    if not is_adapter(source):
        refuse_unsafe(source)
    for path in sorted(source.iterdir()):
        if path.is_file() and path.suffix in KEPT and path.name not in leave_out:
            shutil.copyfile(path, target / path.name)


def merge_adapter(source: Path, target: Path, name: str) -> None:
    """The base model with the adapter's changes, saved as one model and proven to be it. Raises InputError where the base is not a directory
    here or the two do not fit."""
    from transformers import AutoTokenizer

    from ehrmind.engines.local.adapters import merged, opened_adapter
    from ehrmind.engines.local.proof import logprobs, prove, tried_tokens
    from ehrmind.engines.local.saving import write_model

    base = Path(str(json.loads((source / ADAPTER).read_text(encoding="utf-8")).get("base_model_name_or_path")))
    base = base if base.is_absolute() or base.is_dir() else source / base
    if not (base / "config.json").is_file():
        raise InputError(f"{source / ADAPTER} names the base model {base.name}, which is no directory here; put its path there.")
    refuse_unsafe(base)
    tokens = source if (source / "tokenizer_config.json").is_file() else base
    tokenizer: Any = AutoTokenizer.from_pretrained(tokens, **OURS_ALONE)
    adapted, types = opened_adapter(source, base)
    rows = adapted.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise InputError(f"The tokenizer in {tokens} has {len(tokenizer)} tokens and the merged model {rows}; take the adapter's own tokenizer.")
    ids = tried_tokens(tokenizer, rows)
    wanted = logprobs(adapted, ids)
    network = merged(adapted)
    for weight_name, weight in network.named_parameters():  # peft keeps whole layers of a narrow base in fp32
        weight.data = weight.data.to(types.get(weight_name, network.dtype))
    weights = dict(network.state_dict())
    write_model(network, weights, target, network.dtype)
    tokenizer.save_pretrained(target)
    prove(target, name, weights, wanted, ids, network.dtype)


def prompts_of(folder: Path, template: dict[str, Any]) -> tuple[Callable[[Sequence[Message]], Prompt], int]:
    """(what turns messages into the prompt that this model reads, the longest sequence it takes); its weights are not opened. Raises
    InputError, also where another trainer could not keep an answer's form."""
    from transformers import AutoConfig

    refuse_unsafe(folder)
    tokenizer = open_tokenizer(folder)
    shape: Any = AutoConfig.from_pretrained(folder, **OURS_ALONE).get_text_config()
    _refuse_lost_tags(tokenizer, folder)
    longest = int(getattr(shape, "max_position_embeddings", None) or 1 << 30)
    return lambda messages: render_prompt(tokenizer, messages, template), longest


def _refuse_lost_tags(tokenizer: Any, folder: Path) -> None:
    """Other trainers take special tokens out of an answer; where the protocol's tags are such, no answer would have its form."""
    lost = [tag for tag in (THINK_OPEN, THINK_CLOSE, ANSWER_OPEN, ANSWER_CLOSE) if tag in tokenizer.all_special_tokens]
    if lost:
        raise InputError(
            f"{folder.name} has {', '.join(lost)} among its special tokens, which verl and TRL take out of an answer before it is judged; "
            "take them off that list in tokenizer_config.json."
        )


def say_when_to_stop(folder: Path, template: dict[str, Any], max_new_tokens: int | None) -> None:
    """Every token that ends an answer, and how long one may get, in the generation config; greedy unless a caller asks otherwise."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    if not getattr(tokenizer, "chat_template", None):
        raise InputError(f"{folder.name} has no chat template; add `chat_template.jinja` to the model before it is exported.")
    file = folder / GENERATION
    tree: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    end_id, stops = end_of_turn(tokenizer, tree.get("eos_token_id"), template)
    pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else end_id
    kept = {key: value for key, value in tree.items() if key not in ("temperature", "top_p", "top_k", "_from_model_config")}
    limit = {} if max_new_tokens is None else {"max_new_tokens": max_new_tokens}
    ordered = [end_id, *sorted(stops - {end_id})]
    made = {**kept, "do_sample": False, "eos_token_id": ordered, "pad_token_id": pad_id, **limit}
    write_text(file, json.dumps(made, indent=2, sort_keys=True) + "\n")
