"""Opens a model's tokenizer and its chat template."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

from ehrmind.engines.local.chat.template_text import pinned
from ehrmind.engines.local.opening.config import OURS_ALONE, opening
from ehrmind.engines.local.opening.gate import admit_tokenizer
from ehrmind.engines.local.opening.template_probe import BYTES, SECONDS, is_bounded
from ehrmind.types import InputError


def open_tokenizer(folder: Path, day: date | None = None) -> Any:
    """Opens a tokenizer whose chat template writes `day` (default: today) as the date.

    Raises InputError if it has no template.
    """
    tokenizer = open_unchanged(folder)
    if not getattr(tokenizer, "chat_template", None):
        raise InputError(
            f"{folder.name} has no chat template; use an instruction-tuned model, or add `chat_template.jinja` to it."
        )
    if isinstance(tokenizer.chat_template, str):
        tokenizer.chat_template = pinned(tokenizer.chat_template, day or date.today())
    return tokenizer


def open_unchanged(folder: Path) -> Any:
    """Opens a tokenizer with its template unchanged.

    Raises InputError if the gate refuses the directory, or if the template does not end in time.
    """
    from transformers import AutoTokenizer

    admit_tokenizer(folder)
    with opening(folder, "its tokenizer"):
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, **OURS_ALONE)
        # Some faults show only in use
        tokenizer.decode(tokenizer("Weight: 50 kg", add_special_tokens=False)["input_ids"])
        _ = len(tokenizer), tokenizer.all_special_ids, tokenizer.added_tokens_decoder
    said = tokenizer.chat_template
    for template in said.values() if isinstance(said, dict) else [said]:
        if isinstance(template, str) and not is_bounded(template):
            raise InputError(
                f"The chat template of {folder.name} takes more than {SECONDS} seconds or {BYTES >> 30} GiB for a "
                "short conversation; use "
                "the model's own template."
            )
    return tokenizer
