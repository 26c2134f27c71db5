"""A small model behind `transformers serve` on this machine: as the teacher of a warm-up, and
scored as an arm.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ehrmind.config import Decoding, EndpointArm, Model, Optimiser, TinyModel, parse_recipe
from ehrmind.data.synthetic import synthetic_cases
from ehrmind.engines.endpoint import EndpointClient
from ehrmind.engines.local.engine import LocalEngine, open_engine
from ehrmind.engines.local.tiny import build_tiny
from ehrmind.engines.served import EndpointEngine
from ehrmind.prompts import gold_response
from ehrmind.prompts.chat import PromptVariant
from ehrmind.prompts.teaching import lesson, read_reply, teaching_messages
from ehrmind.stages.pipeline import run_pipeline
from ehrmind.types import Message
from tests.medcalc_cases import SHORT
from tests.served_model import served

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
CASES = synthetic_cases(4, 5, "train", **SHORT)
GREEDY = Decoding(temperature=0.0, max_new_tokens=200)


def asked() -> list[list[Message]]:
    return [teaching_messages(case, PromptVariant(), confidence=True) for case in CASES]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that has learned by heart what to teach about four cases."""
    folder = tmp_path_factory.mktemp("models") / "built"
    text = [turns[0].content + gold_response(case) for turns, case in zip(asked(), CASES, strict=True)]
    build_tiny(TinyModel(hidden=64, layers=2, heads=2, vocabulary=600, context=2048), text, folder, seed=0)
    engine = open_engine(Model(name=str(folder)), folder, rows=8)
    prompts = [engine.prompt(turns) for turns in asked()]
    replies = [
        engine.response_tokens(f"{gold_response(case)}\nConfidence: 90", p)
        for case, p in zip(CASES, prompts, strict=True)
    ]
    learner = engine.learner(Optimiser(learning_rate=5e-3, schedule="constant", warmup_share=0.0), 150)
    for _ in range(150):
        if learner.learn_from_responses(list(zip(prompts, replies, strict=True)))["loss"] < 0.03:
            break
    engine.save(folder.with_name("teacher"))
    return folder.with_name("teacher")


@pytest.fixture(scope="module")
def url(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(teacher, tmp_path_factory.mktemp("serve") / "log") as address:
        yield address


def test_a_served_model_says_what_the_same_model_says_here(teacher: Path, url: str, tmp_path: Path) -> None:
    settings = EndpointArm(url=url, model=str(teacher), concurrency=2)
    served = EndpointEngine(EndpointClient(settings, "endpoints.served", tmp_path / "cache.jsonl"), refuses_gaps=True)
    here: LocalEngine = open_engine(Model(name=str(teacher)), teacher, rows=8)
    theirs, ours = (
        [group[0] for group in engine.sample([engine.prompt(turns) for turns in asked()], [1, 2, 3, 4], 1, GREEDY)]
        for engine in (served, here)
    )
    assert [completion.text.strip() for completion in theirs] == [completion.text.strip() for completion in ours]
    assert [completion.finish_reason for completion in theirs] == ["stop"] * 4
    assert all(abs(a.n_written - b.n_written) <= 1 for a, b in zip(theirs, ours, strict=True)), (
        "the token that stops is counted or not"
    )
    facts = served.client.facts()
    assert (
        facts["prompt_tokens"] == sum(len(here.prompt(turns).token_ids) for turns in asked())
        and not facts["failed_attempts"]
    )


def test_a_served_model_teaches_a_warm_up_and_is_scored_as_an_arm(teacher: Path, url: str, tmp_path: Path) -> None:
    recipe = parse_recipe(
        {
            "data": {
                "train": {"synthetic": {"n": 4, "seed": 5, **SHORT}},
                "tuning": {"synthetic": {"n": 2, "seed": 6, **SHORT}},
                "held_out": {"synthetic": {"n": 3, "seed": 7, **SHORT}},
            },
            "model": {"name": str(teacher)},
            "arms": ["sft"],
            "threads": 1,
            "decoding": {"max_new_tokens": 40},
            "warmup": {"traces": "teacher", "epochs": 1},
            "teacher": {"url": url, "model": str(teacher), "tries": 1, "decoding": GREEDY.model_dump()},
            "evaluate": {"decodings": ["greedy"]},
            "endpoints": {"served": {"url": url, "model": str(teacher), "concurrency": 2}},
        }
    )
    run = run_pipeline(recipe, tmp_path / "run", stages=("warmup", "evaluate"))
    facts = (run.done("warmup") or {})["teacher"]
    here = open_engine(Model(name=str(teacher)), teacher, rows=8)
    said = here.sample([here.prompt(turns) for turns in asked()], [1, 2, 3, 4], 1, GREEDY)
    right = [
        lesson(reply.response) for (completion,) in said if (reply := read_reply(completion.text)).confidence == 0.9
    ]
    assert facts["accepted"] == len(right) >= 3, "what it has learnt by heart, it teaches"
    assert facts["asked"] == 4 and facts["prompt_tokens"] > 0 and facts["cost"] == 0
    results = json.loads((run.path / "results.json").read_text())
    assert results["arms"]["served"]["n"] == results["arms"]["sft"]["n"] == 3
    assert (
        results["arms"]["served"]["endpoint"]["completion_tokens"] > 0
        and results["arms"]["served"]["endpoint"]["unanswered"] == 0
    )
