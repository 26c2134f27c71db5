"""Configs of small random models, each with a trait that some of today's checkpoints have, and what
builds a directory from one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, Gemma3Config, Gemma3ForConditionalGeneration

from ehrmind.engines.local.tiny import train_tokenizer

ROPE_SWITCH = 64  # tokens, where longrope and dynamic scaling change their factors
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "initializer_range": 0.2,
}
GPT2_SIZES = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 1024}
MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1, "mamba_chunk_size": 16}
DELTA_NET = {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"],
}
LONGROPE = {
    "rope_type": "longrope",
    "short_factor": [1.0] * 4,
    "long_factor": [4.0, 8.0, 16.0, 32.0],
    "factor": 16.0,
    "original_max_position_embeddings": ROPE_SWITCH,
    "rope_theta": 10000.0,
}
DYNAMIC_ROPE = {
    "rope_type": "dynamic",
    "factor": 8.0,
    "original_max_position_embeddings": ROPE_SWITCH,
    "rope_theta": 10000.0,
}
GPT_OSS = {
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "head_dim": 8,
    "sliding_window": 16,
    "layer_types": ["sliding_attention", "full_attention"],
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
}

# Name: the model type, and what its config says beyond SIZES
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "tied": ("llama", {"tie_word_embeddings": True}),
    "untied": ("llama", {"tie_word_embeddings": False}),
    "longrope": (
        "phi3",
        {"rope_parameters": LONGROPE, "original_max_position_embeddings": ROPE_SWITCH, "sliding_window": None},
    ),
    "dynamic_rope": ("llama", {"rope_parameters": DYNAMIC_ROPE, "max_position_embeddings": 512}),
    "qwen3_5": ("qwen3_5_text", DELTA_NET),
    "lfm2": ("lfm2", {"layer_types": ["conv", "full_attention"], "full_attn_idxs": [1]}),
    "granite_4_h": (
        "granitemoehybrid",
        {**MAMBA, "layer_types": ["mamba", "attention"], "num_local_experts": 0, "shared_intermediate_size": 32},
    ),
    "bamba": ("bamba", {**MAMBA, "attn_layer_indices": [1]}),
    "falcon_mamba": ("falcon_mamba", {"state_size": 8}),
    "rwkv": ("rwkv", {"attention_hidden_size": 32}),  # takes `past_key_values` and does not look at it
    "gemma3_images": ("gemma3", {}),  # a text-and-image model, built below
    "attention_dropout": ("granite", {"attention_dropout": 0.1}),
    "hidden_dropout": ("biogpt", {}),
    "gpt2": ("gpt2", GPT2_SIZES),  # dropout of all kinds, absolute positions
    "gpt_oss": ("gpt_oss", GPT_OSS),  # sinks, sliding windows, experts
    "gemma2": ("gemma2", {"head_dim": 8, "sliding_window": 16, "query_pre_attn_scalar": 8}),  # capped scores
    "bloom": ("bloom", {"n_layer": 2, "n_head": 4}),  # alibi
    "llama4": (
        "llama4_text",
        {
            "head_dim": 8,
            "num_local_experts": 2,
            "attention_chunk_size": 16,
            "intermediate_size_mlp": 64,
            "interleave_moe_layer_step": 1,
            "layer_types": ["chunked_attention", "full_attention"],
            "no_rope_layers": [1, 0],
        },
    ),
    "fp8": (
        "qwen3",
        {
            "hidden_size": 128,
            "intermediate_size": 128,
            "num_key_value_heads": 4,
            "head_dim": 32,
            "initializer_range": 0.05,
        },
    ),
    "mxfp4": ("gpt_oss", GPT_OSS),
    "bfloat16": ("llama", {}),
}


def build_from_config(folder: Path, name: str, synthetic_text: Iterable[str], *, seed: int) -> None:
    """Write a model directory with random weights, its tokenizer and a plain chat template."""
    tokenizer = train_tokenizer(synthetic_text, 400)
    kind, more = CONFIGS[name]
    ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    shape = {**SIZES, "vocab_size": -(-len(tokenizer) // 64) * 64, **ids, **more}
    torch.manual_seed(seed)
    dtype = torch.bfloat16 if name == "bfloat16" else torch.float32
    if name == "gemma3_images":
        network = _with_images(shape)
    else:
        network = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **shape), dtype=dtype)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if name in QUANTISED:
        _quantise(folder, *QUANTISED[name])


def _with_images(shape: dict[str, Any]) -> Any:
    """As gemma-3-4b-it and medgemma-4b-it are: what a text model's config says stands in
    `text_config`."""
    text = {
        **shape,
        "head_dim": 8,
        "sliding_window": 16,
        "layer_types": ["sliding_attention", "full_attention"],
        "query_pre_attn_scalar": 8,
    }
    vision = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    }
    last = shape["vocab_size"] - 1
    tokens = {
        "boi_token_index": last - 2,
        "eoi_token_index": last - 1,
        "image_token_index": last,
        "mm_tokens_per_image": 4,
    }
    return Gemma3ForConditionalGeneration(
        Gemma3Config(
            text_config=text,
            vision_config=vision,
            eos_token_id=shape["eos_token_id"],
            pad_token_id=shape["pad_token_id"],
            **tokens,
        )
    )


def _quantise(
    folder: Path, how: dict[str, Any], quantised: Callable[[str, torch.Tensor], dict[str, torch.Tensor]]
) -> None:
    tensors: dict[str, torch.Tensor] = {}
    for name, weight in load_file(folder / "model.safetensors").items():
        tensors |= quantised(name, weight)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": how}), encoding="utf-8")


def _in_fp8(name: str, weight: torch.Tensor) -> dict[str, torch.Tensor]:
    """As Qwen3-*-FP8: a scale for every block of 128 by 128."""
    if not name.endswith("proj.weight"):
        return {name: weight}
    blocks = weight.unflatten(0, (-1, 128)).unflatten(2, (-1, 128))
    scales = blocks.abs().amax((1, 3)) / 448
    small = (blocks / scales[:, None, :, None]).flatten(2, 3).flatten(0, 1)
    return {name: small.to(torch.float8_e4m3fn), name + "_scale_inv": scales}


def _in_mxfp4(name: str, weight: torch.Tensor) -> dict[str, torch.Tensor]:
    """As gpt-oss: the experts' weights, 32 numbers to a scale of powers of 2, are random
    nibbles."""
    if not name.endswith(("gate_up_proj", "down_proj")):
        return {name: weight.to(torch.bfloat16)}
    experts, width, rows = weight.shape
    blocks = torch.randint(0, 256, (experts, rows, width // 32, 16)).to(torch.uint8)
    return {
        name + "_blocks": blocks,
        name + "_scales": torch.full((experts, rows, width // 32), 124, dtype=torch.uint8),
    }


QUANTISED: dict[str, tuple[dict[str, Any], Callable[[str, torch.Tensor], dict[str, torch.Tensor]]]] = {
    "fp8": (
        {"quant_method": "fp8", "activation_scheme": "dynamic", "fmt": "e4m3", "weight_block_size": [128, 128]},
        _in_fp8,
    ),
    "mxfp4": (
        {
            "quant_method": "mxfp4",
            "modules_to_not_convert": [
                "model.layers.*.self_attn",
                "model.layers.*.mlp.router",
                "model.embed_tokens",
                "lm_head",
            ],
        },
        _in_mxfp4,
    ),
}
