"""Shared by the benchmarks of a step: a random model, prompts for it, our engine and learner on
them.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

VOCABULARY = 4096
SPECIAL = 32
OUR_MICROBATCH = {"cpu": 4096, "cuda": 12288}


class Case(NamedTuple):
    prompts: int
    length: int  # tokens of a prompt
    members: int
    new: int = 128
    device: str = "cpu"

    def __str__(self) -> str:
        return f"{self.prompts}x{self.length}x{self.members}"


# Well-known sizes, random weights: 3b is shaped like Llama 3.2 3B
SHAPES: dict[str, dict[str, Any]] = {
    "smollm2-135m": {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "head_dim": 64,
        "vocab_size": 49152,
        "max_position_embeddings": 8192,
        "rope_parameters": {"rope_type": "default", "rope_theta": 100000.0},
    },
    "3b": {
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "num_hidden_layers": 28,
        "num_attention_heads": 24,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
    },
}


def shape_of(layers: int = 6, width: int = 256) -> dict[str, int]:
    """A random model of about 6 million parameters by default, with heads of 64."""
    heads = {"num_attention_heads": max(1, width // 64), "num_key_value_heads": max(1, width // 64)}
    size = {"hidden_size": width, "intermediate_size": width * 3, "num_hidden_layers": layers, "vocab_size": VOCABULARY}
    return size | heads


def add_shape(parser: argparse.ArgumentParser) -> None:
    """The options that say which model is measured."""
    parser.add_argument("--shape", choices=sorted(SHAPES), help="a well-known shape, with random weights")
    parser.add_argument("--model", type=Path, metavar="DIR", help="a model's own directory, with its tokenizer")
    parser.add_argument("--hidden", type=int, default=256, help="width of a random model without --shape")
    parser.add_argument("--layers", type=int, default=6, help="layers of a random model without --shape")


def model_in(scratch: Path, given: argparse.Namespace, *, device: str = "cpu") -> Path:
    """The directory of the model that `add_shape`'s options name, written if it is random."""
    if given.model is not None:
        return Path(given.model).resolve()
    folder = scratch / "model"
    write_model(folder, SHAPES[given.shape] if given.shape else shape_of(given.layers, given.hidden), device=device)
    return folder


def write_model(folder: Path, shape: Mapping[str, Any], *, device: str = "cpu") -> None:
    """Llama-shaped, random, with a tokenizer of single words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = ["<pad>", "<eos>", *(f"w{number}" for number in range(shape["vocab_size"] - 2))]
    core = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<pad>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<eos>")
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }} <eos>{% endfor %}"
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    ends = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None}
    config = LlamaConfig(**{"max_position_embeddings": 4096, "tie_word_embeddings": True, **ends, **shape})
    with torch.device(device):  # billions of random numbers are slow to draw on a CPU
        network = LlamaForCausalLM(config)
    (network if device == "cpu" else network.bfloat16()).save_pretrained(
        folder
    )  # half the bytes to read; sides open them as they like


def operations(case: Case, config: Any) -> float:
    """Floating-point operations of one update with each prompt computed once: forward, and twice
    that backward."""
    heads, width = config.num_attention_heads, config.head_dim
    layer = (
        config.hidden_size * width * 2 * (heads + config.num_key_value_heads)
        + 3 * config.hidden_size * config.intermediate_size
    )
    answered = case.prompts * case.members * case.new
    seen = case.prompts * (case.length**2 / 2 + case.members * case.new * (case.length + case.new / 2))
    weights = config.num_hidden_layers * layer * (case.prompts * case.length + answered)
    return 3 * (
        2 * weights
        + 2 * config.hidden_size * config.vocab_size * answered
        + 4 * seen * heads * width * config.num_hidden_layers
    )


def now(device: str) -> float:
    import torch

    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def prompt_ids(number: int, length: int, vocabulary: int = VOCABULARY) -> list[int]:
    """Token ids over the whole vocabulary, but for the first, which are often special."""
    usual = vocabulary - SPECIAL
    return [SPECIAL + (number * 7919 + place * place * 31 + place * 17) % usual for place in range(length)]


def vocabulary_of(folder: Path) -> int:
    return int(json.loads((folder / "config.json").read_text(encoding="utf-8"))["vocab_size"])


def open_side(folder: Path, case: Case, dtype: str) -> tuple[Any, Any, list[Any], Any]:
    """Our engine and learner, the prompts, the decoding; no answer ends early."""
    from ehrmind.config import Decoding, Model, Rlvr
    from ehrmind.engines.local.engine import open_engine
    from ehrmind.types import Prompt

    settings = Model.model_validate({"name": str(folder), "autocast": dtype == "bfloat16", "device": case.device})
    engine = open_engine(settings, folder, rows=512)
    assert engine.shared
    engine.stop_ids = frozenset()
    rlvr = Rlvr(
        learning_rate=1e-6,
        kl=0.0,
        samples=case.members,
        questions_per_step=case.prompts,
        tokens_per_microbatch=OUR_MICROBATCH[case.device],
    )
    decoding = Decoding(temperature=1.0, max_new_tokens=case.new)
    vocabulary = vocabulary_of(folder)
    asked = [Prompt(tuple(prompt_ids(number, case.length, vocabulary))) for number in range(case.prompts)]
    return engine, engine.learner(rlvr, 1000, rlvr=rlvr, decoding=decoding), asked, decoding


def groups_of(asked: list[Any], answers: list[Any], members: int) -> list[Any]:
    from ehrmind.types import Case, Group, Verdict

    case, verdict = Case("c", "f", "t", "f/c/t", "train", "g", {}, {}), Verdict(False, 0.0, {})
    advantages = [1.0 if member % 2 else -1.0 for member in range(members)]
    return [
        Group(case, prompt, own, [verdict] * members, advantages) for prompt, own in zip(asked, answers, strict=True)
    ]
