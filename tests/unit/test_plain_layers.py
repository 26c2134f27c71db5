"""Decoding without modules: plain layers on packed weights, against the model's own modules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from ehrmind.config import Decoding, Lora
from ehrmind.engines.local.forward import matmul
from ehrmind.engines.local.forward.matmul import Linear, use_own_linear
from ehrmind.engines.local.forward.norms import use_fused_norms
from ehrmind.engines.local.forward.sharing import share_prompts
from ehrmind.engines.local.sampling import sampler
from ehrmind.engines.local.sampling.decoder import Decoder
from ehrmind.engines.local.sampling.plain_layers import Matmul, packed_layers, rollout_weights
from ehrmind.engines.local.sampling.plain_trial import try_plain_layers
from tests.small_models import VOCABULARY, small_engine, tokens

SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
}
PLAIN: list[tuple[str, dict[str, Any]]] = [
    ("llama", {}),
    ("llama", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 3.0, "rope_theta": 500.0}}),
    ("mistral", {"sliding_window": 8}),
    ("qwen2", {}),
    ("qwen3", {"sliding_window": 11, "use_sliding_window": True, "max_window_layers": 1}),
]
PROMPTS = [tokens(0, 30), tokens(1, 17), tokens(2, 24), tokens(3, 5)]


def opened(family: str, **more: Any) -> Any:
    """A random network, every bias and norm of it too, opened as the engine does."""
    torch.manual_seed(0)
    network = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **SHAPE | more), dtype=torch.float32)
    for name, weight in network.named_parameters():
        if "norm" in name or name.endswith("bias"):
            torch.nn.init.uniform_(weight, 0.5, 1.5)
    use_own_linear(network)
    use_fused_norms(network)
    assert share_prompts(network.eval())
    return network


@torch.inference_mode()
def decoded(network: Any) -> torch.Tensor:
    """Logits of ragged prompts and their answers: rows leave, and waiting prompts come."""
    decoder = Decoder(network, slots=2, group_size=3, longest=30)
    found = [decoder.admit(PROMPTS[:2])]
    found += [decoder.step(torch.tensor(tokens(step, 6))) for step in range(18)]
    decoder.drop(np.array([False, True, False, False, False, False]))
    found.append(decoder.step(torch.tensor(tokens(20, 5))))
    decoder.drop(decoder.cache.slot_R == 0)
    found.append(decoder.admit(PROMPTS[2:3]))
    rows = len(decoder.cache.slot_R)
    found += [decoder.step(torch.tensor(tokens(step, rows))) for step in range(21, 24)]
    return torch.cat(found)


@pytest.mark.parametrize(("family", "more"), PLAIN, ids=[family for family, _ in PLAIN])
def test_plain_layers_give_the_logits_of_the_models_modules(family: str, more: dict[str, Any]) -> None:
    network = opened(family, **more)
    by_modules = decoded(network)
    assert try_plain_layers(network)
    with torch.inference_mode(), rollout_weights(network):
        assert packed_layers(network) is not None
        ours = decoded(network)
    assert packed_layers(network) is None
    assert (ours - by_modules).abs().max() < 1e-5 * by_modules.abs().max()


def test_modules_are_not_called_and_no_weight_is_packed_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    network = opened("llama")
    assert try_plain_layers(network)
    called: list[Any] = []
    for module in (network, *network.model.layers):
        module.register_forward_hook(lambda module, *_: called.append(module))
    with torch.inference_mode(), rollout_weights(network):
        decoded(network)
        assert all(module.packed is None for module in network.modules() if isinstance(module, Linear))
    assert called == []


def test_the_last_layer_feeds_a_prompts_last_token_forward_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    network, rows = opened("llama"), []
    assert try_plain_layers(network)
    silu = Matmul.silu
    monkeypatch.setattr(Matmul, "silu", lambda matmul, x: (rows.append(len(x)), silu(matmul, x))[1])
    with torch.inference_mode(), rollout_weights(network):
        Decoder(network, slots=2, group_size=3, longest=30).admit(PROMPTS[:2])
    assert rows == [47, 47, 2]


@pytest.mark.parametrize(
    ("family", "more"),
    [
        ("granite", {"residual_multiplier": 0.5}),
        ("gemma3_text", {}),
        ("cohere", {}),
        ("qwen3_moe", {}),
        ("llama", {"hidden_act": "gelu"}),
    ],
)
def test_other_layers_keep_their_modules(family: str, more: dict[str, Any]) -> None:
    network = opened(family, **more)
    assert not try_plain_layers(network)
    with torch.inference_mode(), rollout_weights(network):
        assert packed_layers(network) is None
        assert any(module.packed is not None for module in network.modules() if isinstance(module, Linear))


def test_a_listed_layer_that_computes_something_else_keeps_its_modules() -> None:
    network = opened("llama")
    network.model.layers[1].mlp.register_forward_hook(lambda _module, _args, output: output * 1.001)
    assert not try_plain_layers(network)
    with torch.inference_mode(), rollout_weights(network):
        assert packed_layers(network) is None


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "v_proj", "up_proj"]])
def test_an_adapter_is_part_of_plain_layers(tmp_path: Path, targets: Any) -> None:
    engine = small_engine(tmp_path / "model", "qwen3", lora=Lora(rank=4, targets=targets))
    for name, weight in engine.network.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3, generator=torch.Generator().manual_seed(len(name)))
    by_modules = decoded(engine.network)
    with torch.inference_mode(), rollout_weights(engine.network):
        assert packed_layers(engine.network) is not None
        ours = decoded(engine.network)
        with engine.network.disable_adapter():
            without = decoded(engine.network)
    rounding = 2e-5  # adapters add large numbers up, in another order
    assert (ours - by_modules).abs().max() < rounding
    assert (without - by_modules).abs().max() < rounding  # packed before the adapter was off


@pytest.mark.skipif(not matmul.BF16, reason="this processor does not multiply in bf16")
def test_under_autocast_plain_layers_round_as_modules_do(tmp_path: Path) -> None:
    engine = small_engine(tmp_path / "model", "qwen3", autocast=True)
    exact = decoded(engine.network)
    with torch.inference_mode(), engine.autocast():
        by_modules = decoded(engine.network)
        with rollout_weights(engine.network):
            assert packed_layers(engine.network).dtype == torch.bfloat16  # type: ignore[union-attr]
            ours = decoded(engine.network)
    assert (ours.float() - exact).abs().mean() < 1.2 * (by_modules.float() - exact).abs().mean()


def test_packed_layers_are_gone_after_an_error() -> None:
    network = opened("llama")
    assert try_plain_layers(network)
    with pytest.raises(KeyError), torch.inference_mode(), rollout_weights(network):
        raise KeyError
    assert packed_layers(network) is None


def test_a_processor_without_onednn_keeps_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    network = opened("llama")
    monkeypatch.setattr(matmul, "ONEDNN", False)
    assert not try_plain_layers(network)


def test_a_processor_without_bf16_products_samples_under_autocast(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matmul, "BF16", False)
    engine = small_engine(tmp_path / "model", "qwen3", autocast=True)
    exact = decoded(engine.network)
    with torch.inference_mode(), engine.autocast(), rollout_weights(engine.network):
        assert packed_layers(engine.network) is None
        ours = decoded(engine.network)
    assert 0 < (ours.float() - exact).abs().max() < 0.1


def test_rows_drawn_a_few_at_a_time_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(13, 300, generator=torch.Generator().manual_seed(0)) * 3
    uniform = np.random.default_rng(0).random(13)
    asked = logits, Decoding(temperature=0.8, top_p=0.9), uniform
    at_once = sampler.draw(*asked)
    monkeypatch.setattr(sampler, "DRAWN_AT_ONCE", 1200)
    assert all(torch.equal(few, all_) for few, all_ in zip(sampler.draw(*asked), at_once, strict=True))


def test_top_p_keeps_the_same_tokens_whether_all_are_sorted_or_the_largest(monkeypatch: pytest.MonkeyPatch) -> None:
    spreads = torch.tensor([0.1, 1.0, 3.0, 6.0]).repeat_interleave(500)[:, None]  # flat rows need more than the largest
    logits = torch.randn(2000, 900, generator=torch.Generator().manual_seed(0)) * spreads
    asked = logits, Decoding(temperature=1.0, top_p=0.8), np.random.default_rng(0).random(2000)
    monkeypatch.setattr(sampler, "SORTED", 1 << 30)
    whole = sampler.draw(*asked)
    monkeypatch.setattr(sampler, "SORTED", 100)
    assert all(torch.equal(few, all_) for few, all_ in zip(sampler.draw(*asked), whole, strict=True))
    ordered = logits.softmax(-1).sort(-1, descending=True)
    reached = (ordered.values.cumsum(-1) < 0.8 - 1e-4).sum(-1)  # tokens before the one that reaches the share
    assert int(reached[0]) > 100 > int(reached[-1]), "rows of both kinds"
    ranks = (ordered.indices == whole[0][:, None]).int().argmax(-1)
    assert bool((ranks <= reached + 1).all()) and bool((ranks > 0).any())
