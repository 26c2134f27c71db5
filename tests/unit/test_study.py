"""The study of `benchmarks/pilot_predicts.py`: its cases are sound, its readers fail where they are
built to fail and nowhere else.
"""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path
from types import ModuleType

import pytest

from ehrmind import tasks
from ehrmind.stages.tool import calculator_tool
from ehrmind.verify import judge


@pytest.fixture(scope="module")
def study() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "_study.py"
    spec = importlib.util.spec_from_file_location("_study", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["_study"] = module
    spec.loader.exec_module(module)
    return module


def test_every_seed_has_24_scores_of_its_own_with_gold_answers_that_pass(study: ModuleType) -> None:
    from ehrmind.prompts import gold_response

    scores = study.scores_of(3)
    assert len({score.name for score in scores}) == 24 and scores != study.scores_of(4)
    for score in scores:
        for index in range(5):
            case = study.case_of(score, 3, index, "train")
            assert judge(case, gold_response(case)).correct
            assert all(finding in tasks.of(case).record(case) for finding in score.findings)


@pytest.mark.parametrize("form", ["plain", "entities", "formula", "both", "tool"])
def test_readers_fail_where_they_are_built_to_and_are_mended_by_the_help_for_it(study: ModuleType, form: str) -> None:
    draw = random.Random(form)
    for score in study.scores_of(5):
        right = []
        for index in range(60):
            case = study.case_of(score, 5, index, "train")
            turns = study.read_answer(score, case, form, draw)
            if turns[1:]:
                assert calculator_tool(turns[0]) is not None and not calculator_tool(turns[0]).startswith("error")  # type: ignore[union-attr]
            answer = judge(case, turns[-1])
            assert answer.well_formed
            right.append(answer.correct)
        share = sum(right) / len(right)
        if not score.cause or score.cause in study.MENDS[form]:
            assert share == 1
        elif score.cause == "arithmetic":
            assert share == pytest.approx(score.right, abs=0.25)
        else:  # a note without any finding has the total 0 under any points
            assert share == pytest.approx(score.right + (1 - score.right) * 0.4**3, abs=0.25)
