"""A turn that calls a calculator gets a reply; the reply is read and not trained on, and the last
turn is what is judged.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from ehrmind.config import Decoding, Optimiser, Rlvr
from ehrmind.data.synthetic.trials import synthetic_trials
from ehrmind.engines.local.training.learner import LocalLearner
from ehrmind.engines.scripted import ScriptedEngine
from ehrmind.engines.tools import MOST_CALLS, sample_with_tool
from ehrmind.prompts import messages
from ehrmind.stages.rollout import answer_probabilities
from ehrmind.stages.tool import calculator_tool
from ehrmind.types import Completion, Group, Message, Prompt, Segment, Verdict
from tests.small_models import FAMILIES, cases, small_engine

GREEDY = Decoding(temperature=0.0, max_new_tokens=8)


def call(tree: object) -> str:
    return f"<think>let me see</think><tool>{json.dumps(tree)}</tool>"


def test_a_calculator_is_called_by_name_with_its_inputs() -> None:
    assert (
        calculator_tool(call({"calculator": "body-mass-index", "inputs": {"weight": "70 kg", "height": [1.7, "m"]}}))
        == "24.2215 kg/m^2"
    )


def test_arithmetic_is_worked() -> None:
    assert calculator_tool(call({"expression": "17 + 24 * 2"})) == "65"


@pytest.mark.parametrize(
    "text",
    ["", "no call", '<answer>{"answer": 1}</answer>', "<tool>{} and on", '<tool>{"expression": "1"}</tool> and on'],
)
def test_what_is_no_call_gets_no_reply(text: str) -> None:
    assert calculator_tool(text) is None


def test_an_answer_that_quotes_a_call_is_an_answer() -> None:
    assert calculator_tool('<answer>{"answer": 1}</answer><tool>{"expression": "1"}</tool>') is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("<tool>nonsense</tool>", "not JSON"),
        ("<tool>" + "[" * 900 + "</tool>", "not JSON"),
        (f"<tool>{'1' * 5000}</tool>", "at most"),
        (call(["body-mass-index"]), "a call is"),
        (call({"expression": "__import__('os')"}), "not arithmetic"),
        (call({"calculator": "body-mas-index", "inputs": {}}), "body-mas-index"),
        (call({"calculator": "body-mass-index", "inputs": {"weight": "70 kg"}}), "needs height"),
        (call({"calculator": "body-mass-index", "inputs": {"weight": {"kg": 70}, "height": "170 cm"}}), "an input is"),
        (call({"calculator": "body-mass-index", "inputs": {"weight": 10**400, "height": "170 cm"}}), "not a number"),
        (call({"calculator": True, "inputs": {}}), "is a name"),
    ],
)
def test_a_wrong_call_is_told_what_is_wrong(text: str, says: str) -> None:
    reply = calculator_tool(text)
    assert reply is not None and reply.startswith("error: ") and says in reply


def adds(prompt: str, key: int, member: int, skill: int) -> str:
    """Calls once about the first number, and answers with what came back."""
    if "[" not in prompt:
        return f'<tool>{{"expression": "{member} + 40"}}</tool>'
    return f'<think>it says so</think><answer>{{"answer": {prompt.rpartition("[")[2].partition("]")[0]}}}</answer>'


def test_the_reply_comes_as_a_turn_of_its_own_and_the_last_turn_is_the_answer() -> None:
    engine = ScriptedEngine(adds)
    ((first, second),) = sample_with_tool(
        engine, [engine.prompt([Message("user", "sum")])], [7], 2, GREEDY, calculator_tool
    )
    assert [segment.role for segment in second.segments] == ["assistant", "tool", "assistant"]
    assert [segment.trainable for segment in second.segments] == [True, False, True]
    assert second.text.endswith('{"answer": 41}</answer>') and first.text.endswith('{"answer": 40}</answer>')
    assert "1 + 40" in second.earlier and "[41]" in second.earlier
    assert second.n_written == second.n_tokens - len("[41]")


def test_a_model_that_only_calls_comes_to_an_end() -> None:
    engine = ScriptedEngine(lambda *_: '<tool>{"expression": "1"}</tool>')
    ((answer,),) = sample_with_tool(engine, [Prompt((1,))], [7], 1, GREEDY, calculator_tool)
    assert len(answer.segments) == 2 * MOST_CALLS + 1


def test_a_call_for_which_the_context_has_no_room_ends_the_answer() -> None:
    engine = ScriptedEngine(adds, context=40)
    ((answer,),) = sample_with_tool(engine, [Prompt((1,))], [7], 1, GREEDY, calculator_tool)
    assert len(answer.segments) == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_every_template_has_a_turn_for_the_reply(family: str, tmp_path: Path) -> None:
    """Text after the assistant's words is as in the whole conversation rendered at once."""
    engine = small_engine(tmp_path / "model", family)
    asked, said = [Message("user", "How much?")], "a call"
    prompt, turn = engine.prompt(asked), engine.tool_turn("41 kg")
    ids = [*engine.response_tokens(said, prompt), *turn.token_ids]
    whole = engine.prompt(
        [*asked, Message("assistant", prompt.opening + said if prompt.opening else said), Message("tool", "41 kg")]
    )
    assert engine.tokenizer.decode(ids) == said + engine.tokenizer.decode(list(whole.token_ids)).partition(said)[2]
    assert turn.opening == prompt.opening


