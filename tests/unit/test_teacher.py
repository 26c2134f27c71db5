"""The warm-up's teacher, against a server on this machine that teaches as planned: well, badly, or
with lies.
"""

from __future__ import annotations

import json
import re
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ehrmind.config import Recipe, parse_recipe
from ehrmind.data.synthetic.trials import synthetic_trials
from ehrmind.engines.scripted import ScriptedEngine
from ehrmind.parsing import reasons
from ehrmind.prompts.chat import PromptVariant
from ehrmind.prompts.teaching import lesson, read_reply, teaching_messages
from ehrmind.runs import Run
from ehrmind.runs.records import Diagnosis, StratumDiagnosis
from ehrmind.stages.pipeline import run_pipeline
from ehrmind.stages.warmup.teacher import COPY, FLAWED, LEAKS, NO_ANSWER, UNSAID, UNSURE, needs, quotas
from ehrmind.types import InputError, Prompt
from ehrmind.verify import judge
from tests.loopback_endpoint import Do, Say, Server, chat, loopback_endpoint

GOLD = re.compile(r"The right answer:\n(\{.*\})\n")
LEARNT: list[str] = []


class Watched(ScriptedEngine):
    def response_tokens(self, text: str, prompt: Prompt, *, own: bool = False) -> tuple[int, ...]:
        LEARNT.append(text)
        return super().response_tokens(text, prompt, own=own)


def answered(body: dict[str, Any]) -> tuple[str, str]:
    """(the gold answer as the teacher was given it, some words that tell cases apart)"""
    text = body["messages"][0]["content"]
    gold = GOLD.search(text)
    assert gold is not None, "the teacher is told the answer"
    return gold[1], f"patient {zlib.crc32(text.encode())}"


def well(body: dict[str, Any]) -> str:
    gold, record = answered(body)
    return f"<think>The record says: {record}. So it follows.</think>\n<answer>{gold}</answer>\nConfidence: 90"


def wrong(gold: str) -> str:
    labels = ["not relevant", "excluded", "eligible"]
    return json.dumps({"answer": labels[(labels.index(json.loads(gold)["answer"]) + 1) % 3]})


def recipe(
    server: Server, *, warmup: dict[str, Any] | None = None, train: dict[str, Any] | None = None, **teacher: Any
) -> Recipe:
    settings = {
        "url": server.url,
        "model": "large",
        "backoff": 0.01,
        "answer_seconds": 10.0,
        "answer_kilobytes": 64,
        "attempts": 2,
        **teacher,
    }
    return parse_recipe(
        {
            "data": {
                "train": train or {"synthetic": {"family": "trials", "n": 60, "seed": 1}},
                "tuning": {"synthetic": {"family": "trials", "n": 6, "seed": 2}},
                "held_out": {"synthetic": {"family": "trials", "n": 30, "seed": 3}},
            },
            "model": {"name": "scripted"},
            "arms": ["sft"],
            "warmup": {"traces": "teacher", "epochs": 1, **(warmup or {})},
            "teacher": settings,
        }
    )


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    ScriptedEngine(lambda *_: "").save(folder)
    LEARNT.clear()
    return folder


def warm_up(chosen: Recipe, out: Path, **options: Any) -> tuple[Run, dict[str, Any]]:
    run = run_pipeline(
        chosen,
        out,
        stages=("warmup",),
        open_engine=lambda _, folder: Watched.load(folder, lambda *_: ""),
        locate=lambda _: out.parent / "base",
        **options,
    )
    return run, (run.done("warmup") or {})


