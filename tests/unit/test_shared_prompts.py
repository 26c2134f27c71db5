"""A prompt computed once for its group: attention, decoding and log-probabilities against the plain
way of computing them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig, AutoModelForCausalLM

from ehrmind.config import Decoding, Rlvr
from ehrmind.engines.local.forward import attention, lm_head, packing
from ehrmind.engines.local.forward.attention import NAME, SharedPrompt, block_mask, flex, windows
from ehrmind.engines.local.forward.lm_head import LmHead, token_logprobs
from ehrmind.engines.local.forward.packing import Packed, Packing
from ehrmind.engines.local.forward.sharing import share_prompts, trial_groups
from ehrmind.engines.local.sampling import cuda_graphs, decoder
from ehrmind.engines.local.sampling.decoder import Decoder
from ehrmind.engines.local.sampling.sampler import draw
from ehrmind.engines.local.scoring import microbatches, packed_length, score
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

SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
SHAPE |= {"num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 512, "initializer_range": 0.2}


def network(family: str = "llama", **more: Any) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **SHAPE | more), dtype=torch.float32).eval()


# ragged answers, one member, an answer of one token, an empty answer, a group whose answers are all
# empty, a prompt of one token
GROUPS: list[Packed] = [
    (tokens(0, 40), [tokens(1, 9), tokens(2, 1), tokens(3, 30)]),
    (tokens(4, 25), [tokens(5, 12)]),
    (tokens(6, 1), [tokens(7, 3), [], tokens(8, 5)]),
    (tokens(9, 7), [[], []]),
    (tokens(10, 33), [tokens(11, 4), tokens(12, 4)]),
]
MODELS: list[tuple[str, dict[str, Any]]] = [
    ("llama", {}),
    ("mistral", {"sliding_window": 8}),
    ("qwen3", {"sliding_window": 11, "use_sliding_window": True, "max_window_layers": 1}),
    ("gemma3_text", {"sliding_window": 5, "layer_types": ["sliding_attention", "full_attention"]}),
    ("granite", {"logits_scaling": 3.0, "attention_multiplier": 0.2}),
    ("cohere", {"logit_scale": 0.25}),
    (
        "gpt2",
        {
            "n_embd": 32,
            "n_layer": 2,
            "n_head": 4,
            "n_positions": 512,
            "attn_pdrop": 0,
            "embd_pdrop": 0,
            "resid_pdrop": 0,
        },
    ),
    ("qwen3_moe", {}),
]


def scored(model: Any, *, shared: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities, and the gradient of a weighted sum of them."""
    model.zero_grad()
    logprobs = score(model, GROUPS, temperature=0.7, shared=shared, pad_id=0).logprobs
    (logprobs * torch.linspace(-1, 2, len(logprobs))).sum().backward()
    return logprobs.detach(), torch.cat([p.grad.reshape(-1) for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize(("family", "more"), MODELS, ids=[family for family, _ in MODELS])
def test_shared_and_plain_agree_in_log_probabilities_and_gradients(family: str, more: dict[str, Any]) -> None:
    model = network(family, **more)
    plain, plain_gradient = scored(model, shared=False)
    assert share_prompts(model)
    packed, gradient = scored(model, shared=True)
    assert (packed - plain).abs().max() < 1e-5
    assert (gradient - plain_gradient).norm() / plain_gradient.norm() < 1e-5


@pytest.mark.parametrize("window", [1, 2, 3, 9, 10, 11, 39, 40, 41, 69, 70, 200])
def test_any_window_agrees(window: int) -> None:
    model = network("mistral", sliding_window=window)
    plain, plain_gradient = scored(model, shared=False)
    model.set_attn_implementation(NAME)
    packed, gradient = scored(model, shared=True)
    assert (packed - plain).abs().max() < 1e-5
    assert (gradient - plain_gradient).norm() / plain_gradient.norm() < 1e-5


@pytest.mark.parametrize("window", [None, 4, 9, 100])
def test_long_completions_are_computed_one_by_one_with_the_same_result(
    window: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = network("mistral", sliding_window=window)
    model.set_attn_implementation(NAME)
    together, gradient = scored(model, shared=True)
    monkeypatch.setattr(packing, "SHORT", 5)
    monkeypatch.setattr(attention, "CAUSAL_BLOCK", 7)
    monkeypatch.setattr(attention, "SCORES_AT_ONCE", 64)
    alone, gradient_alone = scored(model, shared=True)
    assert (alone - together).abs().max() < 1e-5
    assert (gradient_alone - gradient).norm() / gradient.norm() < 1e-5


@pytest.mark.parametrize("window", [None, 6])
def test_the_block_mask_of_gpus_says_the_same_as_the_pieces_of_cpus(window: int | None) -> None:
    packed = Packing(GROUPS, torch.device("cpu"))
    query, key, value = torch.randn(3, 1, 4, packed.ids_BN.shape[1], 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours = SharedPrompt.apply(query, key, value, packed, window, 0.3)
        theirs = flex(query, key, value, block_mask(packed, window), 0.3)
    assert (ours - theirs).abs().max() < 1e-5


def test_gradient_checkpointing_changes_no_gradient() -> None:
    model = network()
    assert share_prompts(model)
    _, kept = scored(model, shared=True)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    _, computed_again = scored(model, shared=True)
    assert torch.allclose(kept, computed_again, atol=1e-6)


@pytest.mark.parametrize(("family", "more"), [("gemma2", {"sliding_window": 8}), ("gpt_oss", {}), ("bloom", {})])
def test_a_model_that_cannot_share_is_left_as_it_was_and_it_is_said(
    family: str, more: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Capped attention, sinks, biases by distance."""
    model = network(family, **more)
    before = model.config._attn_implementation
    assert not share_prompts(model)
    assert model.config._attn_implementation == before
    assert "once for every answer" in caplog.text


def sharp_model_in_bfloat16() -> Any:
    """Spreads its log-probabilities as a trained model does, so that rounding exceeds 0.1."""
    model = network(num_hidden_layers=6)
    with torch.no_grad():
        model.lm_head.weight.mul_(3)
    return model.bfloat16()


def test_a_sharp_model_in_bfloat16_shares_prompts_in_spite_of_its_rounding() -> None:
    model = sharp_model_in_bfloat16()
    groups = trial_groups(model)
    with torch.no_grad():
        plain = score(model, groups, temperature=1.0, shared=False, pad_id=0).logprobs
        assert share_prompts(model)
        packed = score(model, groups, temperature=1.0, shared=True, pad_id=0).logprobs
    assert (packed - plain).abs().max() > 0.1


def test_a_position_that_is_off_by_one_is_seen_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    pack = Packing.__init__

    def shifted(packed: Packing, groups: Any, device: torch.device) -> None:
        pack(packed, groups, device)
        for start, end in packed.completions:
            packed.positions_BN[0, start:end] += 1

    monkeypatch.setattr(Packing, "__init__", shifted)
    assert not share_prompts(sharp_model_in_bfloat16())


@pytest.mark.parametrize("kind", ["chunked_attention", "linear_attention"])
def test_a_layer_kind_that_is_not_known_is_not_shared_and_it_is_said(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Chunks, and a layer said to keep a state that does not take one."""
    model = network("qwen3")
    model.config.layer_types = ["full_attention", kind]
    assert (windows(model.config) is None) == (kind == "chunked_attention")
    assert not share_prompts(model)
    assert "layers of an unknown kind" in caplog.text


def test_no_tensor_of_all_tokens_by_vocabulary_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    class Shapes(TorchDispatchMode):
        widest = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, tuple | list) else [out]:
                if isinstance(tensor, torch.Tensor) and tensor.ndim and tensor.shape[-1] == 1000:
                    Shapes.widest = max(Shapes.widest, tensor.numel() // 1000)
            return out

    model = network(vocab_size=1000)
    assert share_prompts(model)
    monkeypatch.setitem(lm_head.KEPT, "cpu", 600 * 1000 * 4)
    groups: list[Packed] = [(tokens(0, 400), [tokens(seed, 250) for seed in range(1, 5)])]
    with Shapes():
        score(model, groups, temperature=1.0, shared=True, pad_id=0).logprobs.sum().backward()
    assert 0 < Shapes.widest <= 512  # of 1,400 tokens, 1,000 of them predicted


@pytest.mark.parametrize("cap", [None, 4.0])
@pytest.mark.parametrize(("temperature", "kept"), [(1.0, 1 << 28), (0.6, 1 << 28), (0.6, 0), (0.6, 600 * 50 * 4)])
def test_chunked_log_probabilities_are_those_of_all_logits_at_once(
    cap: float | None, temperature: float, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(lm_head.KEPT, "cpu", kept)  # slopes of all tokens, of none, of the first chunk
    draw_ = torch.Generator().manual_seed(0)
    hidden = torch.randn(1100, 16, generator=draw_).requires_grad_()
    weight = torch.randn(50, 16, generator=draw_).requires_grad_()
    targets = torch.randint(0, 50, (1100,), generator=draw_)
    coefficients = torch.randn(1100, generator=draw_)
    logprobs, entropies = token_logprobs(hidden, LmHead(weight, 0.5, cap), targets, temperature)
    ours = torch.autograd.grad((logprobs * coefficients).sum(), (hidden, weight))
    logits = hidden @ weight.T * 0.5
    logits = logits if cap is None else torch.tanh(logits / cap) * cap
    whole = torch.log_softmax(logits / temperature, -1)
    theirs = torch.autograd.grad(
        (whole.gather(1, targets[:, None])[:, 0] * coefficients).sum(), (hidden, weight), retain_graph=True
    )
    assert torch.allclose(logprobs, whole.gather(1, targets[:, None])[:, 0], atol=1e-5)
    assert torch.allclose(entropies, -(whole.exp() * whole).sum(-1), atol=1e-4)
    assert all((a - b).norm() / b.norm() < 1e-5 for a, b in zip(ours, theirs, strict=True))


def test_a_packing_holds_every_prompt_once_and_no_padding() -> None:
    packed = Packing(GROUPS, torch.device("cpu"))
    assert packed.ids_BN.shape == (1, sum(len(prompt) + sum(map(len, answers)) for prompt, answers in GROUPS))
    assert packed.targets == [token for _, answers in GROUPS for answer in answers for token in answer]


def test_micro_batches_fill_the_budget_and_a_long_group_goes_alone() -> None:
    groups: list[Packed] = [([1] * prompt, [[2] * 10, [2] * 5]) for prompt in (5, 90, 30, 10, 200)]
    batches = list(microbatches(groups, 100))
    assert sorted(index for batch in batches for index in batch) == list(range(5))
    assert [4] in batches
    assert all(len(batch) == 1 or sum(packed_length(groups[index]) for index in batch) <= 100 for batch in batches)
    assert len(batches) == 3


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3"])
def test_waiting_prompts_take_the_places_of_finished_rows_and_change_no_answer(tmp_path: Path, family: str) -> None:
    engine = small_engine(tmp_path / "model", family)
    prompts = [engine.prompt(messages(case)) for case in cases(9)]
    prompts = [Prompt(prompt.token_ids[: 20 + 13 * place], prompt.opening) for place, prompt in enumerate(prompts)]
    keys = [question_key(0, "test", 0, str(place)) for place in range(9)]
    decoding = Decoding(temperature=1.5, max_new_tokens=24)
    engine.stop_ids = frozenset(range(0, 400, 11))  # rows end at different times
    engine.rows = 512
    together = engine.sample(prompts, keys, 4, decoding)
    assert len({completion.n_tokens for group in together for completion in group}) > 5
    for rows in (4, 11):  # one slot, two slots
        engine.rows = rows
        few = engine.sample(prompts, keys, 4, decoding)
        assert [[c.segments[0].token_ids for c in group] for group in few] == [
            [c.segments[0].token_ids for c in group] for group in together
        ]
    engine.shared = False
    engine.network.set_attn_implementation("sdpa")
    plain = engine.sample(prompts, keys, 4, decoding)
    assert [[c.text for c in group] for group in plain] == [[c.text for c in group] for group in together]


def test_steps_of_fixed_shapes_write_the_same_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs what CUDA captures and replays, as it is: rows and slots without an answer in them,
    prompts shorter than the room for them."""
    engine = small_engine(tmp_path / "model", "gemma3")
    engine.rows = 13
    prompts = [engine.prompt(messages(case)) for case in cases(7)]
    prompts = [Prompt(prompt.token_ids[: 20 + 60 * place], prompt.opening) for place, prompt in enumerate(prompts)]
    engine.stop_ids = frozenset(range(0, 400, 31))
    keys, decoding = list(range(7)), Decoding(temperature=1.5, max_new_tokens=24)
    asked = prompts, keys, 3, decoding
    as_they_are = engine.sample(*asked)
    shapes: list[cuda_graphs.FixedStep] = []
    monkeypatch.setattr(decoder, "GRAPHS_ON", ("cpu",))
    monkeypatch.setattr(cuda_graphs, "GROWTH", 8)
    monkeypatch.setattr(cuda_graphs, "LENGTHS", 32)
    monkeypatch.setattr(
        cuda_graphs.FixedStep,
        "load",
        lambda shape, *places, load=cuda_graphs.FixedStep.load: (shapes.append(shape), load(shape, *places)),
    )
    fixed = engine.sample(*asked)
    assert [[c.segments[0].token_ids for c in group] for group in fixed] == [
        [c.segments[0].token_ids for c in group] for group in as_they_are
    ]
    sampled, again = (
        [value for group in found for c in group for value in c.segments[0].logprobs] for found in (as_they_are, fixed)
    )
    assert again == pytest.approx(sampled, abs=1e-5)
    assert (
        len({(len(shape.ages_R), len(shape.lengths_S), shape.longest, shape.room, shape.in_order) for shape in shapes})
        > 5
    )
    assert {shape.in_order for shape in shapes} == {False, True}


def test_sampled_pairs_of_tokens_follow_the_models_distribution(tmp_path: Path) -> None:
    from scipy.stats import chisquare

    model = network(vocab_size=7, initializer_range=0.5)
    assert share_prompts(model)
    prompt, rows, prompts = [3, 1, 4, 1, 5, 2, 6], 500, 40
    writing = Decoder(model, prompts, rows, longest=len(prompt))
    uniform = np.random.default_rng(5)
    decoding = Decoding(temperature=0.9)
    with torch.inference_mode():
        first, _ = draw(
            writing.admit([prompt] * prompts).repeat_interleave(rows, 0), decoding, uniform.random(rows * prompts)
        )
        second, _ = draw(writing.step(first), decoding, uniform.random(rows * prompts))
        one = torch.softmax(model(torch.tensor([prompt])).logits[0, -1].double() / 0.9, -1)
        two = torch.softmax(
            model(torch.tensor([[*prompt, token] for token in range(7)])).logits[:, -1].double() / 0.9, -1
        )
    counts = np.bincount((first * 7 + second).numpy(), minlength=49)
    assert chisquare(counts, ((one[:, None] * two).reshape(-1) * rows * prompts).numpy()).pvalue > 1e-3


def test_a_token_of_weight_zero_is_never_drawn() -> None:
    logits = torch.full((3, 200), -200.0)
    logits[:, 70] = 0.0
    chosen, _ = draw(logits, Decoding(temperature=1.0, top_k=1), np.array([0.0, 0.5, 1.0 - 2**-53]))
    assert chosen.tolist() == [70, 70, 70]


@pytest.mark.parametrize("autocast", [False, True])
def test_the_gap_between_sampler_and_learner_is_measured_in_every_step(tmp_path: Path, autocast: bool) -> None:
    engine = small_engine(tmp_path / "model", "qwen3", autocast=autocast)
    assert engine.shared
    rlvr = Rlvr(kl=0.0)
    decoding = Decoding(temperature=1.0, max_new_tokens=12)
    learner = engine.learner(rlvr, 2, rlvr=rlvr, decoding=decoding)
    chosen = cases(3)
    prompts = [engine.prompt(messages(case)) for case in chosen]
    answers = engine.sample(prompts, [5, 6, 7], 3, decoding)
    verdict = Verdict(False, 0.0, {})
    judged = [
        Group(c, p, a, [verdict] * 3, (1.0, -0.5, -0.5)) for c, p, a in zip(chosen, prompts, answers, strict=True)
    ]
    first = learner.learn_from_groups(judged)
    assert 0 < first["train_inference_mismatch"] <= first["train_inference_mismatch_max"] < (0.1 if autocast else 1e-4)
    moved = learner.learn_from_groups(judged)  # the weights have changed: what was sampled is another policy's
    assert moved["train_inference_mismatch"] > (
        first["train_inference_mismatch"] if autocast else 5 * first["train_inference_mismatch"]
    )


def test_packed_supervised_steps_equal_steps_on_rows(tmp_path: Path) -> None:
    """No padding and no other gradient."""
    packed, plain = norms_of_packed_and_plain_steps(tmp_path, "gemma3")
    assert packed == pytest.approx(plain, rel=1e-5)


def test_a_bfloat16_model_shares_prompts(tmp_path: Path) -> None:
    assert gap_of_a_bfloat16_model(tmp_path / "model") < 0.02
