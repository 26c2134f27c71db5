"""Writes a GGUF file as a model directory for `ehrmind model convert`, and proves it.

The weights read back are bit for bit those of `from_pretrained(gguf_file=…)`, their
log-probabilities agree, the tokenizer gives the same ids, and the directory opens like any other.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from ehrmind import __version__
from ehrmind.engines.local.chat.conversation import named_ends, open_chat, plain_generation
from ehrmind.engines.local.memory import free_memory
from ehrmind.engines.local.opening.config import refuse_incomplete
from ehrmind.engines.local.opening.gguf import TEMPLATE, end_ids, open_gguf
from ehrmind.engines.local.opening.gguf_header import GgufHeader, read_header
from ehrmind.engines.local.opening.network import padding_id, usable_tokens
from ehrmind.engines.local.opening.tokenizer import open_tokenizer, open_unchanged
from ehrmind.engines.local.saving.proof import Memory, logprobs, prove, tried_tokens
from ehrmind.engines.local.saving.saved_model import write_model
from ehrmind.files import stored, write_json
from ehrmind.types import InputError

NOTE = "converted_from.json"
VERSIONS = ("transformers", "gguf", "torch", "tokenizers", "safetensors")
ROOM = 1.2  # times the weights: in memory with what one tensor takes, on disk with the tokenizer
SPARE = 64 << 20
# Spaces, line ends, digits, scripts, combining marks, bytes, a tokenizer's own markers
ODD = (
    "",
    " ",
    "  \n\n\t1  22 333\r\n",
    "Cr 1.40 mg/dL;  K+ 5,600\u00a0mmol/L (↑)",
    "don't we'LL I'm DON'T",
    "naïve Größe ｆｕｌｌ café cafe\u0301 Ω µ ℃ ½",
    "日本語 العربية עברית हिन्दी ไทย 🩺👩🏽‍⚕️",
    "\x00\x07\ufffd\u200b\u202e\ufeff",
    "<|im_start|>user\n<s></s> <unk> [INST] <|endoftext|> <think>x</think>",
    "▁▁a Ġb ĊĊc <0x0A> <0xFF>",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa            b",
)


def convert_gguf(file: Path, folder: Path, name: str, dtype: str, say: Callable[[str], None]) -> None:
    """Fills `folder`, to be called `name`. Raises InputError with one sentence for any fault."""
    header = read_header(file)
    if not isinstance(header.fields.get(TEMPLATE), str):
        raise InputError(
            f"{file.name} has no chat template ({TEMPLATE}); take the instruction-tuned model, whose file has one."
        )
    kind = getattr(torch, dtype)
    _refuse_without_room(header, file, folder, kind)
    say(f"reading {file.name}: {header.numbers / 1e6:,.0f} million weights, {header.quantisation}")
    opened = open_gguf(file, header, kind)
    network = opened.network
    for key, weight in network.named_parameters():
        if not bool(weight.isfinite().all()):
            raise InputError(f"{file.name} holds numbers that are not finite in {key}; get the model again.")
    say(f"writing {name} in {dtype}")
    opened.tokenizer.save_pretrained(folder)
    chat = open_chat(open_tokenizer(folder), end_ids(header), {})
    places = usable_tokens(network, opened.tokenizer, [chat.end_id], file)
    network.generation_config = plain_generation(chat, padding_id(opened.tokenizer, chat.end_id, places))
    weights = dict(network.state_dict())
    write_model(network, weights, folder, kind)
    _open_to_all(folder)
    say("comparing what was written with what was read")
    ids = tried_tokens(opened.tokenizer, places)
    proof = prove(folder, name, Memory(network, weights, logprobs(network, ids), ids, kind))
    refuse_incomplete(folder)
    if not chat.stop_ids <= named_ends(folder):
        raise InputError(f"The ends of an answer in {name} are not those of {file.name}; convert it again.")
    _refuse_other_ids(opened.tokenizer, open_unchanged(folder), name)
    source = stored(file)
    note = {
        "file": file.name,
        "bytes": source.bytes,
        "sha256": source.sha256,
        "model": header.fields.get("general.name"),
        "licence": header.fields.get("general.license"),
        "architecture": header.architecture,
        "quantisation": header.quantisation,
        "tensors": dict(sorted(header.kinds.items())),
        "left_out": list(opened.left_out),
        "split_of_words": header.fields.get("tokenizer.ggml.pre"),
        "dtype": dtype,
        "proof": proof,
        "versions": {"ehrmind": __version__, **{package: metadata.version(package) for package in VERSIONS}},
    }
    write_json(folder / NOTE, note)


def _refuse_without_room(header: GgufHeader, file: Path, folder: Path, dtype: torch.dtype) -> None:
    needed = int(header.numbers * dtype.itemsize * ROOM) + SPARE
    smaller = "" if dtype.itemsize == 2 else ", or convert it with --dtype bfloat16"
    for what, free in (("disk space", shutil.disk_usage(folder).free), ("memory", free_memory())):
        if needed > free:
            raise InputError(
                f"{file.name} needs {needed / 2**30:.1f} GiB of {what}, and {free / 2**30:.1f} GiB are free; make "
                f"room{smaller}."
            )


def _open_to_all(folder: Path) -> None:
    """Gives the weights the permissions of the other files; safetensors writes for its owner
    alone.
    """
    for path in folder.glob("*.safetensors"):
        path.chmod((folder / "config.json").stat().st_mode)


def _refuse_other_ids(given: Any, found: Any, name: str) -> None:
    """Refuses a saved tokenizer that splits a text otherwise than the reader's."""
    texts = [*ODD, *given.all_special_tokens, *(f"a {token}b" for token in given.get_added_vocab())]
    for text in texts:
        for special in (True, False):
            ids = [each(text, add_special_tokens=special)["input_ids"] for each in (given, found)]
            if ids[0] != ids[1] or given.decode(ids[0]) != found.decode(ids[1]):
                raise InputError(
                    f"The tokenizer written as {name} splits {text[:40]!r} otherwise than the file's; get the model in "
                    "safetensors."
                )
    if given.get_vocab() != found.get_vocab() or given.chat_template != found.chat_template:
        raise InputError(f"The tokenizer written as {name} is not the file's; get the model in safetensors.")
