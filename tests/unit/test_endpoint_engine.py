"""A model behind an endpoint as the sampling half of an engine, and how its replies are read,
against a real server on this machine.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from ehrmind.config import Decoding
from ehrmind.engines.answers import read_answer
from ehrmind.engines.served import EndpointEngine
from ehrmind.types import InputError, Message
from tests.loopback_endpoint import Do, chat, client, loopback_endpoint, questions


def test_every_sample_has_a_seed_of_its_own_and_greedy_answers_have_none(tmp_path: Path) -> None:
    with loopback_endpoint(lambda body: str(body.get("seed"))) as server:
        engine = EndpointEngine(client(server, tmp_path), refuses_gaps=True)
        prompts = [engine.prompt([Message("user", text)]) for text in ("one", "two")]
        sampled = engine.sample(prompts, [11, 12], 3, Decoding(temperature=0.6))
        greedy = engine.sample(prompts, [11, 12], 1, Decoding(temperature=0.0))
        again = engine.sample(prompts, [11, 12], 3, Decoding(temperature=0.6))
        client(server, tmp_path, seed=False, body={"reasoning_effort": "low"}).ask(questions(1, temperature=0.6))
    seeds = [completion.text for group in sampled for completion in group]
    assert len(set(seeds)) == 6 and all(re.fullmatch(r"\d{1,10}", seed) for seed in seeds)
    assert again == sampled and len(server.requests) == 6 + 2 + 1
    assert [group[0].text for group in greedy] == ["None", "None"]
    assert "seed" not in server.requests[-1] and server.requests[-1]["reasoning_effort"] == "low"
    assert [group[0].n_written for group in greedy] == [20, 20] and greedy[0][0].segments[0].logprobs == ()


def test_reasoning_that_an_endpoint_hands_out_apart_is_put_back_before_the_answer(tmp_path: Path) -> None:
    body = chat('<answer>{"answer": 3}</answer>', message={"reasoning_content": "one </think> two"})
    with loopback_endpoint(lambda _: Do(body=body)) as server:
        engine = EndpointEngine(client(server, tmp_path), refuses_gaps=True)
        ((completion,),) = engine.sample([engine.prompt([Message("user", "q")])], [1], 1, Decoding())
    assert completion.text == '<think>one < /think> two</think>\n<answer>{"answer": 3}</answer>'


def test_an_arm_with_gaps_is_refused_or_has_empty_answers_as_it_is_told(tmp_path: Path) -> None:
    with loopback_endpoint(
        lambda body: "fine" if body["messages"][0]["content"] == "one" else Do(status=503)
    ) as server:
        for refuses in (True, False):
            engine = EndpointEngine(client(server, tmp_path), refuses_gaps=refuses)
            prompts = [engine.prompt([Message("user", text)]) for text in ("one", "two")]
            if refuses:
                with pytest.raises(
                    InputError, match=r"1 of 2 questions unanswered \(status 503: 1\).*unanswered=wrong"
                ):
                    engine.sample(prompts, [1, 2], 1, Decoding(temperature=0.0))
            else:
                (fine,), (gap,) = engine.sample(prompts, [1, 2], 1, Decoding(temperature=0.0))
                assert fine.text == "fine" and gap.text == "" and gap.finish_reason == "error" and gap.n_written == 0


@pytest.mark.parametrize(
    "usage", [None, {}, {"completion_tokens": -1}, {"completion_tokens": 10**12}, {"completion_tokens": "9"}, [1]]
)
def test_tokens_that_are_not_told_or_cannot_be_are_estimated(usage: Any) -> None:
    (question,) = questions(1)
    answer = read_answer(chat("abcdef", usage=usage), question)
    assert (
        answer is not None
        and answer.completion_tokens == 2
        and answer.prompt_tokens == -(-len(question.messages[0].content) // 3)
    )


def test_text_that_cannot_be_stored_is_made_storable() -> None:
    answer = read_answer(
        b'{"choices": [{"message": {"content": "a\\ud800b"}, "finish_reason": "length"}]}', questions(1)[0]
    )
    assert answer is not None and answer.text == "a?b" and answer.finish_reason == "length"
