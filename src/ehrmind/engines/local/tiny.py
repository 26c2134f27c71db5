"""Builds small models on the spot, so that a whole recipe runs, learns and is tested on two CPU
cores.

The tokenizer is trained on synthetic text only (never on records), splits digits, and has a plain
chat template.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from ehrmind.config import TinyModel
from ehrmind.prompts.protocol import ANSWER_CLOSE, ANSWER_OPEN, THINK_CLOSE, THINK_OPEN

PAD, END, USER, ASSISTANT = "<|pad|>", "<|end|>", "<|user|>", "<|assistant|>"
TAGS = (THINK_OPEN, THINK_CLOSE, ANSWER_OPEN, ANSWER_CLOSE)
TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def build_tiny(settings: TinyModel, synthetic_text: Iterable[str], folder: Path, *, seed: int) -> None:
    """Writes a model directory with random weights."""
    tokenizer = train_tokenizer(synthetic_text, settings.vocabulary)
    torch.manual_seed(seed)
    network = AutoModelForCausalLM.from_config(_config(settings, tokenizer), dtype=torch.float32)
    network.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)


def train_tokenizer(synthetic_text: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([PAD, END, USER, ASSISTANT])
    core.add_tokens([AddedToken(tag, normalized=False) for tag in TAGS])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(TAGS),
        initial_alphabet=alphabet,
        special_tokens=[PAD, END, USER, ASSISTANT],
        show_progress=False,
    )
    core.train_from_iterator(synthetic_text, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token=PAD, eos_token=END)
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def _config(settings: TinyModel, tokenizer: PreTrainedTokenizerFast) -> Any:
    shape: dict[str, Any] = {
        "vocab_size": -(-len(tokenizer) // 64) * 64,
        "hidden_size": settings.hidden,
        "intermediate_size": settings.hidden * 3,
        "num_hidden_layers": settings.layers,
        "num_attention_heads": settings.heads,
        "num_key_value_heads": settings.heads,
        "head_dim": settings.hidden // settings.heads,
        "max_position_embeddings": settings.context,
        "tie_word_embeddings": True,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
    }
    if settings.sliding_window is not None and settings.family != "llama":
        shape["sliding_window"] = settings.sliding_window
        if settings.family == "qwen3":
            shape |= {"use_sliding_window": True, "max_window_layers": settings.layers // 2}
    return AutoConfig.for_model({"llama": "llama", "qwen3": "qwen3", "gemma3": "gemma3_text"}[settings.family], **shape)