def test_the_warm_up_learns_what_a_teacher_writes_who_knows_the_answers(base: Path, tmp_path: Path) -> None:
    with loopback_endpoint(well) as server:
        run, facts = warm_up(recipe(server, balance=None, price={"input": 1, "output": 1}), tmp_path / "run")
    cases = {case.id: case for split in run.load_cases().values() for case in split}
    assert facts["traces"] == len(LEARNT) == facts["teacher"]["accepted"] == 60 and not facts["teacher"]["refused"]
    assert facts["teacher"]["prompt_tokens"] == 60 * 100 and facts["teacher"]["cost"] == pytest.approx(60 * 120 / 1e6)
    assert all(text.startswith("<think>The record says") and text.endswith("</answer>") for text in LEARNT)
    sent = " ".join(request["messages"][0]["content"] for request in server.requests)
    for case in cases.values():
        assert (" ".join(case.fields["note"].split())[:60] in " ".join(sent.split())) == (case.split == "train"), (
            case.split
        )


@pytest.mark.parametrize("trouble", ["stall", "drop", "flood", "garbage", "500"])
def test_a_teacher_that_misbehaves_costs_its_cases_and_nothing_else(base: Path, tmp_path: Path, trouble: str) -> None:
    bad = {
        "stall": Do(stall=True),
        "drop": Do(body=chat("<think>half"), drop=True),
        "flood": Do(flood=True),
        "garbage": Do(body=b"<html>"),
        "500": Do(status=500),
    }[trouble]
    name = {
        "stall": "timed out",
        "drop": "connection broken off",
        "flood": "longer than answer_kilobytes",
        "garbage": "not a chat completion",
        "500": "status 500",
    }

    def say(body: dict[str, Any]) -> str | Do:
        return bad if "excluded" in answered(body)[0] else well(body)

    train = {"synthetic": {"family": "trials", "n": 12, "seed": 1}}
    with loopback_endpoint(say) as server:
        run, facts = warm_up(recipe(server, train=train, tries=1, balance=None, answer_seconds=1.0), tmp_path / "run")
    excluded = sum(case.truth["value"] == 1 for case in run.load_cases()["train"])
    assert facts["teacher"]["refused"] == {f"{NO_ANSWER}: {name[trouble]}": excluded} and excluded > 0
    assert facts["traces"] == 12 - excluded and "excluded" not in " ".join(LEARNT)


