"""A model behind an endpoint, scored with the arms: the same cases, prompts, decodings and
verdicts.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ehrmind.config import Recipe, parse_recipe
from ehrmind.engines.scripted import ScriptedEngine
from ehrmind.prompts import messages
from ehrmind.report import write_report
from ehrmind.runs import Run
from ehrmind.stages.pipeline import run_pipeline
from ehrmind.types import InputError
from tests.loopback_endpoint import Do, Server, loopback_endpoint
from tests.medcalc_cases import SHORT
from tests.page_reader import Page

BLANK = '<think>guess</think>\n<answer>{"answer": -7}</answer>'


def fluids(body: dict[str, Any]) -> str | Do:
    """Right about maintenance fluids and nothing else."""
    prompt = body["messages"][-1]["content"]
    weight = re.search(r"weight ([\d.]+) kg", prompt)
    if "maintenance" not in prompt or weight is None:
        return BLANK
    kilograms = float(weight.group(1))
    value = 4 * kilograms if kilograms <= 10 else 20 + 2 * kilograms if kilograms <= 20 else 40 + kilograms
    return f'<think>sum</think>\n<answer>{{"answer": {round(value, 1)}}}</answer>'


def recipe(
    server: Server, data: dict[str, Any] | None = None, evaluate: dict[str, Any] | None = None, **endpoint: Any
) -> Recipe:
    limits = {"backoff": 0.01, "attempts": 2, "answer_seconds": 10.0, "concurrency": 2, "answer_kilobytes": 64}
    return parse_recipe(
        {
            "data": (
                data
                or {
                    "train": {"synthetic": {"n": 14, "seed": 1, **SHORT}},
                    "tuning": {"synthetic": {"n": 7, "seed": 2, **SHORT}},
                    "held_out": {"synthetic": {"n": 35, "seed": 3, **SHORT}},
                }
            ),
            "model": {"name": "scripted"},
            "arms": ["base"],
            "evaluate": evaluate or {},
            "endpoints": {
                "large": {
                    "url": server.url,
                    "model": "large-1",
                    "price": {"input": 3, "output": 15},
                    **limits,
                    **endpoint,
                }
            },
        }
    )


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    ScriptedEngine(lambda *_: BLANK).save(folder)
    return folder


def evaluate(chosen: Recipe, out: Path, plan: Any = lambda *_: BLANK, **options: Any) -> tuple[Run, dict[str, Any]]:
    run = run_pipeline(
        chosen,
        out,
        stages=("evaluate",),
        open_engine=lambda _, folder: ScriptedEngine.load(folder, plan),
        locate=lambda _: out.parent / "base",
        **options,
    )
    return run, json.loads((run.path / "results.json").read_text())


def test_an_endpoint_stands_in_the_results_beside_the_arms_with_what_it_cost(base: Path, tmp_path: Path) -> None:
    with loopback_endpoint(fluids) as server:
        run, results = evaluate(recipe(server), tmp_path / "run")
    arms = results["arms"]
    fluid = "medcalc/physical/maintenance-fluids"
    assert arms["large"]["n"] == arms["base"]["n"] == 35 and results["sampled"]["arms"]["large"]["n"] == 35
    assert (
        arms["large"]["correct"]
        == arms["large"]["by_stratum"][fluid]["correct"]
        == arms["large"]["by_stratum"][fluid]["n"]
        > 0
    )
    assert results["pairs"]["large-base"]["difference"] == pytest.approx(arms["large"]["accuracy"])
    facts = arms["large"]["endpoint"]
    assert facts == {
        "model": "large-1",
        "answers": 35,
        "prompt_tokens": 3500,
        "completion_tokens": 700,
        "cost": pytest.approx((3500 * 3 + 700 * 15) / 1e6),
        "unanswered": 0,
    }
    assert sorted(row.arm for row in run.scorings()) == ["base", "base", "large", "large"]
    asked = [request["messages"] for request in server.requests if request["temperature"] == 0]
    expected = [[{"role": "user", "content": messages(case)[0].content}] for case in run.load_cases()["held_out"]]
    assert sorted(map(str, asked)) == sorted(map(str, expected)), "the same prompts as the arms'"
    rows = run.read_rollouts("evaluate-large-greedy")
    assert rows["tokens"].to_list() == [20] * 35


def test_an_endpoint_that_leaves_gaps_is_not_scored_until_they_are_filled(base: Path, tmp_path: Path) -> None:
    def sometimes(body: dict[str, Any]) -> str | Do:
        return fluids(body) if "maintenance" in body["messages"][-1]["content"] else Do(status=503)

    with loopback_endpoint(sometimes) as server:
        chosen = recipe(server, evaluate={"decodings": ["greedy"]})
        with pytest.raises(
            InputError, match=r"endpoints\.large left \d+ of 16 questions unanswered \(status 503: \d+\).*--resume"
        ):
            evaluate(chosen, tmp_path / "run")
        assert not (tmp_path / "run" / "results.json").exists()
        answered = len(server.answered)
        server.say = fluids
        run, results = evaluate(chosen, tmp_path / "run", resume=True)
        assert len(server.answered) == len(set(server.answered)) == 35 and answered > 0
    assert results["arms"]["large"]["n"] == 35
    assert [row.arm for row in run.scorings()] == ["base", "large", "large"], "every start is written down"


def test_or_the_gaps_count_as_wrong_and_are_told_where_the_recipe_says_so(base: Path, tmp_path: Path) -> None:
    def never(body: dict[str, Any]) -> str | Do:
        return fluids(body) if "maintenance" in body["messages"][-1]["content"] else Do(flood=True)

    with loopback_endpoint(never) as server:
        run, results = evaluate(
            recipe(server, evaluate={"decodings": ["greedy"]}, unanswered="wrong", give_up_after=100), tmp_path / "run"
        )
    arm, facts = results["arms"]["large"], run.done("evaluate-large-greedy") or {}
    gaps = 35 - arm["by_stratum"]["medcalc/physical/maintenance-fluids"]["n"]
    assert (
        arm["endpoint"]["unanswered"]
        == arm["unparsed"]
        == gaps
        == facts["failed_attempts"]["longer than answer_kilobytes"]
    )
    assert (
        run.read_rollouts("evaluate-large-greedy").filter(pl.col("finish_reason") == "error")["text"].to_list()
        == [""] * gaps
    )


def test_probabilities_of_labels_come_from_an_endpoint_s_samples_and_never_from_its_tokens(
    base: Path, tmp_path: Path
) -> None:
    split = {"family": "trials", "n": 6}
    data = {name: {"synthetic": {**split, "seed": seed}} for seed, name in enumerate(("train", "tuning", "held_out"))}

    def by_seed(body: dict[str, Any]) -> str:
        label = ["eligible", "excluded"][body.get("seed", 0) % 2]
        return f'<think>so</think>\n<answer>{{"answer": "{label}"}}</answer>'

    plan = lambda *_: '<think>so</think>\n<answer>{"answer": "eligible"}</answer>'  # noqa: E731
    with loopback_endpoint(by_seed) as server:
        chosen = recipe(server, data, {"decodings": ["greedy"], "probabilities": "samples", "samples": 4})
        run, results = evaluate(chosen, tmp_path / "samples", plan)
        rows = run.read_rollouts("samples-large")
        assert rows.height == 24 and rows["text"].n_unique() == 2
        assert results["arms"]["large"]["measures"]
        run, results = evaluate(recipe(server, data, {"decodings": ["greedy"]}), tmp_path / "tokens", plan)
        assert run.read_rollouts("evaluate-large-greedy")["probabilities"].null_count() == 6
        assert run.read_rollouts("evaluate-base-greedy")["probabilities"].null_count() == 0


def test_the_page_tells_what_endpoints_and_the_teacher_took(base: Path, tmp_path: Path) -> None:
    def say(body: dict[str, Any]) -> str | Do:
        gold = re.search(r"The right answer:\n(\{.*\})\n", body["messages"][0]["content"])
        if gold is None:
            return fluids(body)
        number, value = len(server.requests), json.loads(gold[1])["answer"]
        return (
            BLANK
            if number % 2
            else (
                f"<think>It follows, thought {number}. The answer is"
                f" {value}.</think>\n<answer>{gold[1]}</answer>\nConfidence: 99"
            )
        )

    with loopback_endpoint(say) as server:
        chosen = recipe(server, evaluate={"decodings": ["greedy"]})
        teacher = {**chosen.endpoints["large"].model_dump(exclude={"unanswered"}), "tries": 2, "concurrency": 1}
        tree = {**chosen.model_dump(mode="json"), "arms": ["sft"], "teacher": teacher}
        tree["warmup"] |= {"traces": "teacher", "epochs": 1}
        run = run_pipeline(
            parse_recipe(tree),
            tmp_path / "run",
            stages=("warmup", "evaluate"),
            open_engine=lambda _, folder: ScriptedEngine.load(folder, lambda *_: BLANK),
            locate=lambda _: tmp_path / "base",
        )
    facts = (run.done("warmup") or {})["teacher"]
    page = Page(write_report(run.path)[0].read_text(encoding="utf-8"))
    (row,) = page.table("Models behind endpoints, greedy decoding")[1:]
    assert row == ["large", "large-1", "35", "3,500", "700", "0.021", "0"]
    rows = dict(page.table("Worked answers of the teacher large-1")[1:])
    assert rows["Asked"] == str(facts["asked"]) and rows["Accepted"] == str(facts["accepted"]) and facts["accepted"] > 5
    assert rows["Refused: out of limits"] == str(facts["refused"]["out of limits"])


def test_no_record_stands_outside_what_is_protected(base: Path, tmp_path: Path) -> None:
    with loopback_endpoint(lambda body: "weight 3 kg, said the endpoint") as server:
        run, _ = evaluate(recipe(server), tmp_path / "run")
    for path in run.path.rglob("*"):
        if path.is_file() and run.protected not in path.parents:
            assert (
                not re.search(rb"weight [\d.]+ kg", path.read_bytes()) and b"said the endpoint" not in path.read_bytes()
            ), path
    assert (run.protected / "endpoints" / "evaluate-large-greedy.jsonl").stat().st_mode & 0o777 == 0o600
