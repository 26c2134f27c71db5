"""Models that keep a state instead of keys and values share prompts too: the packed forward pass,
its gradients, decoding and learning against the plain path.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from ehrmind.config import Decoding, Rlvr
from ehrmind.engines.local.engine import LocalEngine
from ehrmind.engines.local.forward import states
from ehrmind.engines.local.forward.packing import Packed, Packing
from ehrmind.engines.local.forward.sharing import share_prompts
from ehrmind.engines.local.forward.states import SharedStates, plan_of
from ehrmind.engines.local.sampling import cuda_graphs, decoder, state_steps
from ehrmind.engines.local.scoring import score
from ehrmind.types import Group, Prompt, Verdict
from tests.model_configs import CONFIGS, MAMBA, SIZES
from tests.small_models import VOCABULARY, cases, small_engine, tokens

EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 16}
NEMOTRON_H = {
    **EXPERTS,
    "layers_block_type": ["mamba", "moe", "attention", "mlp"],
    "num_hidden_layers": 4,
    "mamba_num_heads": 8,
    "mamba_head_dim": 8,
    "ssm_state_size": 8,
    "n_groups": 1,
    "chunk_size": 16,
    "head_dim": 8,
    "n_routed_experts": 4,
    "n_group": 1,
    "topk_group": 1,
    "moe_shared_expert_intermediate_size": 16,
}
MORE: dict[str, tuple[str, dict[str, Any]]] = {
    "granite_4_h_experts": (
        "granitemoehybrid",
        {**MAMBA, **EXPERTS, "layer_types": ["mamba", "attention"], "num_local_experts": 4},
    ),
    "nemotron_h": ("nemotron_h", NEMOTRON_H),
    "falcon_h1": ("falcon_h1", {**MAMBA, "mamba_d_ssm": 64}),  # attention and state in one layer
}
KINDS = ("lfm2", "qwen3_5", "granite_4_h")
# Ragged answers, prompts of one length, an answer of one token, an empty answer, a group whose
# answers are all empty, a prompt of one token, shorter than every convolution
GROUPS: list[Packed] = [
    (tokens(0, 40), [tokens(1, 9), tokens(2, 1), tokens(3, 30)]),
    (tokens(4, 25), [tokens(5, 12)]),
    (tokens(6, 1), [tokens(7, 3), [], tokens(8, 5)]),
    (tokens(9, 7), [[], []]),
    (tokens(10, 40), [tokens(11, 4), tokens(12, 4)]),
    (tokens(13, 2), [tokens(14, 1), tokens(15, 1)]),
]


def network(name: str, **other: Any) -> Any:
    kind, more = CONFIGS.get(name) or MORE[name]
    torch.manual_seed(0)
    shape = {**SIZES, "vocab_size": VOCABULARY, "pad_token_id": 0, **more, **other}
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **shape), dtype=torch.float32).eval()


def scored(model: Any, groups: list[Packed], *, shared: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities, and the gradient of a weighted sum of them."""
    model.zero_grad()
    logprobs = score(model, groups, temperature=0.7, shared=shared, pad_id=0).logprobs
    (logprobs * torch.linspace(-1, 2, len(logprobs))).sum().backward()
    return logprobs.detach(), torch.cat([p.grad.reshape(-1) for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("name", [*KINDS, *MORE])
def test_log_probabilities_and_gradients_are_those_of_the_plain_path(name: str) -> None:
    model = network(name)
    single: list[Packed] = [(tokens(13, 2), [tokens(14, 1), tokens(15, 1)])]
    wanted = [scored(model, groups, shared=False) for groups in (GROUPS, single, GROUPS[3:4] + single)]
    assert share_prompts(model)
    for groups, (plain, plain_gradient) in zip((GROUPS, single, GROUPS[3:4] + single), wanted, strict=True):
        packed, gradient = scored(model, groups, shared=True)
        assert (packed - plain).abs().max() < 1e-5
        assert (gradient - plain_gradient).norm() / plain_gradient.norm() < 1e-5


@pytest.mark.parametrize("name", KINDS)
def test_gradient_checkpointing_changes_no_gradient(name: str) -> None:
    model = network(name)
    assert share_prompts(model)
    _, kept = scored(model, GROUPS, shared=True)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    _, computed_again = scored(model, GROUPS, shared=True)
    assert torch.allclose(kept, computed_again, atol=1e-6)


@pytest.mark.parametrize("name", KINDS)
def test_a_layer_computes_a_prompt_once_and_little_padding(name: str) -> None:
    model = network(name)
    assert share_prompts(model)
    (layer,) = [module for module in model.modules() if isinstance(module, SharedStates)]
    computed = []
    layer.out_proj.register_forward_hook(lambda _module, args, _out: computed.append(args[0].shape[:-1].numel()))
    group: Packed = (tokens(0, 200), [tokens(seed, 20 + seed) for seed in range(8)])
    score(model, [group], temperature=1.0, shared=True, pad_id=0)
    assert 200 < sum(computed) <= 200 + 4 / 3 * sum(20 + seed for seed in range(8))


def test_chunks_are_short_while_prompts_are_shared_and_the_models_own_after() -> None:
    model = network("granite_4_h", mamba_chunk_size=256)
    plain, _ = scored(model, GROUPS, shared=False)
    assert share_prompts(model)
    (layer,) = [module for module in model.modules() if isinstance(module, SharedStates)]
    assert layer.chunk_size == 64
    assert (scored(model, GROUPS, shared=True)[0] - plain).abs().max() < 1e-5
    states.forget_states(model)
    assert layer.chunk_size == 256


def test_completions_of_very_different_lengths_are_computed_apart() -> None:
    packing = Packing([(tokens(0, 5), [tokens(1, 90), tokens(2, 3), tokens(3, 80), tokens(4, 3)])], torch.device("cpu"))
    assert [batch.places_ML.shape for batch in plan_of(packing).batches] == [(1, 5), (2, 90), (2, 3)]


@pytest.mark.parametrize("lost", ["get_recurrent_state", "get_conv_state"])
def test_a_layer_that_ignores_its_prompts_state_is_found_and_left_as_it_was(
    lost: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = network("qwen3_5")
    before = [type(module) for module in model.modules()]
    monkeypatch.setattr(states.CallStates, lost, lambda *_: None)
    assert not share_prompts(model)
    assert [type(module) for module in model.modules()] == before
    assert "once for every answer" in caplog.text


def answers(engine: LocalEngine, asked: list[Prompt], new: int) -> list[list[tuple[int, ...]]]:
    found = engine.sample(asked, range(len(asked)), 3, Decoding(temperature=1.5, max_new_tokens=new))
    return [[completion.segments[0].token_ids for completion in group] for group in found]


@pytest.mark.parametrize("name", KINDS)
def test_rows_that_leave_and_come_write_the_plain_paths_answers(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with the fixed shapes that CUDA captures: spare rows are computed too."""
    engine = small_engine(tmp_path / "model", name)
    assert engine.shared
    asked = [Prompt(tuple(tokens(place, length)), "") for place, length in enumerate((30, 1, 12, 30, 3, 47, 2))]
    engine.stop_ids = frozenset(range(0, 400, 17))  # rows end at different times
    engine.rows = 512
    together = answers(engine, asked, 20)
    assert len({len(answer) for group in together for answer in group}) > 4
    for rows in (3, 7):  # one slot, two slots
        engine.rows = rows
        assert answers(engine, asked, 20) == together
    with monkeypatch.context() as patched:
        patched.setattr(decoder, "GRAPHS_ON", ("cpu",))
        patched.setattr(cuda_graphs, "GROWTH", 8)
        assert answers(engine, asked, 20) == together
    engine.shared = False
    engine.network.set_attn_implementation("sdpa")
    assert answers(engine, asked, 20) == together


@pytest.mark.parametrize("name", KINDS)
def test_a_resumed_learner_takes_the_same_step_to_the_same_bits(name: str, tmp_path: Path) -> None:
    rlvr, decoding = Rlvr(kl=0.01, learning_rate=1e-3), Decoding(temperature=1.0, max_new_tokens=6)
    asked = [Prompt(tuple(tokens(place, length)), "") for place, length in enumerate((20, 3))]
    verdict = Verdict(False, 0.0, {})

    def step(engine: LocalEngine, learner: Any) -> None:
        written = engine.sample(asked, [1, 2], 3, decoding)
        judged = zip(cases(2), asked, written, strict=True)
        metrics = learner.learn_from_groups([Group(c, p, a, [verdict] * 3, (1.0, -0.5, -0.5)) for c, p, a in judged])
        assert metrics["train_inference_mismatch_max"] < 1e-4

    engine = small_engine(tmp_path / "model", name)
    learner = engine.learner(rlvr, 3, rlvr=rlvr, decoding=decoding)
    before = torch.cat([weight.detach().clone().flatten() for weight in engine.network.parameters()])
    step(engine, learner)
    learner.save(tmp_path / "checkpoint", {})
    step(engine, learner)
    again = small_engine(tmp_path / "model", name)
    resumed = again.learner(rlvr, 3, rlvr=rlvr, decoding=decoding)
    resumed.resume(tmp_path / "checkpoint")
    step(again, resumed)
    weights, others = (
        torch.cat([weight.detach().flatten() for weight in found.network.parameters()]) for found in (engine, again)
    )
    assert torch.equal(weights, others)
    assert not torch.equal(weights, before)


@pytest.mark.parametrize("name", KINDS)
def test_under_autocast_the_sampler_stays_near_the_learner(name: str, tmp_path: Path) -> None:
    engine = small_engine(tmp_path / "model", name, autocast=True)
    assert engine.shared
    rlvr, decoding = Rlvr(kl=0.0), Decoding(temperature=1.0, max_new_tokens=12)
    learner = engine.learner(rlvr, 2, rlvr=rlvr, decoding=decoding)
    asked = [Prompt(tuple(tokens(place, 30 + place)), "") for place in range(2)]
    judged = zip(cases(2), asked, engine.sample(asked, [1, 2], 3, decoding), strict=True)
    verdicts = [Verdict(False, 0.0, {})] * 3
    metrics = learner.learn_from_groups([Group(c, p, a, verdicts, (1.0, -0.5, -0.5)) for c, p, a in judged])
    assert 0 < metrics["train_inference_mismatch"] < 0.03


def test_steps_of_our_own_compute_what_the_librarys_do(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.models.granitemoehybrid import modeling_granitemoehybrid as granite
    from transformers.models.qwen3_5 import modeling_qwen3_5 as qwen

    monkeypatch.setattr(state_steps, "AT_ONCE", 4096)  # two rows at a time
    draw = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draw)

    state, window = drawn(5, 4, 8, 16), drawn(5, 6, 4)
    ours, theirs = state.clone(), state.clone()
    asked = drawn(5, 1, 2, 8), drawn(5, 1, 2, 8), drawn(5, 1, 4, 16), -drawn(5, 1, 4).abs(), drawn(5, 1, 4)
    options: dict[str, Any] = {"output_final_state": True, "use_qk_l2norm_in_kernel": True}
    found, _ = state_steps.gated_delta_step(*asked, ours, **options)
    wanted, theirs = qwen.torch_recurrent_gated_delta_rule(*asked, theirs, **options)
    assert torch.allclose(found, wanted, atol=1e-5)
    assert torch.allclose(ours, theirs, atol=1e-5)

    ours, theirs = state.clone(), state.clone()
    heads = [drawn(4)[:, None].expand(-1, 8) for _ in range(2)]
    asked = drawn(5, 4, 8), drawn(5, 4, 1).expand(-1, -1, 8), -drawn(4).abs()[:, None, None].expand(-1, 8, 16)
    more = drawn(5, 2, 16), drawn(5, 2, 16), heads[0]
    options = {"dt_bias": heads[1], "dt_softplus": True, "z": drawn(5, 4, 8)}
    found = state_steps.state_space_step(ours, *asked, *more, **options)
    wanted = granite.mamba2_selective_state_update(theirs, *asked, *more, **options)
    assert torch.allclose(found, wanted, atol=1e-5)
    assert torch.allclose(ours, theirs, atol=1e-5)

    ours, theirs = window.clone(), window.clone()
    found = state_steps.convolution_step(drawn(5, 6, 1), ours, weight := drawn(6, 4), bias := drawn(6), "silu")
    newest = ours[..., -1:]
    assert torch.allclose(found, qwen.causal_conv1d_update(newest, theirs, weight, bias, "silu"), atol=1e-5)
    assert torch.equal(ours, theirs)
