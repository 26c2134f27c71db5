"""The audit of the thinking, part by part, on synthetic cases; and that it is total."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehrmind.data.synthetic import synthetic_cases
from ehrmind.data.synthetic.trials import synthetic_trials
from ehrmind.process_audit import PARTS, ProcessAudit, audit, leaks
from ehrmind.prompts import gold_response
from ehrmind.prompts.protocol import wrap
from ehrmind.types import Case
from tests.medcalc_cases import decimal


def a_case(task: str, style: str = "numbered", seed: int = 3) -> Case:
    return synthetic_cases(1, seed, "held_out", [task], difficulty="easy", styles=[style])[0]


def wrong(found: ProcessAudit, text: str) -> list[tuple[str, str]]:
    """(part, the words it is about) of every finding with a place."""
    return [
        (finding.part, text[finding.start : finding.end]) for finding in found.findings if finding.start is not None
    ]


def changed(case: Case, old: str, new: str) -> tuple[ProcessAudit, str]:
    text = gold_response(case)
    assert text.count(old) >= 1, text
    text = text.replace(old, new, 1)
    return audit(case, text), text


def test_gold_thinking_passes_in_every_part() -> None:
    case = a_case("creatinine-clearance")
    found = audit(case, gold_response(case))
    assert not found.findings
    assert found.sound
    for name in PARTS:
        part = found.parts[name]
        assert part is not None
        assert part.checked == part.passed > 0


def test_a_value_that_is_in_no_record_is_named_where_it_stands() -> None:
    case = a_case("mean-arterial-pressure", "jotted")
    systolic = f"{case.provenance['inputs']['systolic'][0]}/"
    found, text = changed(case, systolic, "187/")
    assert ("grounding", "187") in wrong(found, text)


def test_a_value_in_another_unit_is_not_the_value() -> None:
    case = a_case("body-mass-index", "jotted")
    found, text = changed(case, "kg", "lb")
    assert [part for part, _ in wrong(found, text)] == ["grounding"]
    assert wrong(found, text)[0][1].endswith("lb")


def test_a_wrong_step_is_named_with_what_it_comes_to() -> None:
    case = a_case("anion-gap")
    found, text = changed(case, " - (", " + (")
    (finding,) = [finding for finding in found.findings if finding.part == "arithmetic"]
    assert "+" in text[finding.start : finding.end]
    assert finding.detail.startswith("it comes to ")


def test_points_that_are_not_the_scores_are_named_in_their_line() -> None:
    case = a_case("sirs")
    line = next(line for line in gold_response(case).split("\n") if line.startswith("2. heart rate"))
    points = line.rpartition(", ")[2]
    found, text = changed(case, line, line.replace(points, "7 points"))
    assert ("formula", "7") in wrong(found, text)
    assert ("arithmetic", "7") in wrong(found, text)


def test_a_threshold_that_the_score_does_not_have_is_named() -> None:
    found, text = changed(a_case("sirs"), "heart rate above 90", "heart rate above 80")
    assert ("formula", "80") in wrong(found, text)


@pytest.mark.parametrize(
    ("said", "findings"),
    [
        (
            (
                "The current score is 0. One point is added, making the total 0 + 1 = 1. Nothing else, keeping the"
                " total at 1."
            ),
            0,
        ),
        (
            (
                "The current score is 0. Two points are added, making the total 0 + 1 = 1. Nothing else, keeping the"
                " total at 1."
            ),
            1,
        ),
        (
            (
                "The current score is 0. One point is added, making the total 0 + 1 = 1. Nothing else, keeping the"
                " total at 2."
            ),
            1,
        ),
        (
            (
                "The current score is 0. One point is added, making the total 1 + 1 = 2. Nothing else, keeping the"
                " total at 2."
            ),
            1,
        ),
        (
            (
                "The current score is 2. One point is added, making the total 0 + 1 = 1. Nothing else, keeping the"
                " total at 1."
            ),
            1,
        ),
        (
            (
                "The current score is 0. One point is added, making the total 0 + 1 = 2. Nothing else, keeping the"
                " total at 2."
            ),
            1,
        ),
    ],
)
def test_a_running_total_goes_on_from_the_total_before(said: str, findings: int) -> None:
    found = audit(a_case("curb-65"), wrap(said, '{"answer": 1}'))
    assert sum(finding.part == "arithmetic" for finding in found.findings) == findings


def test_the_conclusion_is_held_against_the_answer_as_the_task_reads_it() -> None:
    case = decimal(25.2)
    ends = {
        "So the answer is 25.2 mL/min.": None,
        "So it is 25 mL/min.": None,
        "So the answer is 26.3 mL/min.": "26.3 mL/min",
        "So the answer is 25.2 mg/dL.": "25.2 mg/dL",
        "So the answer is 25.2. That is below 30, stage 4.": None,
    }
    for end, about in ends.items():
        text = wrap(f"The formula gives it. {end}", '{"answer": 25.2}')
        found = [words for part, words in wrong(audit(case, text), text) if part == "conclusion"]
        assert found == ([about] if about else []), end


def test_a_part_with_nothing_to_look_at_is_none_and_no_answer_means_no_conclusion() -> None:
    case = synthetic_trials(1, 3, "held_out")[0]
    found = audit(case, "I do not know")
    assert found.parts["arithmetic"] is None
    assert found.parts["entities"] is None
    assert found.parts["conclusion"] is None
    assert all(part is None for part in audit(case, "").parts.values())


def test_a_criterion_that_the_trial_does_not_have_and_a_label_that_is_not_answered_are_named() -> None:
    cases = synthetic_trials(60, 3, "held_out")
    case = next(case for case in cases if case.rationale and "must" in case.rationale and case.truth["value"] == 2)
    gold = gold_response(case)
    assert not audit(case, gold).findings
    other = gold.replace("must", "must: takes nothing at all: yes, fine ; must", 1)
    assert ("grounding", "takes nothing at all") in wrong(audit(case, other), other)
    turned = gold.replace("eligible</think>", "excluded</think>")
    assert ("conclusion", "excluded") in wrong(audit(case, turned), turned)


@pytest.mark.parametrize(
    "told",
    [
        "The correct answer is given as 25.2, so the steps must lead there.",
        "According to the ground truth label, the clearance is low.",
        "We are told that the answer is 25.2.",
        "This matches the expected answer.",
        "Since the label is 25.2, the age must be high.",
        "The clearance is 25.2 mL/min. The patient is 60 and weighs 70 kg.",
    ],
)
def test_a_rationale_that_was_told_the_label_gives_itself_away(told: str) -> None:
    assert leaks(decimal(25.2), told)


def test_a_rationale_that_works_gives_nothing_away() -> None:
    assert (
        leaks(
            decimal(25.2),
            "The patient is 60 and weighs 70 kg. (140 - 60) * 70 * 0.85 / (72 * 2.1) = 31.48. So the answer is 31.48.",
        )
        == []
    )
    for case in [*synthetic_cases(110, 5, "train"), *synthetic_trials(50, 5, "train")]:
        assert leaks(case, case.rationale or "") == []


@given(st.text(max_size=400))
def test_any_text_is_audited(text: str) -> None:
    for case in (a_case("caprini"), a_case("estimated-due-date"), *synthetic_trials(1, 1, "train")):
        for whole in (text, f"<think>{text}</think>\n<answer>{text}</answer>"):
            found = audit(case, whole)
            assert set(found.parts) == set(PARTS)
            assert all(f.start is None or f.end is None or 0 <= f.start <= f.end <= len(whole) for f in found.findings)


@pytest.mark.parametrize(
    "unit",
    ["1 + 1 = 2. ", "((((1", "1/", "5 mg/", "01/02/2003 adding 3 days ", "melena yes 1 ; ", '"', "\ud800\u202e²√", "9"],
)
def test_a_megabyte_takes_time_in_proportion(unit: str) -> None:
    case = a_case("caprini")
    spent = []
    for length in (40_000, 1_000_000):
        begin = time.process_time()
        audit(case, f"<think>{unit * (length // len(unit))}</think>\n<answer>{{}}</answer>")
        spent.append(time.process_time() - begin)
    assert spent[1] < 25 * 3 * max(spent[0], 0.05)
