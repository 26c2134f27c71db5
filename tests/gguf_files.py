"""Small GGUF files of the llama architecture, written on the spot with random weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

HIDDEN, LAYERS, HEADS, KEY_HEADS, INNER = 64, 2, 4, 2, 96
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|eot|>", "<|pad|>")
ADDED = ("<think>",)  # user-defined: matched whole, and not special
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MERGES = ("Ġ t", "h e", "Ġt he", "1 2", "Ċ Ċ")


def small_gguf(
    file: Path,
    kind: str = "F32",
    *,
    tied: bool = True,
    template: str | None = TEMPLATE,
    architecture: str = "llama",
    leave_out: tuple[str, ...] = (),
    tensors: Mapping[str, np.ndarray] = {},
    change: Callable[[Any], None] = lambda writer: None,
) -> Path:
    """Writes a model whose matrices are stored in `kind`. `tensors` come on top, `change` gets the
    writer before the end."""
    from gguf import GGMLQuantizationType, GGUFWriter
    from gguf.quants import quantize
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    tokens = [*SPECIAL, *ADDED, *bytes_to_unicode().values(), *(merge.replace(" ", "") for merge in MERGES)]
    types = [3] * len(SPECIAL) + [4] * len(ADDED) + [1] * (len(tokens) - len(SPECIAL) - len(ADDED))
    writer = GGUFWriter(file, architecture)
    writer.add_name("tiny")
    writer.add_license("apache-2.0")
    writer.add_block_count(LAYERS)
    writer.add_context_length(512)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_rope_freq_base(100000.0)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(list(MERGES))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(4)
    writer.add_add_bos_token(False)
    if template is not None:
        writer.add_chat_template(template)
    for name, weight in (_weights(len(tokens), tied) | dict(tensors)).items():
        if name in leave_out:
            continue
        stored = GGMLQuantizationType.F32 if weight.ndim < 2 else GGMLQuantizationType[kind]
        writer.add_tensor(name, weight if stored.name == "F32" else quantize(weight, stored), raw_dtype=stored)
    change(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _weights(vocabulary: int, tied: bool) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)

    def matrix(rows: int, columns: int) -> np.ndarray:
        return (draw.standard_normal((rows, columns)) / columns**0.5).astype(np.float32)

    narrow = HIDDEN // HEADS * KEY_HEADS
    found = {"token_embd.weight": matrix(vocabulary, HIDDEN), "output_norm.weight": np.ones(HIDDEN, np.float32)}
    for layer in range(LAYERS):
        found |= {
            f"blk.{layer}.attn_norm.weight": draw.random(HIDDEN, np.float32) + 0.5,
            f"blk.{layer}.ffn_norm.weight": draw.random(HIDDEN, np.float32) + 0.5,
            f"blk.{layer}.attn_q.weight": matrix(HIDDEN, HIDDEN),
            f"blk.{layer}.attn_k.weight": matrix(narrow, HIDDEN),
            f"blk.{layer}.attn_v.weight": matrix(narrow, HIDDEN),
            f"blk.{layer}.attn_output.weight": matrix(HIDDEN, HIDDEN),
            f"blk.{layer}.ffn_gate.weight": matrix(INNER, HIDDEN),
            f"blk.{layer}.ffn_up.weight": matrix(INNER, HIDDEN),
            f"blk.{layer}.ffn_down.weight": matrix(HIDDEN, INNER),
        }
    return found if tied else found | {"output.weight": matrix(vocabulary, HIDDEN)}
