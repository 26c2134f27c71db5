"""`export model --merge`: adapters of every shape that people bring become the model that peft
computes with, or one sentence.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from ehrmind.export.model import described, export_model
from ehrmind.types import InputError
from tests.small_models import small_model, tokens

ATTENTION = ["q_proj", "v_proj"]
NEW = ["<|finding|>", "<|unit|>"]
# By name: what the adapter's config says, and whether tokens were added first
SHAPES: dict[str, tuple[dict[str, Any], bool]] = {
    "attention": ({"target_modules": ATTENTION}, False),
    "every linear layer": ({"target_modules": "all-linear"}, False),
    "the output layer": ({"target_modules": [*ATTENTION, "lm_head"]}, False),
    "the embeddings": ({"target_modules": [*ATTENTION, "embed_tokens"]}, False),
    "both ends": ({"target_modules": [*ATTENTION, "embed_tokens", "lm_head"]}, False),
    "both ends, tied": (
        {"target_modules": [*ATTENTION, "embed_tokens", "lm_head"], "ensure_weight_tying": True},
        False,
    ),
    "whole embeddings": ({"target_modules": ATTENTION, "modules_to_save": ["embed_tokens"]}, False),
    "whole output layer": ({"target_modules": ATTENTION, "modules_to_save": ["lm_head"]}, False),
    "added tokens, whole ends": ({"target_modules": ATTENTION, "modules_to_save": ["embed_tokens", "lm_head"]}, True),
    "added tokens, adapted ends": ({"target_modules": [*ATTENTION, "embed_tokens", "lm_head"]}, True),
    "single tokens": ({"target_modules": ATTENTION, "trainable_token_indices": [5, 9]}, False),
    "added tokens alone": ({"target_modules": ATTENTION, "trainable_token_indices": {"embed_tokens": "new"}}, True),
    "dora": ({"target_modules": ATTENTION, "use_dora": True}, False),
    "rank-stabilised": ({"target_modules": ATTENTION, "use_rslora": True}, False),
    "biases": ({"target_modules": ATTENTION, "bias": "lora_only", "lora_bias": False}, False),
}


def adapter(base: Path, out: Path, shape: dict[str, Any], added: bool, dtype: torch.dtype = torch.float32) -> Any:
    """Trained a little and written as peft does; what it computes when peft opens it."""
    torch.manual_seed(3)
    network = AutoModelForCausalLM.from_pretrained(base, dtype=dtype)
    tokenizer = AutoTokenizer.from_pretrained(base)
    if added:
        tokenizer.add_tokens(NEW)
        network.resize_token_embeddings(network.config.vocab_size + 8)
        if isinstance(shape.get("trainable_token_indices"), dict):
            shape = {
                **shape,
                "trainable_token_indices": {
                    "embed_tokens": [network.config.vocab_size - 8, network.config.vocab_size - 7]
                },
            }
    adapted: Any = get_peft_model(network, LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, **shape))
    for config in adapted.peft_config.values():
        config.base_model_name_or_path = str(base)
    x = torch.tensor([tokens(1, 25)])
    optimiser = torch.optim.AdamW([weight for weight in adapted.parameters() if weight.requires_grad], lr=2e-2)
    for _ in range(4):
        adapted(x, labels=x).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    adapted.save_pretrained(out)
    if added:
        tokenizer.save_pretrained(out)
    return adapted.eval()


def logprobs(network: Any) -> torch.Tensor:
    ids = torch.tensor([tokens(seed, 30) for seed in range(3)])
    with torch.no_grad():
        return torch.log_softmax(network(ids).logits.float(), -1)


@pytest.mark.parametrize("name", ["tied", "untied"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.filterwarnings("ignore")
def test_an_adapter_is_merged_into_what_peft_computes(tmp_path: Path, name: str, shape: str) -> None:
    adapted = adapter(small_model(tmp_path / "base", name), tmp_path / "adapter", *SHAPES[shape])
    merged = export_model(*described(tmp_path / "adapter"), tmp_path / "merged", card="", merge=True)
    network, found = AutoModelForCausalLM.from_pretrained(merged, output_loading_info=True)
    assert not found["missing_keys"] and not found["unexpected_keys"] and not found["mismatched_keys"]
    assert (logprobs(network) - logprobs(adapted)).abs().max() < 1e-4
    assert (
        network.config.vocab_size
        == network.get_input_embeddings().weight.shape[0]
        >= len(AutoTokenizer.from_pretrained(merged))
    )


@pytest.mark.parametrize("shape", ["every linear layer", "both ends", "added tokens, whole ends"])
@pytest.mark.filterwarnings("ignore")
def test_a_narrow_base_stays_narrow(tmp_path: Path, shape: str) -> None:
    adapted = adapter(
        small_model(tmp_path / "base", "bfloat16"), tmp_path / "adapter", *SHAPES[shape], dtype=torch.bfloat16
    )
    merged = export_model(*described(tmp_path / "adapter"), tmp_path / "merged", card="", merge=True)
    assert {tensor.dtype for tensor in load_file(merged / "model.safetensors").values()} == {torch.bfloat16}
    assert json.loads((merged / "config.json").read_text())["dtype"] == "bfloat16"
    network = AutoModelForCausalLM.from_pretrained(merged, dtype=torch.bfloat16)
    assert (logprobs(network) - logprobs(adapted)).abs().mean() < 0.1


@pytest.mark.parametrize("base", ["fp8", "mxfp4"])
@pytest.mark.filterwarnings("ignore")
def test_a_quantised_base_is_merged_in_plain_numbers(tmp_path: Path, base: str) -> None:
    adapted = adapter(small_model(tmp_path / "base", base), tmp_path / "adapter", *SHAPES["attention"])
    merged = export_model(*described(tmp_path / "adapter"), tmp_path / "merged", card="", merge=True)
    assert "quantization_config" not in json.loads((merged / "config.json").read_text())
    network, found = AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32, output_loading_info=True)
    assert not found["missing_keys"] and not found["unexpected_keys"]
    assert (logprobs(network) - logprobs(adapted)).abs().mean() < 0.1


def torn(folder: Path) -> None:
    tensors = load_file(folder / "adapter_model.safetensors")
    tensors.pop(sorted(tensors)[0])
    save_file(tensors, folder / "adapter_model.safetensors")


def of_another_model(folder: Path) -> None:
    tensors = load_file(folder / "adapter_model.safetensors")
    tensors |= {
        name.replace("layers.1", "layers.7"): tensor.clone() for name, tensor in tensors.items() if "layers.1" in name
    }
    save_file(tensors, folder / "adapter_model.safetensors")


def pickled(folder: Path) -> None:
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")


def of_another_width(folder: Path) -> None:
    small_model(folder.parent / "base", "fp8")


def with_other_tokens(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder.parent / "base")
    tokenizer.add_tokens([f"<|new {place}|>" for place in range(100)])
    tokenizer.save_pretrained(folder)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (torn, "lacks 1 weights that its adapter_config.json asks for"),
        (of_another_model, "weights that its base has no place for, such as base_model.model.model.layers.7"),
        (pickled, "save the adapter in safetensors"),
        (of_another_width, "cannot be opened on its base base"),
        (with_other_tokens, "take the adapter's own tokenizer"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_an_adapter_that_does_not_fit_is_one_sentence_and_leaves_nothing(tmp_path: Path, spoil: Any, said: str) -> None:
    adapter(small_model(tmp_path / "base", "untied"), tmp_path / "adapter", *SHAPES["attention"])
    spoil(tmp_path / "adapter")
    with pytest.raises(InputError, match=said):
        export_model(*described(tmp_path / "adapter"), tmp_path / "merged", card="", merge=True)
    assert not (tmp_path / "merged").exists() and not list(tmp_path.glob(".*"))
