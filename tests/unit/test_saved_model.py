"""What a run saves is what it trained: every family, all weights or an adapter, is read back by `transformers` alone and answers alike."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from ehrmind.config import Lora, Model, Optimiser
from ehrmind.engines.local.engine import LocalEngine, open_engine
from ehrmind.types import Prompt
from tests.small_models import EVERY_FAMILY, small_model, tokens

IDS = torch.tensor([tokens(seed, 30) for seed in range(3)])


@pytest.fixture(scope="module", params=EVERY_FAMILY)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return small_model(tmp_path_factory.mktemp(request.param) / request.param, request.param)


def trained(folder: Path, rate: float = 1e-2, **settings: object) -> LocalEngine:
    """After three steps that move every token's likelihood."""
    engine = open_engine(Model(name=str(folder), **settings), folder, rows=8)  # type: ignore[arg-type]
    before = logprobs(engine.network)
    learner = engine.learner(Optimiser(learning_rate=rate, warmup_share=0.0, schedule="constant"), 3)
    for _ in range(3):
        learner.learn_from_responses([(Prompt(tuple(tokens(seed, 12))), tuple(tokens(seed + 9, 8))) for seed in range(3)])
    assert (logprobs(engine.network) - before).abs().max() > 0.05, "it has learnt"
    return engine


def logprobs(network: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        logits = network.eval()(input_ids=IDS, use_cache=False).logits[:, :-1].float()
    return torch.log_softmax(logits, -1).gather(2, IDS[:, 1:, None])


def plain(folder: Path, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    network, found = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, output_loading_info=True)
    assert not found["missing_keys"] and not found["unexpected_keys"] and not found["mismatched_keys"], found
    return network


@pytest.mark.parametrize("how", ["all weights", "adapter"])
def test_the_saved_model_is_the_one_that_was_trained(family: Path, how: str, tmp_path: Path) -> None:
    engine = trained(family, lora=Lora(rank=4) if how == "adapter" else None)
    said = engine.save(tmp_path / "saved")
    assert said["proof"] == "weights and log-probabilities" and said["largest_gap"] < 1e-4
    assert (logprobs(plain(tmp_path / "saved")) - logprobs(engine.network)).abs().max() < 1e-4
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert "quantization_config" not in config and config["dtype"] == "float32"


@pytest.mark.parametrize("target", ["lm_head", "embed_tokens", "both"])
@pytest.mark.parametrize("name", ["tied", "untied", "llama"])
def test_an_adapter_of_a_tied_layer_unties_what_is_saved(tmp_path: Path, name: str, target: str) -> None:
    ends = ["lm_head", "embed_tokens"] if target == "both" else [target]
    engine = trained(small_model(tmp_path / name, name), lora=Lora(rank=4, targets=["q_proj", *ends]))
    engine.save(tmp_path / "saved")
    saved = plain(tmp_path / "saved")
    assert (logprobs(saved) - logprobs(engine.network)).abs().max() < 1e-4
    assert not saved.config.tie_word_embeddings
    assert engine.network.config.tie_word_embeddings == (name != "untied"), "memory keeps its own"
