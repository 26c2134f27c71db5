"""What the benchmarks of a step share: a random model, prompts for it, and our engine and learner on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

VOCABULARY = 4096
OUR_MICROBATCH = 4096


class Case(NamedTuple):
    prompts: int
    length: int  # tokens of a prompt
    members: int
    new: int = 128
    device: str = "cpu"

    def __str__(self) -> str:
        return f"{self.prompts}x{self.length}x{self.members}"


def write_model(folder: Path, *, layers: int = 6, width: int = 256, device: str = "cpu") -> None:
    """Llama-shaped, random, about 6 million parameters unless told otherwise, with a tokenizer of single words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = ["<pad>", "<eos>", *(f"w{number}" for number in range(VOCABULARY - 2))]
    core = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<pad>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<eos>")
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }} <eos>{% endfor %}"
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    heads = max(1, width // 64)
    shape = {"hidden_size": width, "intermediate_size": width * 3, "num_hidden_layers": layers}
    shape |= {"num_attention_heads": heads, "num_key_value_heads": heads}
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
        **shape,
    )
    with torch.device(device):  # billions of random numbers are slow to draw on a CPU
        network = LlamaForCausalLM(config)
    network.save_pretrained(folder)


def prompt_ids(number: int, length: int) -> list[int]:
    return [2 + (number * 7919 + place * place * 31 + place * 17) % (VOCABULARY - 2) for place in range(length)]


def open_side(folder: Path, case: Case, dtype: str) -> tuple[Any, Any, list[Any], Any]:
    """Our engine and learner, the prompts, the decoding; no answer ends early."""
    from ehrmind.config import Decoding, Model, Rlvr
    from ehrmind.engines.local.engine import open_engine
    from ehrmind.types import Prompt

    settings = Model.model_validate({"name": str(folder), "autocast": dtype == "bfloat16", "device": case.device})
    engine = open_engine(settings, folder, rows=512)
    assert engine.shared
    engine.stop_ids = frozenset()
    rlvr = Rlvr(learning_rate=1e-6, kl=0.0, samples=case.members, questions_per_step=case.prompts, tokens_per_microbatch=OUR_MICROBATCH)
    decoding = Decoding(temperature=1.0, max_new_tokens=case.new)
    asked = [Prompt(tuple(prompt_ids(number, case.length))) for number in range(case.prompts)]
    return engine, engine.learner(rlvr, 1000, rlvr=rlvr, decoding=decoding), asked, decoding


def groups_of(asked: list[Any], answers: list[Any], members: int) -> list[Any]:
    from ehrmind.types import Case, Group, Verdict

    case, verdict = Case("c", "f", "t", "f/c/t", "train", "g", {}, {}), Verdict(False, 0.0, {})
    advantages = [1.0 if member % 2 else -1.0 for member in range(members)]
    return [Group(case, prompt, own, [verdict] * members, advantages) for prompt, own in zip(asked, answers, strict=True)]
