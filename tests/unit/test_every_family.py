"""Every kind of model in `tests/model_configs.py` writes, scores and learns what the model itself
does.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from ehrmind.config import Decoding, Lora, Model, Optimiser, Rlvr
from ehrmind.engines.local.engine import LocalEngine, open_engine
from ehrmind.engines.local.forward import sharing, trial
from ehrmind.engines.local.forward.packing import Packed
from ehrmind.engines.local.forward.plain_rows import Rows, rows_of
from ehrmind.engines.local.forward.rotary import Switch, side, switch_of
from ehrmind.engines.local.opening.config import dropout_of
from ehrmind.engines.local.scoring import score
from ehrmind.types import Group, InputError, Prompt, Verdict
from tests import model_configs
from tests.model_configs import ROPE_SWITCH
from tests.small_models import EVERY_FAMILY, cases, small_engine, small_model, tokens

NEW = 12
GREEDY = Decoding(temperature=0.0, max_new_tokens=NEW)
# Two of one length, one whose answer crosses a rope's switch, one beyond it
LENGTHS = (30, 9, 17, 9, ROPE_SWITCH - 6, ROPE_SWITCH + 6)
SHARED = {
    "tied",
    "untied",
    "longrope",
    "dynamic_rope",
    "gemma3_images",
    "attention_dropout",
    "hidden_dropout",
    "gpt2",
    "qwen3_5",
    "lfm2",
    "granite_4_h",
    "bamba",
    "fp8",
    "bfloat16",
}


def prompts() -> list[Prompt]:
    return [Prompt(tuple(tokens(place, length))) for place, length in enumerate(LENGTHS)]


def own_model(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def generated(model: Any, prompt: Prompt) -> tuple[int, ...]:
    ids = torch.tensor([prompt.token_ids])
    asked: dict[str, Any] = {"max_new_tokens": NEW, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    return tuple(model.generate(ids, attention_mask=torch.ones_like(ids), **asked)[0, ids.shape[1] :].tolist())


def plain(model: Any, groups: list[Packed]) -> torch.Tensor:
    """A forward pass over each sequence alone."""
    found = []
    for prompt, answers in groups:
        for answer in answers:
            with torch.no_grad():
                logprobs = torch.log_softmax(
                    model(input_ids=torch.tensor([[*prompt, *answer]]), use_cache=False).logits[0].float(), -1
                )
            found.append(logprobs[len(prompt) - 1 : -1].gather(1, torch.tensor(answer)[:, None])[:, 0])
    return torch.cat(found)


def judged(engine: LocalEngine, decoding: Decoding) -> list[Group]:
    asked = [Prompt(prompt.token_ids, "") for prompt in prompts()[:3]]
    answers, verdict = engine.sample(asked, [1, 2, 3], 3, decoding), Verdict(False, 0.0, {})
    return [Group(c, p, a, [verdict] * 3, (1.0, -0.5, -0.5)) for c, p, a in zip(cases(3), asked, answers, strict=True)]


@pytest.mark.parametrize("family", EVERY_FAMILY)
def test_greedy_answers_are_those_of_generate_alone_and_beside_others(tmp_path: Path, family: str) -> None:
    engine = small_engine(tmp_path / "model", family)
    engine.stop_ids = frozenset()
    own = own_model(tmp_path / "model")
    wanted = [generated(own, prompt) for prompt in prompts()]
    together = engine.sample(prompts(), range(len(LENGTHS)), 2, GREEDY)
    assert [[c.segments[0].token_ids for c in group] for group in together] == [[answer] * 2 for answer in wanted]
    for place in (0, len(LENGTHS) - 2):
        alone = engine.sample(prompts()[place : place + 1], [place], 1, GREEDY)
        assert alone[0][0].segments[0].token_ids == wanted[place]


@pytest.mark.parametrize("family", EVERY_FAMILY)
def test_answers_score_as_in_a_plain_forward_pass_whoever_stands_beside_them(tmp_path: Path, family: str) -> None:
    engine = small_engine(tmp_path / "model", family)
    groups: list[Packed] = [
        (p.token_ids, [tokens(i, 5), tokens(i + 9, 12), tokens(i + 5, 1)]) for i, p in enumerate(prompts())
    ]
    wanted = plain(own_model(tmp_path / "model"), groups)
    for shared in {engine.shared, False}:
        with torch.no_grad():
            found = score(engine.network, groups, temperature=1.0, shared=shared, pad_id=engine.pad_id).logprobs
        assert (found - wanted).abs().max() < 2e-5


@pytest.mark.parametrize("family", EVERY_FAMILY)
def test_supervised_and_policy_steps_run_and_packed_gradients_are_the_plain_ones(tmp_path: Path, family: str) -> None:
    small_model(tmp_path / "model", family)
    norms: dict[bool, list[float]] = {}
    for shared in (True, False):
        engine = open_engine(Model(name="model"), tmp_path / "model", rows=16)
        assert engine.shared == (family in {*SHARED, "llama", "qwen3", "gemma3"})
        if not shared:
            engine.shared = False
        rlvr, decoding = Rlvr(kl=0.01, learning_rate=1e-4), Decoding(temperature=1.0, max_new_tokens=6)
        learner = engine.learner(rlvr, 3, rlvr=rlvr, decoding=decoding)
        pairs = [(prompt, tuple(tokens(place, 4 + place))) for place, prompt in enumerate(prompts())]
        supervised = learner.learn_from_responses(pairs)
        assert all(map(torch.isfinite, map(torch.tensor, supervised.values())))
        norms[shared] = [supervised["gradient_norm"]]
        policy = learner.learn_from_groups(judged(engine, decoding))
        assert all(map(torch.isfinite, map(torch.tensor, policy.values())))
        assert policy["train_inference_mismatch_max"] < 1e-4
    assert norms[True] == pytest.approx(norms[False], rel=1e-4)


def test_a_model_that_ignores_its_cache_or_is_spoilt_by_padding_takes_a_slower_way_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        engine = small_engine(tmp_path / "rwkv", "rwkv")
    assert rows_of(engine.network) == Rows(cached=False, padded=False, masked=False)
    assert "every step computes the whole sequence again" in caplog.text
    assert "only answers to prompts of one length are written together" in caplog.text
    assert rows_of(small_engine(tmp_path / "mamba", "falcon_mamba").network) == Rows(masked=False)
    assert rows_of(small_engine(tmp_path / "qwen3_5", "qwen3_5").network) == Rows()


def test_a_model_that_agrees_in_no_way_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "DECODED", (Rows(), Rows(masked=False)))
    with pytest.raises(
        InputError, match=r"^model gives other numbers for several answers together than for each alone"
    ):
        small_engine(tmp_path / "model", "rwkv")


@pytest.mark.parametrize(
    ("family", "said"),
    [
        ("attention_dropout", {"attention_dropout": 0.1}),
        ("hidden_dropout", {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}),
        ("gpt2", {"attn_pdrop": 0.1, "embd_pdrop": 0.1, "resid_pdrop": 0.1, "summary_first_dropout": 0.1}),
        ("llama", {}),
    ],
)
@pytest.mark.parametrize("lora", [None, Lora(rank=2, targets="all-linear")])
def test_dropout_is_off_and_said_and_the_saved_config_has_it_as_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, family: str, said: dict[str, float], lora: Lora | None
) -> None:
    folder = small_model(tmp_path / "model", family)
    with caplog.at_level(logging.WARNING):
        engine = open_engine(Model(name="model", lora=lora), folder, rows=8)
    assert engine.shared
    assert ("dropout is off here" in caplog.text) == bool(said)
    assert all(f"{key} {value:g}" in caplog.text for key, value in said.items())
    assert dropout_of(folder) == said
    engine.network.train()
    ids = torch.tensor([tokens(0, 9)])
    assert torch.equal(engine.network(input_ids=ids).logits, engine.network(input_ids=ids).logits)
    engine.save(tmp_path / "saved")
    assert dropout_of(tmp_path / "saved") == said
    assert (
        engine.network.config.to_dict() | said != engine.network.config.to_dict() or not said
    )  # off again after it was saved


def test_a_model_that_computes_otherwise_in_training_is_scored_and_not_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        model_configs.CONFIGS, "draws_its_experts", ("phimoe", {"num_local_experts": 4, "router_jitter_noise": 0.5})
    )
    folder = small_model(tmp_path / "model", "draws_its_experts")
    engine = open_engine(Model(name="model"), folder, rows=8)
    engine.sample(prompts()[:1], [0], 1, GREEDY)
    with pytest.raises(
        InputError, match=r"model can be scored but not trained: it gives other numbers while it learns.*arms: \[base\]"
    ):
        engine.learner(Optimiser(), 1)


def test_layer_drop_and_noise_of_routers_are_off_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        model_configs.CONFIGS, "noise", ("mixtral", {"num_local_experts": 4, "router_jitter_noise": 0.1})
    )
    sizes = {"d_model": 32, "ffn_dim": 64, "num_layers": 2, "attention_heads": 4}
    monkeypatch.setitem(model_configs.CONFIGS, "skips", ("xglm", {**sizes, "layerdrop": 0.5}))
    for family in ("noise", "skips"):
        engine = small_engine(tmp_path / family, family)
        engine.network.train()
        ids = torch.tensor([tokens(0, 9)])
        assert torch.equal(engine.network(input_ids=ids).logits, engine.network(input_ids=ids).logits)


def test_a_model_of_text_and_images_is_learnt_from_as_text_and_keeps_its_images(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        engine = small_engine(tmp_path / "model", "gemma3_images")
    assert "text only; its parts for images or sound stay as they are" in caplog.text
    assert engine.context == 1024
    tower = {name: weight.clone() for name, weight in engine.network.named_parameters() if not weight.requires_grad}
    assert tower
    assert all("vision" in name or "multi_modal" in name for name in tower)
    learner = engine.learner(Optimiser(learning_rate=1e-2), 2)
    learner.learn_from_responses([(prompts()[0], tuple(tokens(1, 5)))])
    engine.save(tmp_path / "saved")
    saved = own_model(tmp_path / "saved")
    assert type(saved).__name__ == "Gemma3ForConditionalGeneration"
    kept = dict(saved.named_parameters())
    assert all(torch.equal(kept[name], weight) for name, weight in tower.items())
    groups: list[Packed] = [(prompts()[1].token_ids, [tokens(3, 7)])]
    with torch.no_grad():
        live = score(engine.network, groups, temperature=1.0, shared=True, pad_id=0).logprobs
    assert (plain(saved, groups) - live).abs().max() < 1e-5


def test_sequences_on_one_side_of_a_rope_switch_only_have_the_same_factors(tmp_path: Path) -> None:
    assert switch_of(small_engine(tmp_path / "longrope", "longrope").network) == Switch(ROPE_SWITCH, grows=False)
    assert switch_of(small_engine(tmp_path / "dynamic", "dynamic_rope").network) == Switch(512, grows=True)
    assert switch_of(small_engine(tmp_path / "llama", "llama").network) is None
    assert [side(Switch(8, grows=False), length) for length in (8, 9, 99)] == [0, 1, 1]
    assert [side(Switch(8, grows=True), length) for length in (8, 9, 99)] == [0, 9, 99]


def test_answers_without_a_token_score_as_nothing_on_either_side_of_a_rope_switch(tmp_path: Path) -> None:
    engine = small_engine(tmp_path / "model", "longrope")
    groups: list[Packed] = [(tokens(0, ROPE_SWITCH - 2), [[], tokens(1, 9)]), (tokens(2, 9), [[]])]
    for shared in (True, False):
        with torch.no_grad():
            assert len(score(engine.network, groups, temperature=1.0, shared=shared, pad_id=0).logprobs) == 9


def test_dynamic_rope_forgets_a_long_sequence_before_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rope = {"rope_type": "dynamic", "factor": 8.0, "rope_theta": 10000.0}
    shape = {"rope_parameters": rope, "max_position_embeddings": 32}
    monkeypatch.setitem(model_configs.CONFIGS, "dynamic", ("llama", shape))
    engine = small_engine(tmp_path / "model", "dynamic")
    groups: list[Packed] = [
        (tokens(0, 40), [tokens(1, 9)]),
        (tokens(2, 26), [tokens(3, 3), tokens(4, 6), tokens(5, 7)]),
    ]
    wanted = torch.cat(
        [plain(own_model(tmp_path / "model"), [(prompt, [answer])]) for prompt, answers in groups for answer in answers]
    )
    for shared in (True, False):
        with torch.no_grad():
            found = score(engine.network, groups, temperature=1.0, shared=shared, pad_id=0).logprobs
        assert (found - wanted).abs().max() < 1e-5


def test_one_prompt_of_a_model_whose_queries_share_key_heads_is_decoded(tmp_path: Path) -> None:
    engine = small_engine(tmp_path / "model", "tied")
    assert engine.shared
    for group_size in (1, 2, 3):
        assert len(engine.sample(prompts()[:1], [0], group_size, GREEDY)[0]) == group_size


def test_a_config_that_asks_for_tuples_or_another_kernel_opens(tmp_path: Path) -> None:
    folder = small_model(tmp_path / "model", "untied")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps(config | {"return_dict": False, "_attn_implementation": "flash_attention_2"})
    )
    assert open_engine(Model(name="model"), folder, rows=4).shared


@pytest.mark.parametrize(
    "way", [Rows(padded=False, masked=False), Rows(cached=False, masked=False), Rows(scored_padded=False)]
)
def test_every_way_of_taking_rows_gives_the_models_own_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: Rows
) -> None:
    monkeypatch.setattr(trial, "DECODED", (way,))
    engine = small_engine(tmp_path / "model", "bloom")
    object.__setattr__(engine.network, "ehrmind_rows", way)
    engine.stop_ids = frozenset()
    own = own_model(tmp_path / "model")
    written = engine.sample(prompts(), range(len(LENGTHS)), 2, GREEDY)
    assert [group[1].segments[0].token_ids for group in written] == [generated(own, prompt) for prompt in prompts()]
    groups: list[Packed] = [(p.token_ids, [tokens(i, 5), [], tokens(i + 9, 12)]) for i, p in enumerate(prompts())]
    with torch.no_grad():
        found = score(engine.network, groups, temperature=1.0, shared=False, pad_id=0).logprobs
    assert (found - plain(own, [(p, [a for a in answers if a]) for p, answers in groups])).abs().max() < 1e-5


def test_padding_that_spoils_a_row_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that overlooks the mask it is handed."""
    from transformers.models.lfm2 import modeling_lfm2

    monkeypatch.setattr(modeling_lfm2, "apply_mask_to_padding_states", lambda states, mask: states)
    monkeypatch.setattr(sharing, "share_states", lambda network: False)
    engine = small_engine(tmp_path / "model", "lfm2")
    assert rows_of(engine.network) == Rows(padded=False, masked=False)
    engine.stop_ids = frozenset()
    own = own_model(tmp_path / "model")
    written = engine.sample(prompts(), range(len(LENGTHS)), 1, GREEDY)
    assert [group[0].segments[0].token_ids for group in written] == [generated(own, prompt) for prompt in prompts()]
