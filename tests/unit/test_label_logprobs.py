"""The probability of each label after what was written before it: equal to scoring every whole
answer by itself.
"""

from __future__ import annotations

import pytest
import torch

from ehrmind.config import Model, TinyModel
from ehrmind.engines.local.engine import LocalEngine, open_engine
from ehrmind.engines.local.tiny import build_tiny
from ehrmind.types import Message

OPTIONS = tuple(f'{{"answer": "{label}"}}</answer>' for label in ("not relevant", "excluded", "eligible"))


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> LocalEngine:
    folder = tmp_path_factory.mktemp("tiny")
    build_tiny(
        TinyModel(hidden=32, layers=2, vocabulary=400, context=256),
        ["the patient is eligible, excluded, not relevant"] * 9,
        folder,
        seed=0,
    )
    return open_engine(Model(name=str(folder)), folder, rows=8)


def plainly(engine: LocalEngine, question: str, begun: str, option: str) -> float:
    """Log-probability of the whole response minus that of the part which all options share, token
    by token, without packing."""
    prompt = engine.prompt([Message("user", question)])
    tokens = engine.response_tokens(begun + option, prompt)[:-1]
    ids = torch.tensor([[*prompt.token_ids, *tokens]])
    with torch.no_grad():
        logprobs = torch.log_softmax(engine.network(ids).logits[0].float(), -1)
    start = len(prompt.token_ids)
    return float(sum(logprobs[start + place - 1, token] for place, token in enumerate(tokens)))


def test_options_are_compared_as_if_each_were_scored_alone(engine: LocalEngine) -> None:
    asked = [
        ("Is the patient eligible?", "<think>the patient</think>\n<answer>"),
        ("And this one, who is excluded?", "<think>x</think>\n<answer>"),
    ]
    found = engine.label_logprobs(
        [(engine.prompt([Message("user", question)]), begun, OPTIONS) for question, begun in asked]
    )
    for (question, begun), logprobs in zip(asked, found, strict=True):
        alone = [plainly(engine, question, begun, option) for option in OPTIONS]
        assert [value - logprobs[0] for value in logprobs] == pytest.approx(
            [value - alone[0] for value in alone], abs=1e-4
        )


def test_one_option_needs_no_other(engine: LocalEngine) -> None:
    ((value,),) = engine.label_logprobs([(engine.prompt([Message("user", "x")]), "<answer>", OPTIONS[:1])])
    assert value < 0
