"""Rules that hold for every synthetic case, of all calculators, difficulties and manners of
notes."""

from __future__ import annotations

import re
from typing import Any

import pytest

from ehrmind.calculators import CALCULATORS, Calculator
from ehrmind.calculators.inputs import Flag, Quantity
from ehrmind.calculators.labels import agrees, work_case
from ehrmind.data.splits import check_leaks
from ehrmind.data.synthetic import synthetic_case, synthetic_cases
from ehrmind.data.synthetic.notes import MANNERS
from ehrmind.data.synthetic.phrases import SAID_THE_OTHER_WAY
from ehrmind.types import Case, InputError
from ehrmind.verify.audit import check_cases

ALL = [pytest.param(calculator, id=calculator.slug) for calculator in CALCULATORS.values()]
DIFFICULTIES = ("easy", "medium", "hard")
EACH = 12  # cases of every calculator and difficulty


def some(calculator: Calculator, difficulty: Any) -> list[Case]:
    return [synthetic_case(11, index, "train", calculator, difficulty) for index in range(EACH)]


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_the_verifier_proves_every_case(difficulty: Any) -> None:
    cases = synthetic_cases(55 * EACH, 5, "train", difficulty=difficulty)
    assert {case.task for case in cases} == {calculator.slug for calculator in CALCULATORS.values()}
    report = check_cases(cases)
    assert report.ok, report.failures


@pytest.mark.parametrize("calculator", ALL)
def test_a_reader_finds_every_input_in_the_note_or_a_rule_stands_in_for_it(calculator: Calculator) -> None:
    for difficulty in DIFFICULTIES:
        for case in some(calculator, difficulty):
            given, stated, note = case.provenance["inputs"], case.provenance["stated"], case.fields["note"]
            for item in calculator.inputs:
                if item.name not in given:
                    assert item.because, f"{item.name} is neither in the note nor stood in for"
                    continue
                assert stated[item.name].casefold() in note.casefold(), (
                    f"{item.name}: '{stated[item.name]}' is not in the note"
                )
                if isinstance(item, Flag):
                    other_way = item.name in SAID_THE_OTHER_WAY and case.provenance["manner"] != "telegraphic"
                    assert says(note, stated[item.name], given[item.name] is not other_way), item.name
                elif isinstance(item, Quantity) and item.name not in ("age", "systolic", "diastolic"):
                    literal = re.sub(r" times a day$", "", stated[item.name])
                    assert item.read(literal) == pytest.approx(item.read(given[item.name])), item.name


def says(note: str, label: str, present: bool) -> bool:
    """Whether the note has the finding on the side of what is there (or of what is absent),
    whatever its manner."""
    mark = r"\s*:?\s+(?:present|yes|\+)(?![\w-])" if present else r"\s*:?\s+(?:absent|no|-)(?![\w-])"
    if re.search(rf"(?<![\w-]){re.escape(label)}{mark}", note):
        return True
    opening = r"(?:positive for|[Ff]indings are)" if present else r"(?:negative for|Absent are|no sign or record of)"
    return any(label in sentence for sentence in re.findall(rf"{opening} [^.]*(?:\.\d[^.]*)*\.", note))


@pytest.mark.parametrize("calculator", ALL)
def test_the_truth_is_what_the_calculator_makes_of_the_notes_own_words(calculator: Calculator) -> None:
    for case in some(calculator, "hard"):
        result, reason = work_case(case)
        assert result is not None, reason
        assert agrees(case.truth, result)
        assert case.rationale


def test_item_i_is_a_function_of_the_seed_and_i_alone() -> None:
    assert synthetic_cases(200, 3, "train")[137] == synthetic_cases(138, 3, "train")[137]
    assert synthetic_cases(60, 3, "train") == synthetic_cases(60, 3, "train")
    assert synthetic_cases(60, 3, "train") != synthetic_cases(60, 4, "train")


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_no_two_splits_share_a_note(difficulty: Any) -> None:
    splits: dict[str, Any] = {"train": 1, "tuning": 2, "held_out": 3}
    cases = {name: synthetic_cases(2200, seed, name, difficulty=difficulty) for name, seed in splits.items()}  # type: ignore[arg-type]
    check_leaks(**cases)
    notes = [case.group for found in cases.values() for case in found]
    assert len(set(notes)) == len(notes)


def test_difficulty_makes_notes_longer_and_values_foreign() -> None:
    found = {difficulty: synthetic_cases(1100, 9, "train", difficulty=difficulty) for difficulty in DIFFICULTIES}  # type: ignore[arg-type]
    lengths = [sum(len(case.fields["note"]) for case in cases) for cases in found.values()]
    assert lengths == sorted(lengths)
    assert lengths[2] > 1.8 * lengths[0]
    converted = [sum(" in mg/dL" in (case.rationale or "") for case in cases) for cases in found.values()]
    assert converted[0] == 0 < converted[1] < converted[2]
    rules = [
        sum("Use the values" in case.fields["question"] or "latest" in case.fields["question"] for case in cases)
        for cases in found.values()
    ]
    assert rules[0] == 0 < rules[1] < rules[2]
    left_out = [
        sum(len(CALCULATORS[case.task].inputs) - len(case.provenance["inputs"]) for case in cases)
        for cases in found.values()
    ]
    assert left_out[1] < left_out[2]


def test_a_value_measured_twice_is_there_with_its_day_and_the_rule_picks_one() -> None:
    seen = 0
    for case in synthetic_cases(1100, 4, "train", difficulty="hard", manners=["case_report"]):
        for first, later, day in re.findall(
            r"(?<!urine )creatinine was ([\d.]+ \S+) on admission and ([\d.]+ \S+) on (day \d)", case.fields["note"]
        ):
            wanted = first if "on admission" in case.fields["question"] else later
            assert case.provenance["stated"]["creatinine"] == wanted, day
            seen += 1
    assert seen > 5


def test_every_manner_is_drawn_and_can_be_asked_for() -> None:
    assert {case.provenance["manner"] for case in synthetic_cases(110, 1, "train")} == set(MANNERS)
    assert {case.provenance["manner"] for case in synthetic_cases(20, 1, "train", manners=["telegraphic"])} == {
        "telegraphic"
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"tasks": ["horoscope"]}, "not one of MedCalc-Bench's 55"),
        ({"manners": ["sonnet"]}, "'sonnet' is not a manner"),
    ],
)
def test_what_is_unknown_is_refused_in_a_sentence(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        synthetic_cases(5, 1, "train", **arguments)


def test_men_are_not_pregnant() -> None:
    cases = synthetic_cases(300, 8, "train", ["caprini", "estimated-due-date"], difficulty="hard")
    men = [case for case in cases if re.search(r"\b(?:man|boy)\b", case.fields["note"], re.IGNORECASE)]
    assert men
    assert all(case.task == "caprini" and not case.provenance["inputs"].get("pregnant_or_postpartum") for case in men)
