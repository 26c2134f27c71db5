"""A model directory as everybody opens it: `transformers`, TRL, `vllm serve`, `transformers serve`. Files are copied, adapters merged on
request.

What a served model needs beyond the weights is how it was asked: the generation config gets greedy decoding and every token that ends an
answer, and nothing that the run did not use; the chat template gets the run's arguments and date.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from ehrmind.engines.local.chat import Chat, named_ends, open_chat, plain_generation, render
from ehrmind.engines.local.chat_template import reads_date, with_defaults
from ehrmind.engines.local.engine import as_it_is, open_tokenizer
from ehrmind.engines.local.gate import ADAPTER, admit_adapter, admit_model
from ehrmind.engines.local.opening import opened_config, opening
from ehrmind.files import write_text
from ehrmind.prompts.protocol import ANSWER_CLOSE, ANSWER_OPEN, THINK_CLOSE, THINK_OPEN
from ehrmind.types import InputError, Message

TAGS = (THINK_OPEN, THINK_CLOSE, ANSWER_OPEN, ANSWER_CLOSE)
KEPT = {".json", ".safetensors", ".jinja", ".txt", ".model"}
GENERATION, TEMPLATE = "generation_config.json", "chat_template.jinja"


def is_adapter(folder: Path) -> bool:
    """A folder of peft's, without the model that it changes."""
    return (folder / ADAPTER).is_file() and not (folder / "config.json").is_file()


def copy_model(source: Path, target: Path, *, leave_out: tuple[str, ...] = ()) -> None:
    """The files of a model, links followed; nothing else that lies there. Raises InputError where the gate refuses the directory."""
    (admit_adapter if is_adapter(source) else admit_model)(source)
    for path in sorted(source.iterdir()):
        if path.is_file() and path.suffix in KEPT and path.name not in leave_out:
            shutil.copyfile(path, target / path.name)


def chat_of(folder: Path, arguments: Mapping[str, Any], day: date | None = None) -> Chat:
    """Opens a model's chat format without its weights. Raises InputError."""
    admit_model(folder)
    return open_chat(open_tokenizer(folder, day), named_ends(folder), arguments)


def writes_today(folder: Path) -> bool:
    """Tells whether the model's chat template writes the day on which it is rendered."""
    template = as_it_is(folder).chat_template
    return isinstance(template, str) and reads_date(template)


def chat_elsewhere(folder: Path, arguments: dict[str, Any]) -> tuple[Chat, int]:
    """(how another trainer makes prompts for this model, the longest sequence it takes), without opening its weights. Raises InputError,
    also where another trainer could not keep an answer's form."""
    chat = replace(chat_of(folder, arguments), header="", closing="")  # which no other trainer writes
    with opening(folder):
        shape: Any = opened_config(folder).get_text_config()
    _refuse_lost_tags(chat.tokenizer, folder)
    return chat, int(getattr(shape, "max_position_embeddings", None) or 1 << 30)


def _refuse_lost_tags(tokenizer: Any, folder: Path) -> None:
    """Other trainers take special tokens out of an answer; where the protocol's tags are such, no answer would have its form."""
    lost = [tag for tag in TAGS if tag in tokenizer.all_special_tokens]
    if lost:
        raise InputError(
            f"{folder.name} has {', '.join(lost)} among its special tokens, which verl and TRL take out of an answer before it is judged; "
            "take them off that list in tokenizer_config.json."
        )


def say_how_to_answer(folder: Path, asks: Mapping[str, Any]) -> str:
    """Writes what an answer depended on in the run (`asks`) into the files that every reader of the
    model takes it from. Returns the words that end a turn where no token does, which no file can
    say. Raises InputError."""
    model, day = asks.get("model", {}), asks.get("model", {}).get("date")
    chat = chat_of(folder, model.get("template", {}), None if day is None else date.fromisoformat(str(day)))
    if dtype := model.get("dtype"):
        _write_dtype(folder, dtype)
    _show_tags(folder, chat.tokenizer)
    _write_template(folder, chat, thinks=asks.get("prompts", {}).get("think", True))
    generation = plain_generation(chat).to_dict()
    kept = {name: generation[name] for name in ("do_sample", "eos_token_id", "pad_token_id", "bos_token_id")}
    if (limit := asks.get("decoding", {}).get("max_new_tokens")) is not None:
        kept["max_new_tokens"] = limit
    said = {name: value for name, value in kept.items() if value is not None}
    write_text(folder / GENERATION, json.dumps(said, indent=2, sort_keys=True) + "\n")
    return chat.end_text


def _show_tags(folder: Path, tokenizer: Any) -> None:
    """Servers leave special tokens out of an answer; where the protocol's tags are such, they stay tokens and are special no more."""
    if not (hidden := set(TAGS) & set(tokenizer.all_special_tokens)):
        return
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        file = folder / name
        if not file.is_file():
            continue
        tree = json.loads(file.read_text(encoding="utf-8"))
        known = tree.get("added_tokens") or list((tree.get("added_tokens_decoder") or {}).values())
        for token in known:
            token["special"] = token["special"] and token["content"] not in hidden
        for key in ("additional_special_tokens", "extra_special_tokens"):
            if isinstance(tree.get(key), list):
                tree[key] = [
                    token
                    for token in tree[key]
                    if (token["content"] if isinstance(token, dict) else token) not in hidden
                ]
        write_text(file, json.dumps(tree, indent=2, ensure_ascii=False) + "\n")
    if left := hidden & set(as_it_is(folder).all_special_tokens):
        raise InputError(
            f"{folder.name} has {', '.join(sorted(left))} among its special tokens, which a server leaves out of an answer; take them off "
            "that list in tokenizer_config.json."
        )


def _write_dtype(folder: Path, dtype: str) -> None:
    """Writes the precision that the run computed with. Readers take it from the config, whatever
    the weights are stored in. A quantised model has its own."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if "quantization_config" in config:
        return
    for part in (config, config.get("text_config") or {}):
        if part is config or "dtype" in part or "torch_dtype" in part:
            part.pop("torch_dtype", None)
            part["dtype"] = dtype
    if config != json.loads((folder / "config.json").read_text(encoding="utf-8")):
        write_text(folder / "config.json", json.dumps(config, indent=2, ensure_ascii=False) + "\n")


def _write_template(folder: Path, chat: Chat, *, thinks: bool) -> None:
    """Writes the chat template with the run's date and arguments, and with what the run put behind
    its prompts. A server without further settings then writes the same."""
    text = chat.tokenizer.get_chat_template()
    made = with_defaults(text, chat.arguments, chat.after_prompt(thinks=thinks))
    if made == as_it_is(folder).get_chat_template():
        return
    write_text(folder / TEMPLATE, made)
    file = folder / "tokenizer_config.json"
    tree = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if "chat_template" in tree:
        write_text(file, json.dumps({**tree, "chat_template": made}, indent=2, ensure_ascii=False) + "\n")
    asked = [Message("user", "What?")]
    if render(as_it_is(folder), asked, {}) != render(chat.tokenizer, asked, chat.arguments) + chat.after_prompt(
        thinks=thinks
    ):
        raise InputError(
            f"The chat template of {folder.name} does not take model.template as its own defaults, so a server would ask otherwise than "
            "the run; write these values into the template itself."
        )
