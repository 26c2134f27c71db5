"""Hugging Face export: a model directory for `transformers`, TRL, `vllm serve` and `transformers
serve`.

A served model must be prompted as in the run. So the generation config gets greedy decoding and
every token that ends an answer, and nothing else. The chat template gets the run's arguments and
date.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from ehrmind.engines.local.chat.conversation import Chat, named_ends, open_chat, plain_generation, render
from ehrmind.engines.local.chat.template_text import reads_date, with_defaults
from ehrmind.engines.local.opening.config import opened_config, opening
from ehrmind.engines.local.opening.gate import ADAPTER, admit_adapter, admit_model
from ehrmind.engines.local.opening.tokenizer import open_tokenizer, open_unchanged
from ehrmind.files import write_text
from ehrmind.prompts.protocol import ANSWER_CLOSE, ANSWER_OPEN, THINK_CLOSE, THINK_OPEN
from ehrmind.types import InputError, Message

TAGS = (THINK_OPEN, THINK_CLOSE, ANSWER_OPEN, ANSWER_CLOSE)
KEPT = {".json", ".safetensors", ".jinja", ".txt", ".model"}
GENERATION, TEMPLATE = "generation_config.json", "chat_template.jinja"


def is_adapter(folder: Path) -> bool:
    """Tells whether a folder holds an adapter without its base model."""
    return (folder / ADAPTER).is_file() and not (folder / "config.json").is_file()


def copy_model(source: Path, target: Path, *, leave_out: tuple[str, ...] = ()) -> None:
    """Copies the files of a model, following links, and no other files.

    Raises InputError if the gate refuses it.
    """
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
    template = open_unchanged(folder).chat_template
    return isinstance(template, str) and reads_date(template)


def chat_elsewhere(folder: Path, arguments: dict[str, Any]) -> tuple[Chat, int]:
    """Returns the chat format that another trainer uses for this model, and the model's longest
    sequence.

    Weights are not opened. Raises InputError, also if another trainer would break the answer
    protocol.
    """
    chat = replace(chat_of(folder, arguments), header="", closing="")  # no other trainer writes these
    with opening(folder):
        shape: Any = opened_config(folder).get_text_config()
    _refuse_lost_tags(chat.tokenizer, folder)
    return chat, int(getattr(shape, "max_position_embeddings", None) or 1 << 30)


def _refuse_lost_tags(tokenizer: Any, folder: Path) -> None:
    """Refuses a tokenizer that has the protocol's tags as special tokens: other trainers remove
    those from an answer.
    """
    lost = [tag for tag in TAGS if tag in tokenizer.all_special_tokens]
    if lost:
        raise InputError(
            f"{folder.name} has {', '.join(lost)} among its special tokens, which verl and TRL take out of an answer "
            "before it is judged; "
            "take them off that list in tokenizer_config.json."
        )


def say_how_to_answer(folder: Path, asks: Mapping[str, Any]) -> str:
    """Writes the run's settings that an answer depends on (`asks`) into the model's own files.

    Returns the words that end a turn if no token does: no file can hold them. Raises InputError.
    """
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
    """Makes the protocol's tags plain tokens if they are special, because servers drop special
    tokens from an answer.
    """
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
    if left := hidden & set(open_unchanged(folder).all_special_tokens):
        raise InputError(
            f"{folder.name} has {', '.join(sorted(left))} among its special tokens, which a server leaves out of an "
            "answer; take them off "
            "that list in tokenizer_config.json."
        )


def _write_dtype(folder: Path, dtype: str) -> None:
    """Writes the run's precision into the config, where readers take it from.

    A quantised model keeps its own.
    """
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
    """Writes the chat template with the run's date, arguments and end of prompt.

    A server without further settings then renders the same prompts.
    """
    text = chat.tokenizer.get_chat_template()
    made = with_defaults(text, chat.arguments, chat.after_prompt(thinks=thinks))
    if made == open_unchanged(folder).get_chat_template():
        return
    write_text(folder / TEMPLATE, made)
    file = folder / "tokenizer_config.json"
    tree = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if "chat_template" in tree:
        write_text(file, json.dumps({**tree, "chat_template": made}, indent=2, ensure_ascii=False) + "\n")
    asked = [Message("user", "What?")]
    if render(open_unchanged(folder), asked, {}) != render(chat.tokenizer, asked, chat.arguments) + chat.after_prompt(
        thinks=thinks
    ):
        raise InputError(
            f"The chat template of {folder.name} does not take model.template as its own defaults, so a server would "
            "ask otherwise than "
            "the run; write these values into the template itself."
        )