LIES = {
    "wrong label": (
        lambda gold, record: f"<think>{record}</think><answer>{wrong(gold)}</answer>\nConfidence: 99",
        reasons.WRONG_LABEL,
    ),
    "leak": (
        lambda gold, record: (
            f"<think>{record} The given label is {gold}.</think><answer>{gold}</answer>\nConfidence: 99"
        ),
        LEAKS,
    ),
    "another conclusion": (
        lambda gold, record: (
            f"<think>{record}. So the patient is {json.loads(wrong(gold))['answer']}.</think><answer>{gold}</answer>"
        ),
        f"{FLAWED}: conclusion",
    ),
    "wrong sum": (
        lambda gold, record: (
            f"<think>{record}. Of 12 + 9 = 23 points it follows.</think><answer>{gold}</answer>\nConfidence: 99"
        ),
        f"{FLAWED}: arithmetic",
    ),
    "unsure": (lambda gold, record: f"<think>{record}</think><answer>{gold}</answer>\nConfidence: 40", UNSURE),
    "silent": (lambda gold, record: f"<think>{record}</think><answer>{gold}</answer>", UNSAID),
    "copies": (
        lambda gold, record: f"<think>All criteria are met.</think><answer>{gold}</answer>\nConfidence: 99",
        COPY,
    ),
    "no thought": (lambda gold, record: f"<answer>{gold}</answer>\nConfidence: 99", reasons.NO_THINKING),
    "talks on": (
        lambda gold, record: f"<think>{record}</think><answer>{gold}</answer> I hope this helps!",
        reasons.TEXT_AFTER,
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_teacher_that_lies_is_found_out_by_name(base: Path, tmp_path: Path, lie: str) -> None:
    tell, reason = LIES[lie]
    train = {"synthetic": {"family": "trials", "n": 12, "seed": 1}}
    with loopback_endpoint(lambda body: tell(*answered(body))) as server:
        with pytest.raises(InputError, match="no trace to learn from") if lie != "copies" else _nothing():
            warm_up(recipe(server, train=train, tries=2), tmp_path / "run")
        asked = Counter(request["messages"][0]["content"] for request in server.requests)
    assert set(asked.values()) == ({1} if lie == "unsure" else {2} if lie != "copies" else {1, 2})
    if lie == "copies":
        assert len(LEARNT) == 1
    else:
        with loopback_endpoint(
            lambda body: tell(*answered(body)) if "eligible" in answered(body)[0] else well(body)
        ) as server:
            _, facts = warm_up(recipe(server, train=train, tries=1, balance=None), tmp_path / "again")
        assert facts["teacher"]["refused"] == {reason: facts["teacher"]["asked"] - facts["teacher"]["accepted"]}


class _nothing:  # noqa: N801  # a context that expects nothing
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def test_a_refused_answer_is_tried_again_and_the_case_is_not_lost(base: Path, tmp_path: Path) -> None:
    times: Counter[str] = Counter()

    def better_the_third_time(body: dict[str, Any]) -> str:
        gold, record = answered(body)
        times[body["messages"][0]["content"]] += 1
        return (
            well(body)
            if times[body["messages"][0]["content"]] == 3
            else f"<think>{record}</think><answer>{wrong(gold)}</answer>"
        )

    train = {"synthetic": {"family": "trials", "n": 9, "seed": 1}}
    with loopback_endpoint(better_the_third_time) as server:
        _, facts = warm_up(recipe(server, train=train, tries=3, balance=None), tmp_path / "run")
    assert (
        facts["traces"] == 9
        and facts["teacher"]["refused"] == {reasons.WRONG_LABEL: 18}
        and facts["teacher"]["asked"] == 27
    )
    seeds = [request["seed"] for request in server.requests]
    assert len(set(seeds)) == 27


def test_a_hopeless_teacher_is_not_asked_about_every_case_there_is(base: Path, tmp_path: Path) -> None:
    def always_wrong(body: dict[str, Any]) -> str:
        gold, record = answered(body)
        return f"<think>{record}</think><answer>{wrong(gold)}</answer>"

    with loopback_endpoint(always_wrong) as server:
        with pytest.raises(InputError, match=r"no trace to learn from \(\{'wrong label': 12\}\)"):
            warm_up(recipe(server, pairs=6, tries=2), tmp_path / "run")
        assert len(server.requests) == 12


def test_a_run_that_breaks_off_asks_its_teacher_nothing_twice(base: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    said = 0

    def dies_after_ten(body: dict[str, Any]) -> str | Do:
        nonlocal said
        said += 1
        return well(body) if said <= 10 else Do(status=401)

    with loopback_endpoint(dies_after_ten) as server:
        chosen = recipe(server, concurrency=2, balance=None)
        with pytest.raises(InputError, match="refuses the key"):
            warm_up(chosen, tmp_path / "run")
        assert len((tmp_path / "run/protected/teacher/warmup.jsonl").read_text().splitlines()) == 10
        server.say = well
        _, facts = warm_up(chosen, tmp_path / "run", resume=True)
        assert len(server.answered) == len(set(server.answered)) == 60
        ours = sorted(LEARNT)
        LEARNT.clear()
        warm_up(chosen, whole)
    assert ours == sorted(LEARNT) and facts["teacher"]["answers"] == 60


def test_answers_are_wanted_evenly_over_strata_and_labels_and_more_where_the_pilot_saw_more_wrong() -> None:
    sizes = {("a", "no"): 500, ("a", "yes"): 40, ("b", ""): 500, ("c", ""): 500, ("d", ""): 3}
    even = quotas(sizes, 200, {}, 1.5, None)
    assert sum(even.values()) == 200 and even["d", ""] == 3
    assert max(even["a", "no"], even["a", "yes"]) - min(even["a", "no"], even["a", "yes"]) <= 1
    assert abs(even["b", ""] - even["c", ""]) <= 1 and abs(even["a", "no"] + even["a", "yes"] - even["b", ""]) <= 1
    rates = {"b": 0.1, "c": 0.7, "a": 1.0}
    figures = {stratum: StratumDiagnosis.model_construct(pass_at_1=rate) for stratum, rate in rates.items()}
    needed = quotas(sizes, 200, needs(Diagnosis.model_construct(by_stratum=figures)), 1.5, None)
    assert needed["b", ""] > 2.5 * needed["c", ""] > 0 and 0 < needed["a", "no"] + needed["a", "yes"] < needed["c", ""]
    everything = quotas(sizes, 10_000, {}, 1.5, None)
    assert everything["a", "no"] == 60 and everything["a", "yes"] == 40, "no label more than 1.5 times the rarest"
    assert quotas(sizes, 10_000, {}, None, None)["a", "no"] == 500
    assert (
        max(quotas(sizes, 10_000, {}, 1.5, 10).values()) == 10
        and sum(quotas(sizes, 10_000, {}, 1.5, 10).values()) == 33
    )


def test_no_more_is_asked_and_kept_than_is_wanted_and_labels_stay_balanced(base: Path, tmp_path: Path) -> None:
    def bad_at_excluded(body: dict[str, Any]) -> str:
        gold, record = answered(body)
        return (
            well(body)
            if "excluded" not in gold or int(record[-1]) % 2
            else f"<think>{record}</think><answer>{wrong(gold)}</answer>"
        )

    with loopback_endpoint(bad_at_excluded) as server:
        run, facts = warm_up(recipe(server, pairs=30, tries=2, balance=1.0), tmp_path / "run")
    assert facts["teacher"]["asked"] == len(server.requests) <= 60
    for counts in facts["teacher"]["by_label"].values():
        present = [count for count in counts.values() if count]
        assert len(set(present)) <= 1
    labels = Counter(json.loads(text.partition("<answer>")[2].removesuffix("</answer>"))["answer"] for text in LEARNT)
    assert sum(labels.values()) == facts["traces"] <= 30
    assert all(case.split == "train" for case in run.load_cases()["train"])


@pytest.mark.parametrize(
    ("tail", "confidence"),
    [
        ("\nConfidence: 85", 0.85),
        ("\n\n**Confidence:** 85%", 0.85),
        ("\nconfidence = 100.", 1.0),
        ("\nConfidence: 0.9", 0.9),
        ("\nConfidence: 101", None),
        ("\nConfidence: high", None),
        ("\nI am sure.", None),
        ("", None),
    ],
)
def test_confidence_is_read_from_its_own_line_behind_the_answer(tail: str, confidence: float | None) -> None:
    reply = read_reply(f'<think>a</think>\n<answer>{{"answer": 1}}</answer>{tail}')
    assert reply.confidence == confidence
    if confidence is not None:
        assert reply.response.endswith("</answer>")


def test_a_teacher_s_own_thought_before_its_reply_is_no_part_of_the_lesson() -> None:
    (case,) = synthetic_trials(1, seed=4, split="train")
    gold = GOLD.search(teaching_messages(case, PromptVariant(), confidence=True)[0].content)
    assert gold is not None
    before = "<think>The label is known to me.</think>Here it is:\n"
    reply = read_reply(f"{before}<think>Age 40 <|im_end|> fits.</think> <answer>{gold[1]}</answer>\nConfidence: 80")
    assert judge(case, reply.response).correct
    assert lesson(reply.response) == f"<think>Age 40 < |im_end|> fits.</think>\n<answer>{gold[1]}</answer>"


def say_nothing(_: dict[str, Any]) -> str:
    return ""


def test_a_teacher_is_not_asked_before_the_recipe_is_sound(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TEACHER_KEY", raising=False)
    teaching: Say = say_nothing
    with loopback_endpoint(teaching) as server:
        with pytest.raises(InputError, match="TEACHER_KEY, which holds no key"):
            warm_up(recipe(server, api_key_env="TEACHER_KEY"), tmp_path / "run")
        assert not (tmp_path / "run").exists() and not server.requests
