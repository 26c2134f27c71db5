"""Code that runs differently on CUDA: FlexAttention, steps replayed as graphs, fused AdamW. Skipped
where there is no such device.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from ehrmind.config import Decoding, Rlvr
from ehrmind.engines.local.forward.norms import RmsNorm
from ehrmind.engines.local.forward.packing import Packed
from ehrmind.engines.local.forward.sharing import share_prompts
from ehrmind.engines.local.sampling import cuda_graphs, decoder
from ehrmind.engines.local.scoring import score
from ehrmind.engines.uniforms import question_key
from ehrmind.prompts import messages
from ehrmind.types import Group, Prompt, Verdict
from tests.small_models import (
    VOCABULARY,
    cases,
    gap_of_a_bfloat16_model,
    norms_of_packed_and_plain_steps,
    small_engine,
    tokens,
)

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")

SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
SHAPE |= {"num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 512, "initializer_range": 0.2}
MODELS: list[tuple[str, dict[str, Any]]] = [
    ("llama", {}),
    ("qwen3", {"sliding_window": 11, "use_sliding_window": True, "max_window_layers": 1}),
    ("gemma3_text", {"sliding_window": 5, "layer_types": ["sliding_attention", "full_attention"]}),
]


GROUPS: list[Packed] = [
    (tokens(0, 190), [tokens(1, 9), tokens(2, 1), tokens(3, 30)]),
    (tokens(4, 25), [tokens(5, 12)]),
    (tokens(6, 1), [tokens(7, 3), [], tokens(8, 5)]),
]


@pytest.mark.parametrize(("family", "more"), MODELS, ids=[family for family, _ in MODELS])
def test_shared_and_plain_agree_in_log_probabilities_and_gradients(family: str, more: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = (
        AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **SHAPE | more), dtype=torch.float32)
        .eval()
        .cuda()
    )
    exact = score(deepcopy(model).double().cpu(), GROUPS, temperature=0.7, shared=False, pad_id=0).logprobs.detach()
    found = []
    for shared in (False, True):
        assert not shared or share_prompts(model)
        model.zero_grad()
        logprobs = score(model, GROUPS, temperature=0.7, shared=shared, pad_id=0).logprobs
        (logprobs * torch.linspace(-1, 2, len(logprobs), device="cuda")).sum().backward()
        found.append(
            (logprobs.detach(), torch.cat([p.grad.reshape(-1) for p in model.parameters() if p.grad is not None]))
        )
    (plain, plain_gradient), (packed, gradient) = found
    rounding = float((plain.cpu() - exact).abs().max())  # of the library's own fp32 kernels, 1e-5 in so wide a model
    assert (packed.cpu() - exact).abs().max() < max(1e-5, 2 * rounding)
    assert (packed - plain).abs().max() < 3e-5
    assert (gradient - plain_gradient).norm() / plain_gradient.norm() < 1e-5


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3"])
def test_fused_norms_compute_what_the_models_own_do(family: str, tmp_path: Path) -> None:
    model = small_engine(tmp_path / "model", family).network
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "model").cuda()
    assert any(isinstance(module, RmsNorm) for module in model.modules())
    ids = torch.tensor([tokens(3, 40)], device="cuda")
    model.set_attn_implementation("sdpa")
    assert (model(ids).logits - plain(ids).logits).abs().max() < 1e-4


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_replayed_steps_write_the_answers_of_steps_as_they_are(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = small_engine(tmp_path / "model", family)
    assert engine.shared and engine.network.device.type == "cuda"
    engine.rows = 13
    prompts = [engine.prompt(messages(case)) for case in cases(7)]
    prompts = [Prompt(prompt.token_ids[: 20 + 60 * place], prompt.opening) for place, prompt in enumerate(prompts)]
    engine.stop_ids = frozenset(range(0, 400, 11))
    asked = (
        prompts,
        [question_key(0, "test", 0, str(place)) for place in range(7)],
        3,
        Decoding(temperature=1.5, max_new_tokens=24),
    )
    monkeypatch.setattr(cuda_graphs, "GROWTH", 8)
    captured = []
    capture = cuda_graphs.FixedStep._captured
    monkeypatch.setattr(
        cuda_graphs.FixedStep, "_captured", lambda shape: captured.append(capture(shape)) or captured[-1]
    )
    replayed = engine.sample(*asked)
    assert len(captured) > 3 and None not in captured
    monkeypatch.setattr(decoder, "GRAPHS_ON", ())
    as_they_are = engine.sample(*asked)
    assert [[c.segments[0].token_ids for c in g] for g in replayed] == [
        [c.segments[0].token_ids for c in g] for g in as_they_are
    ]
    one, other = (
        [value for g in found for c in g for value in c.segments[0].logprobs] for found in (replayed, as_they_are)
    )
    assert one == pytest.approx(other, abs=1e-4)


def test_greedy_answers_are_those_of_generate(tmp_path: Path) -> None:
    engine = small_engine(tmp_path / "model", "qwen3")
    prompts = [engine.prompt(messages(case)) for case in cases(3)]
    answers = engine.sample(prompts, [1, 2, 3], 1, Decoding(temperature=0.0, max_new_tokens=16))
    engine.network.set_attn_implementation("sdpa")
    for prompt, (answer,) in zip(prompts, answers, strict=True):
        ids = torch.tensor([prompt.token_ids], device="cuda")
        plain = engine.network.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=16, do_sample=False, pad_token_id=0
        )
        assert list(answer.segments[0].token_ids) == plain[0, ids.shape[1] :].tolist()


@pytest.mark.parametrize("autocast", [False, True])
def test_a_step_learns_what_was_sampled_and_a_checkpoint_goes_on_from_it(tmp_path: Path, autocast: bool) -> None:
    def opened() -> Any:
        return small_engine(tmp_path / "model", "llama", autocast=autocast)

    engine, rlvr = opened(), Rlvr(kl=0.0, learning_rate=1e-3)
    decoding = Decoding(temperature=1.0, max_new_tokens=12)
    learner = engine.learner(rlvr, 4, rlvr=rlvr, decoding=decoding)
    chosen = cases(3)
    prompts = [engine.prompt(messages(case)) for case in chosen]
    answers = engine.sample(prompts, [5, 6, 7], 3, decoding)
    judged = [
        Group(c, p, a, [Verdict(False, 0.0, {})] * 3, (1.0, -0.5, -0.5))
        for c, p, a in zip(chosen, prompts, answers, strict=True)
    ]
    first = learner.learn_from_groups(judged)
    assert 0 < first["train_inference_mismatch"] <= first["train_inference_mismatch_max"] < (0.1 if autocast else 1e-4)
    learner.save(tmp_path / "checkpoint", {"step": 1})
    on = learner.learn_from_groups(judged)
    again = opened()
    resumed = again.learner(rlvr, 4, rlvr=rlvr, decoding=decoding)
    resumed.resume(tmp_path / "checkpoint")
    assert resumed.learn_from_groups(judged)["gradient_norm"] == pytest.approx(on["gradient_norm"], rel=1e-3)
    assert dict(again.network.named_parameters()).keys() == dict(engine.network.named_parameters()).keys()
    for one, other in zip(again.network.parameters(), engine.network.parameters(), strict=True):
        assert (
            one - other
        ).abs().mean() < 1e-5  # sums in another order move what has hardly a gradient, by up to a learning rate


def test_packed_supervised_steps_equal_steps_on_rows(tmp_path: Path) -> None:
    packed, plain = norms_of_packed_and_plain_steps(tmp_path, "llama")
    assert packed == pytest.approx(plain, rel=1e-4)


def test_a_bfloat16_model_shares_prompts(tmp_path: Path) -> None:
    assert gap_of_a_bfloat16_model(tmp_path / "model") < 0.02
