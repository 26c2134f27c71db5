"""A warm-up never teaches answers without reasoning in silence."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from ehrmind.config import Recipe, parse_recipe
from ehrmind.data.synthetic import synthetic_cases
from ehrmind.engines.scripted import ScriptedEngine
from ehrmind.prompts import gold_response
from ehrmind.report import write_report
from ehrmind.runs import Run
from ehrmind.stages.pilot.plan import make_plan, planned
from ehrmind.stages.pipeline import run_pipeline
from ehrmind.types import Prompt
from tests.medcalc_cases import SHORT
from tests.unit.test_diagnosis import diagnosed

SUMS = [f"{n},What is {n} + 1?,{n + 1}" for n in range(30)]


def table(folder: Path, *, reasons: int = 0) -> dict[str, Any]:
    """A table of sums; the first `reasons` rows have a worked answer."""
    rows = [f"{row},{f'{place} and one more' if place < reasons else ''}" for place, row in enumerate(SUMS)]
    (folder / "sums.csv").write_text("\n".join(["id,question,answer,why", *rows]) + "\n")
    source = {"path": str(folder / "sums.csv"), "kind": "integer", "id": "id", "shares": [0.6, 0.1, 0.3]}
    return {"source": {"table": {**source, "rationale": "why"} if reasons else source}}


def recipe(folder: Path, *, reasons: int = 0, **changes: Any) -> Recipe:
    small = {
        "pilot": {"questions": 6, "samples": 2, "interventions": 0},
        "warmup": {"epochs": 1},
        "arms": ["base", "sft"],
    }
    return parse_recipe({"data": table(folder, reasons=reasons), "model": {"name": "scripted"}, **small, **changes})


def one_and_two(prompt: str, key: int, member: int, skill: int) -> str:
    return f'<think>counting</think>\n<answer>{{"answer": {1 + member}}}</answer>'


@pytest.fixture
def base(tmp_path: Path) -> Path:
    ScriptedEngine(one_and_two).save(tmp_path / "base")
    return tmp_path


def run(folder: Path, chosen: Recipe, name: str = "run") -> tuple[Run, list[str]]:
    learnt: list[str] = []

    class Watched(ScriptedEngine):
        def response_tokens(self, text: str, prompt: Prompt, *, own: bool = False) -> tuple[int, ...]:
            learnt.append(text)
            return super().response_tokens(text, prompt, own=own)

    return run_pipeline(
        chosen,
        folder / name,
        open_engine=lambda _, where: Watched.load(where, one_and_two),
        locate=lambda _: folder / "base",
    ), learnt


def test_a_table_without_worked_answers_is_warned_of_before_the_pilot_and_on_the_page(
    base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done, learnt = run(base, recipe(base))
    said = capsys.readouterr().err
    warning = said.index("none of the 18 training cases has a worked answer")
    assert "warmup.traces=pilot" in said and warning < said.index("pilot ")
    assert (done.done("warmup") or {})["without_reasoning"] == 18 == len(learnt)
    page = write_report(done.path)[0].read_text()
    assert "18 answers without reasoning" in page


def test_nothing_is_warned_of_where_no_reasoning_is_asked_for_or_no_warm_up_follows(
    base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, changes in enumerate(({"prompts": {"think": False}}, {"arms": ["base"]}, {"stages": "auto"})):
        (base / str(number)).mkdir()
        chosen = recipe(base / str(number), **changes)
        run(base, chosen, f"run-{number}")
        assert "worked answer" not in capsys.readouterr().err


def test_rows_without_a_worked_answer_are_left_out_and_counted_where_others_have_one(base: Path) -> None:
    done, learnt = run(base, recipe(base, reasons=15))
    counts = done.done("warmup") or {}
    assert 0 < counts["traces"] < 18 and counts["without_reasoning"] == 0
    assert counts["left_out"] == {"no worked answer in the data": 18 - counts["traces"]}
    assert all("and one more" in text for text in learnt)


def test_a_plan_learns_the_pilots_own_right_answers_where_nothing_else_is_worked() -> None:
    cases = [dataclasses.replace(c, rationale=None, provenance={}) for c in synthetic_cases(40, 4, "train", **SHORT)]
    wrong, right = '<think>guess</think>\n<answer>{"answer": -7}</answer>', {cases[0].id}
    found = diagnosed(cases, 8, lambda case, member: gold_response(case) if case.id in right and member == 0 else wrong)
    chosen = parse_recipe(
        {
            "data": {"train": {"synthetic": {"n": 40, "seed": 4}}, "held_out": {"synthetic": {"n": 4, "seed": 5}}},
            "model": {"tiny": {}},
            "stages": "auto",
        }
    )
    plan = make_plan(chosen, found, cases)
    assert plan.warm_up is not None and plan.warm_up.traces == "pilot"
    assert plan.warm_up.traces_per_stratum == {cases[0].stratum: 1}
    assert planned(chosen, plan).warmup.traces == "pilot"
    assert all(stratum != cases[0].stratum for stratum in plan.without_worked_answers)
