"""The process audit in training: as a filter of worked answers in the warm-up, and as an extra
reward of RLVR.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from ehrmind.config import ExtraReward, parse_recipe
from ehrmind.data.synthetic import synthetic_cases
from ehrmind.engines.scripted import ScriptedEngine
from ehrmind.prompts import gold_response
from ehrmind.runs import Run
from ehrmind.stages.pipeline import run_pipeline
from ehrmind.stages.rlvr.extra_rewards import load_rewards, with_extra_rewards
from ehrmind.types import Case, Completion, Group, Prompt, Segment
from ehrmind.verify import judge

PROCESS = {"process": ExtraReward(function="ehrmind.process_audit:soundness", weight=0.2)}
CURB = synthetic_cases(1, 3, "train", ["curb-65"], styles=["numbered"], difficulty="easy")[0]


def part(case: Case, text: str, earlier: str = "") -> float:
    """The reward's part for one answer."""
    completion = Completion((Segment("assistant", (1,), (0.0,)),), "stop", text, earlier)
    group = Group(case, Prompt((1,)), [completion], [judge(case, text)])
    (rewarded,) = with_extra_rewards([group], load_rewards(PROCESS))
    return rewarded.verdicts[0].parts["process"]


def test_sound_working_earns_the_weight_and_a_wrong_step_nothing_though_the_answer_is_right() -> None:
    good = gold_response(CURB)
    bad = good.replace("CURB-65 score =", "CURB-65 score = 9 +", 1)
    assert bad != good and judge(CURB, bad).correct
    assert part(CURB, good) == pytest.approx(0.2) and part(CURB, bad) == 0


def test_every_worked_answer_of_the_calculators_earns_more_than_an_empty_thought() -> None:
    for case in synthetic_cases(55, 0, "train"):
        earned = part(case, gold_response(case))
        assert 0.1 < earned <= 0.2, case.stratum
        assert part(case, gold_response(dataclasses.replace(case, rationale="So I say."))) < earned - 0.1


def test_malformed_text_earns_nothing_and_little_of_the_working_earns_less_than_all() -> None:
    good = gold_response(CURB)
    assert part(CURB, good.replace("<answer>", "")) == 0
    first = (CURB.rationale or "").splitlines()[0]
    little = gold_response(dataclasses.replace(CURB, rationale=f"{first}\nThe score is {CURB.truth['value']}."))
    assert 0 < part(CURB, little) < part(CURB, good)


def test_numbers_that_a_tool_replied_are_given() -> None:
    text = gold_response(dataclasses.replace(CURB, rationale=f"{CURB.rationale}\nThe tool says 8765.25."))
    assert part(CURB, text) == 0 < part(CURB, text, earlier="[8765.25]")


def warmed_up(folder: Path, **warmup: Any) -> Run:
    rows = [f"{n},What is {n} + 1?,{n + 1},{n} + 1 = {n + 1 if n % 3 else n + 5}" for n in range(30)]
    (folder / "sums.csv").write_text("\n".join(["id,question,answer,why", *rows]) + "\n")
    file = {"path": str(folder / "sums.csv"), "kind": "integer", "id": "id", "rationale": "why"}

    def plan(prompt: str, key: int, member: int, skill: int) -> str:
        return f'<think>counting</think>\n<answer>{{"answer": {1 + member}}}</answer>'

    ScriptedEngine(plan).save(folder / "base")
    tree = {"data": {"source": {"table": {**file, "shares": [0.6, 0.1, 0.3]}}}, "model": {"name": "scripted"}}
    small = {"pilot": {"questions": 4, "samples": 2, "interventions": 0}, "arms": ["base", "sft"]}
    return run_pipeline(
        parse_recipe({**tree, **small, "warmup": {"epochs": 1, **warmup}}),
        folder / "run",
        open_engine=lambda _, where: ScriptedEngine.load(where, plan),
        locate=lambda _: folder / "base",
    )


def test_an_audited_warm_up_leaves_out_worked_answers_with_a_wrong_step_and_counts_them(tmp_path: Path) -> None:
    done = warmed_up(tmp_path, audited=True)
    wrong = sum(int(case.id.rpartition("-")[2]) % 3 == 0 for case in done.load_cases()["train"])
    counts = done.done("warmup") or {}
    assert wrong > 2 and counts["left_out"] == {"the process audit finds the thinking unsound": wrong}
    assert counts["traces"] == 18 - wrong


def test_a_warm_up_that_is_not_audited_learns_from_them(tmp_path: Path) -> None:
    assert (warmed_up(tmp_path).done("warmup") or {})["traces"] == 18