def test_a_template_that_refuses_tools_gets_the_reply_from_the_user(tmp_path: Path) -> None:
    engine = small_engine(tmp_path / "model", "llama")
    engine.tokenizer.chat_template = (
        "{% for m in messages %}{% if m['role'] not in ('user', 'assistant') %}{{ raise_exception('only two may speak')"
        " }}{% endif %}{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}{{ '<|assistant|>' }}"
    )
    assert engine.tokenizer.decode(list(engine.tool_turn("41 kg").token_ids)) == "<|user|>41 kg<|end|><|assistant|>"


def learner(engine: object, **settings: object) -> LocalLearner:
    rlvr = Rlvr(steps=4, samples=2, kl=0.0, **settings)  # type: ignore[arg-type]
    return LocalLearner(engine, Optimiser(learning_rate=1e-3), 4, rlvr=rlvr, decoding=GREEDY)  # type: ignore[arg-type]


@pytest.mark.parametrize("importance", ["token", "sequence"])
def test_tokens_of_the_tool_are_read_and_not_learnt(importance: str, tmp_path: Path) -> None:
    """The gradient is that of the same answer without a tool's segment masked by hand: changing
    which tokens a tool wrote changes what is read, and no gradient comes from predicting them."""
    engine = small_engine(tmp_path / "model", "llama")
    case = cases(1)[0]
    prompt = engine.prompt(messages(case))
    first, reply, last = (5, 6, 7), (8, 9), (10, 11, 12)

    def gradients(trainable: bool, advantages: tuple[float, float]) -> dict[str, torch.Tensor]:
        parts = (
            Segment("assistant", first, (0.0,) * 3),
            Segment("tool", reply, (0.0,) * 2, trainable),
            Segment("assistant", last, (0.0,) * 3),
        )
        answers = [Completion(parts, "stop", ""), Completion((Segment("assistant", (5, 5), (0.0,) * 2),), "stop", "")]
        group = Group(case, prompt, answers, [Verdict(False, 0.0, {})] * 2, advantages)
        found: dict[str, torch.Tensor] = {}
        taught = learner(engine, importance=importance, loss="dr_grpo")
        taught.adamw.step = lambda: found.update(  # type: ignore[method-assign]
            {
                name: parameter.grad.clone()
                for name, parameter in engine.network.named_parameters()
                if parameter.grad is not None
            }
        )
        taught.settings = taught.settings.model_copy(update={"max_gradient_norm": 1e9})
        taught.learn_from_groups([group])
        return found

    masked, learnt = gradients(False, (1.0, 0.0)), gradients(True, (1.0, 0.0))
    assert any(not torch.allclose(masked[name], learnt[name]) for name in masked)
    by_hand = hand_made(engine, prompt, first, reply, last)
    for name, gradient in by_hand.items():
        torch.testing.assert_close(masked[name], gradient, rtol=1e-4, atol=1e-7)


def hand_made(
    engine: object, prompt: Prompt, first: tuple[int, ...], reply: tuple[int, ...], last: tuple[int, ...]
) -> dict[str, torch.Tensor]:
    """On policy the gradient is that of −Σ log p over the assistant's tokens, whatever the
    importance ratio is of."""
    network = engine.network  # type: ignore[attr-defined]
    network.zero_grad()
    ids = torch.tensor([[*prompt.token_ids, *first, *reply, *last]])
    logprobs = network(input_ids=ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
    start = len(prompt.token_ids) - 1
    kept = [*range(start, start + 3), *range(start + 5, start + 8)]
    (-logprobs[kept].sum() / (2 * GREEDY.max_new_tokens)).backward()
    return {
        name: parameter.grad.clone() for name, parameter in network.named_parameters() if parameter.grad is not None
    }


def test_probabilities_of_labels_are_asked_behind_the_call_and_its_reply() -> None:
    """The reply of the tool is part of what its answer's probabilities depend on."""

    class Asked(ScriptedEngine):
        def label_logprobs(self, asked: Sequence[tuple[Prompt, str, Sequence[str]]]) -> list[list[float]]:
            self.prompts = [prompt.token_ids for prompt, *_ in asked]
            return [[0.0] * len(options) for *_, options in asked]

    case = synthetic_trials(1, seed=3, split="train")[0]
    parts = (
        Segment("assistant", (5,), (0.0,)),
        Segment("tool", (8, 9), (0.0, 0.0), False),
        Segment("assistant", (6,), (0.0,)),
    )
    said = Completion(parts, "stop", '<think>a</think><answer>{"answer": "eligible"}</answer>')
    engine = Asked(adds)
    (shares,) = answer_probabilities(engine, [Group(case, Prompt((1, 2)), [said], [Verdict(True, 1.0, {})])])
    assert shares == pytest.approx([1 / 3] * 3)
    assert engine.prompts == [(1, 2, 5, 8, 9)]
