"""A run proves a drawn part of its Cases before it trains: gold answers right, corruptions wrong,
or one sentence.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ehrmind.data import save_cases
from ehrmind.data.synthetic import synthetic_cases
from ehrmind.data.synthetic.general import synthetic_general
from ehrmind.data.synthetic.trials import synthetic_trials
from ehrmind.types import Case, InputError
from ehrmind.verify.drawn import OF_ALL, VERDICTS, refuse_unproven
from tests.new_rows import ehrmind


def number_case(name: str, **truth: Any) -> Case:
    about = {"kind": "decimal", "value": 5.0, "low": 4.0, "high": 6.0, "unit": None, **truth}
    return Case(name, "table", "t", "table/t/number", "train", name, {"question": f"{name}?", "record": ""}, about)


FAULTS = {
    "its own gold answer is judged wrong (out of limits)": number_case("odd-1", low=6.0, high=7.0),
    "a wrong answer (wrong value) is judged right": number_case("odd-2", kind="integer", value=10**20),
    "a label spells a marker of a model's turns, so no prompt can show it as it is": number_case(
        "odd-3", kind="label", value=0, labels=["grade [/INST]", "none"], low=None, high=None
    ),
}


def test_cases_of_every_family_are_proven_whatever_their_worked_answers_say() -> None:
    cases = [
        *synthetic_cases(110, 1, "train"),
        *synthetic_trials(30, 1, "train"),
        *synthetic_general(30, 1, "train"),
        number_case("odd-0"),
    ]
    cases.append(replace(number_case("odd-9"), rationale="..."))  # no thought that teaches; the warm-up leaves it out
    for think in (True, False):
        proven = refuse_unproven(cases, 0, think=think)
        assert proven["cases"] == len(cases) and proven["corruptions"] > 10 * len(cases)


@pytest.mark.parametrize("problem", FAULTS)
def test_a_case_that_the_verifier_is_wrong_about_is_named_with_its_task(problem: str) -> None:
    with pytest.raises(InputError) as refused:
        refuse_unproven([number_case("fine-1"), FAULTS[problem], *synthetic_trials(5, 1, "train")], 0)
    assert str(refused.value).startswith(f"Case {FAULTS[problem].id} of the task table/t: {problem}; ")


def test_the_proof_is_drawn_by_seed_from_every_task_and_bounded() -> None:
    many = [number_case(f"n-{number}") for number in range(5_000)]
    few = replace(
        FAULTS["its own gold answer is judged wrong (out of limits)"], task="rare", stratum="table/rare/number"
    )
    with pytest.raises(InputError, match="table/rare"):
        refuse_unproven([*many, few], 0)
    names = [str(number) * 40 for number in range(100, 900)]
    wide = [
        replace(case, truth={"kind": "label", "value": at % 800, "labels": names}) for at, case in enumerate(many[:400])
    ]
    tasks = [replace(case, task=f"t{at % 300}") for at, case in enumerate(many)]
    for cases in (many, wide, tasks):
        began = time.process_time()
        proven = refuse_unproven(cases, 0)
        assert (
            proven == refuse_unproven(cases, 0)
            and proven["cases"] <= OF_ALL
            and proven["corruptions"] <= VERDICTS + 500
        )
        assert time.process_time() - began < 20, "twice, on a slow machine"


@pytest.mark.parametrize("command", ["run", "pilot", "evaluate"])
def test_a_run_is_refused_before_anything_is_trained_or_scored(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    odd = number_case("odd-1", low=6.0, high=7.0)
    save_cases([odd, *(number_case(f"n-{number}") for number in range(8))], tmp_path / "train.parquet")
    save_cases(
        [replace(number_case(f"h-{number}"), split="held_out") for number in range(4)], tmp_path / "held.parquet"
    )
    tree = {"name": "t", "data": {"train": {"cases": ["train.parquet"]}, "held_out": {"cases": ["held.parquet"]}}}
    (tmp_path / "recipe.yaml").write_text(
        json.dumps({**tree, "model": {"tiny": {"hidden": 16, "layers": 1, "heads": 2}}})
    )
    assert ehrmind(command, "recipe.yaml", "--out", "run") == 2
    said = capsys.readouterr().err
    assert "Case odd-1 of the task table/t: its own gold answer is judged wrong" in said and said.count("\n") == 1
    assert not (tmp_path / "run").exists()
