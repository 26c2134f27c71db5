"""The local engine on Llama-, Qwen3- and Gemma-shaped models, sliding windows shorter than the
prompts included.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ehrmind.config import Decoding, Lora, Model, Optimiser, Rlvr, TinyModel
from ehrmind.engines.local.engine import LocalEngine, open_engine
from ehrmind.engines.local.forward.matmul import Linear, packed_weights
from ehrmind.engines.local.forward.packing import Packed
from ehrmind.engines.local.sampling import sampler
from ehrmind.engines.local.sampling.sampler import draw
from ehrmind.engines.local.scoring import score
from ehrmind.engines.uniforms import question_key, row_keys, uniforms
from ehrmind.prompts import gold_response, messages
from ehrmind.types import Group, InputError, Prompt, Verdict
from tests.small_models import FAMILIES, cases, small_engine, small_model

SHORT = Decoding(temperature=1.0, max_new_tokens=12)


@pytest.fixture(scope="module", params=FAMILIES)
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalEngine]:
    torch.set_num_threads(1)
    yield small_engine(tmp_path_factory.mktemp(request.param) / "model", request.param)


def groups(engine: LocalEngine) -> list[Packed]:
    """Ragged groups, one of a single member and one with an answer of one token."""
    prompts = [engine.prompt(messages(case)).token_ids for case in cases(3)]
    draw = np.random.default_rng(0)
    answers = [draw.integers(5, 300, size=n).tolist() for n in (7, 1, 24, 3, 11, 9)]
    return [(prompts[0], answers[:3]), (prompts[1], answers[3:4]), (prompts[2], answers[4:])]


def test_a_shared_prompt_gives_the_log_probabilities_and_gradients_of_the_plain_path(engine: LocalEngine) -> None:
    assert engine.shared
    results = []
    for shared in (True, False):
        engine.network.zero_grad()
        scores = score(engine.network, groups(engine), temperature=0.7, shared=shared, pad_id=0)
        (scores.logprobs * torch.linspace(-1, 1, len(scores.logprobs))).sum().backward()
        gradient = torch.cat([p.grad.reshape(-1) for p in engine.network.parameters() if p.grad is not None])
        results.append((scores.logprobs.detach(), gradient.clone()))
    (packed, packed_gradient), (plain, plain_gradient) = results
    assert (packed - plain).abs().max() < 1e-5
    assert (packed_gradient - plain_gradient).norm() / plain_gradient.norm() < 1e-5


def test_the_log_probabilities_are_the_models_own(engine: LocalEngine) -> None:
    prompt, answers = groups(engine)[0]
    ids = torch.tensor([[*prompt, *answers[2]]])
    with torch.no_grad():
        logits = engine.network(ids).logits[0, len(prompt) - 1 : -1]
        own = torch.log_softmax(logits, -1).gather(1, torch.tensor(answers[2])[:, None])[:, 0]
        ours = score(engine.network, [(prompt, [answers[2]])], temperature=1.0, shared=True, pad_id=0).logprobs
    assert (own - ours).abs().max() < 1e-5


def test_greedy_answers_are_those_of_generate(engine: LocalEngine) -> None:
    prompts = [engine.prompt(messages(case)) for case in cases(5)]
    greedy = Decoding(temperature=0.0, max_new_tokens=12)
    ours = [answers[0].segments[0].token_ids for answers in engine.sample(prompts, list(range(5)), 1, greedy)]
    for prompt, tokens in zip(prompts, ours, strict=True):
        ids = torch.tensor([prompt.token_ids])
        theirs = engine.network.generate(
            ids, max_new_tokens=12, do_sample=False, eos_token_id=sorted(engine.stop_ids), pad_token_id=0
        )
        assert tuple(theirs[0, ids.shape[1] :].tolist()) == tokens


def test_the_samplers_log_probabilities_are_the_learners(engine: LocalEngine) -> None:
    prompts = [engine.prompt(messages(case)) for case in cases(4)]
    answers = engine.sample(prompts, [1, 2, 3, 4], 3, SHORT)
    packed = [
        (p.token_ids, [c.segments[0].token_ids for c in group]) for p, group in zip(prompts, answers, strict=True)
    ]
    sampled = torch.tensor([value for group in answers for c in group for value in c.segments[0].logprobs])
    with torch.no_grad():
        learned = score(engine.network, packed, temperature=1.0, shared=engine.shared, pad_id=0).logprobs
    assert (sampled - learned).abs().max() < 1e-4


def test_an_answer_does_not_depend_on_its_neighbours(engine: LocalEngine) -> None:
    prompts = [engine.prompt(messages(case)) for case in cases(6)]
    keys = [question_key(0, "test", 0, str(index)) for index in range(6)]
    together = engine.sample(prompts, keys, 4, SHORT)
    alone = engine.sample(prompts[2:3], keys[2:3], 4, SHORT)[0]
    assert [c.text for c in together[2]] == [c.text for c in alone]


def test_the_plain_path_samples_the_same_answers(engine: LocalEngine) -> None:
    prompts = [engine.prompt(messages(case)) for case in cases(3)]
    shared = engine.sample(prompts, [1, 2, 3], 4, SHORT)
    engine.shared = False
    plain = engine.sample(prompts, [1, 2, 3], 4, SHORT)
    engine.shared = True
    assert [[c.text for c in group] for group in shared] == [[c.text for c in group] for group in plain]


def test_weights_packed_while_sampling_change_no_answer_and_are_gone_afterwards(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [Prompt(tuple(range(5, 25))), Prompt(tuple(range(9, 14)))]
    layers = [module for module in engine.network.modules() if isinstance(module, Linear)]
    packed = engine.sample(asked, [3, 4], 4, SHORT)
    assert all(layer.packed is None for layer in layers)
    monkeypatch.setattr(sampler, "rollout_weights", lambda _: nullcontext())
    unpacked = engine.sample(asked, [3, 4], 4, SHORT)
    assert [[c.segments[0].token_ids for c in own] for own in unpacked] == [
        [c.segments[0].token_ids for c in own] for own in packed
    ]
    with pytest.raises(KeyError), packed_weights(engine.network):
        assert all(layer.packed is not None for layer in layers)
        raise KeyError
    assert all(layer.packed is None for layer in layers)


def test_the_opening_of_a_template_belongs_to_the_answer(engine: LocalEngine) -> None:
    case = cases(1)[0]
    prompt = engine.prompt(messages(case))
    assert bool(prompt.opening) == ("<think>" in (engine.tokenizer.chat_template or ""))
    gold = engine.response_tokens(gold_response(case), prompt)
    assert (prompt.opening + engine.decode(gold)).replace("\n", "") == gold_response(case).replace("\n", "")
    assert gold[-1] in engine.stop_ids


def test_learning_from_gold_responses_lowers_their_loss(engine: LocalEngine) -> None:
    chosen = cases(8)
    pairs = [(p := engine.prompt(messages(case)), engine.response_tokens(gold_response(case), p)) for case in chosen]
    learner = engine.learner(Optimiser(learning_rate=5e-3), 20)
    losses = [learner.learn_from_responses(pairs)["loss"] for _ in range(20)]
    assert losses[-1] < 0.8 * losses[0]


def test_a_step_is_the_same_however_it_is_cut_into_micro_batches(engine: LocalEngine, tmp_path: Path) -> None:
    gradients = []
    judged = judged_groups(engine)
    engine.save(tmp_path / "model")
    for budget in (100_000, 10):
        fresh = open_engine(engine.settings, tmp_path / "model", rows=16)
        rlvr = Rlvr(learning_rate=1e-3, tokens_per_microbatch=budget, kl=0.01)
        gradients.append(fresh.learner(rlvr, 1, rlvr=rlvr, decoding=SHORT).learn_from_groups(judged)["gradient_norm"])
    assert gradients[0] == pytest.approx(gradients[1], rel=1e-4)
    assert gradients[0] > 0


def judged_groups(engine: LocalEngine) -> list[Group]:
    chosen = cases(3)
    prompts = [engine.prompt(messages(case)) for case in chosen]
    verdict = Verdict(False, 0.0, {"format": 0.0, "outcome": 0.0})
    answers = engine.sample(prompts, [5, 6, 7], 3, SHORT)
    return [Group(c, p, a, [verdict] * 3, (1.0, -0.5, -0.5)) for c, p, a in zip(chosen, prompts, answers, strict=True)]


def test_reinforcing_an_answer_makes_it_more_likely(engine: LocalEngine, tmp_path: Path) -> None:
    engine.save(tmp_path / "model")
    fresh = open_engine(engine.settings, tmp_path / "model", rows=16)
    judged = judged_groups(fresh)
    packed = [(g.prompt.token_ids, [g.completions[0].segments[0].token_ids]) for g in judged]
    rlvr = Rlvr(learning_rate=5e-4, kl=0.0, warmup_share=0.0)
    learner = fresh.learner(rlvr, 4, rlvr=rlvr, decoding=SHORT)
    with torch.no_grad():
        before = score(fresh.network, packed, temperature=1.0, shared=True, pad_id=0).logprobs.sum()
        for _ in range(4):
            with torch.enable_grad():
                learner.learn_from_groups(judged)
        after = score(fresh.network, packed, temperature=1.0, shared=True, pad_id=0).logprobs.sum()
    assert after > before


def test_lora_trains_adapters_only_and_saves_a_merged_ordinary_model(tmp_path: Path) -> None:
    engine = small_engine(tmp_path / "model", "llama", lora=Lora(rank=4))
    assert engine.shared
    frozen = {name: p.clone() for name, p in engine.network.named_parameters() if not p.requires_grad}
    rlvr = Rlvr(learning_rate=1e-2, kl=0.01)
    learner = engine.learner(rlvr, 3, rlvr=rlvr, decoding=SHORT)
    for _ in range(3):
        metrics = learner.learn_from_groups(judged_groups(engine))
    assert metrics["kl"] > 0  # the adapter off is the reference
    assert all(torch.equal(p, frozen[name]) for name, p in engine.network.named_parameters() if name in frozen)
    engine.save(tmp_path / "merged")
    merged = open_engine(Model(name="merged"), tmp_path / "merged", rows=16)
    prompts = [engine.prompt(messages(case)) for case in cases(3)]
    greedy = Decoding(temperature=0.0, max_new_tokens=8)
    assert [a[0].text for a in merged.sample(prompts, [0, 1, 2], 1, greedy)] == [
        a[0].text for a in engine.sample(prompts, [0, 1, 2], 1, greedy)
    ]


def test_drawn_tokens_follow_the_models_distribution() -> None:
    from scipy.stats import chisquare

    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, 0.5])
    rows = 20_000
    numbers = uniforms(row_keys([1], rows), 0)
    chosen, _ = draw(logits.repeat(rows, 1), Decoding(temperature=0.8), numbers)
    expected = torch.softmax(logits.double() / 0.8, -1).numpy() * rows
    assert chisquare(np.bincount(chosen.numpy(), minlength=5), expected).pvalue > 1e-3


def test_top_k_and_top_p_leave_out_the_tail_and_do_not_touch_log_probabilities() -> None:
    logits = torch.tensor([[3.0, 2.0, 1.0, 0.0]]).repeat(2000, 1)
    numbers = uniforms(row_keys([2], 2000), 0)
    for decoding, allowed in (
        (Decoding(temperature=1.0, top_k=2), {0, 1}),
        (Decoding(temperature=1.0, top_p=0.7), {0, 1}),
    ):
        chosen, logprobs = draw(logits, decoding, numbers)
        assert set(chosen.tolist()) == allowed
        assert math.isclose(float(logprobs[chosen == 0][0]), float(torch.log_softmax(logits[0], -1)[0]), rel_tol=1e-6)


@pytest.mark.parametrize(
    ("name", "said"), [("modeling_own.py", "code of its own"), ("pytorch_model.bin", "pickled weights")]
)
def test_a_model_directory_with_code_or_pickles_is_refused_by_name(tmp_path: Path, name: str, said: str) -> None:
    folder = small_model(tmp_path / "model", "llama")
    (folder / name).write_text("x")
    with pytest.raises(InputError, match=rf"{said}.*{name}|{name}.*{said}|{said} \({name}\)"):
        open_engine(Model(name=str(folder)), folder, rows=4)


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_model_directory_with_a_torn_file_is_one_sentence(tmp_path: Path, file: str) -> None:
    folder = small_model(tmp_path / "torn", "llama")
    (folder / file).write_bytes((folder / file).read_bytes()[:100])
    with pytest.raises(InputError, match=r"^torn cannot be opened as a causal language model: \w"):
        open_engine(Model(name=str(folder)), folder, rows=4)


def test_a_model_that_lacks_weights_is_refused_rather_than_filled_with_random_ones(tmp_path: Path) -> None:
    folder = small_model(tmp_path / "partial", "llama")
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        InputError, match=r"partial lacks 1 of its weights, such as model\.layers\.1\.mlp\.up_proj\.weight"
    ):
        open_engine(Model(name=str(folder)), folder, rows=4)


def test_a_prompt_that_does_not_fit_the_context_is_refused(tmp_path: Path) -> None:
    engine = small_engine(tmp_path / "model", "llama")
    prompt = engine.prompt(messages(cases(1)[0]))
    with pytest.raises(InputError, match="context of 1024"):
        engine.sample([prompt], [0], 1, Decoding(max_new_tokens=1000))


def test_the_shipped_demo_base_opens_and_shares_prompts() -> None:
    folder = Path(__file__).parents[2] / "recipes" / "demo_base"
    assert open_engine(Model(name=str(folder)), folder, rows=4).shared
    assert sum(file.stat().st_size for file in folder.iterdir()) < 10 * 2**20


def test_tiny_models_ask_for_no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import socket

    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("went online"))
    assert small_engine(tmp_path / "model", "llama").context == TinyModel(context=1024).context
