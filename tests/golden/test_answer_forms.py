"""The forms in which a clinician writes a right answer, and the forms that are no answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from medcalc_cases import age, date, decimal, integer

from ehrmind.parsing import reasons
from ehrmind.prompts.protocol import wrap
from ehrmind.types import Case, Verdict
from ehrmind.verify import judge

CLEARANCE = decimal(25.2, calculator=2)
GFR = decimal(25.2, calculator=3)
PRESSURE = decimal(92.0, calculator=5)
BMI = decimal(23.8, calculator=6)
QTC = decimal(447.9, calculator=56)
DOSE = decimal(
    6.029,
    calculator=24,
    question=(
        "Based on the patient's dose of Hydrocortisone PO, what is the equivalent dosage in mg of Dexamethasone PO?"
    ),
)
OPIOIDS = decimal(1234.5, calculator=49)
DEFICIT = decimal(-1.39, calculator=38)
GAP = decimal(28.0, calculator=39)
OSMOLALITY = decimal(332.675, calculator=30)
FENA = decimal(0.495, calculator=40)
RATIO = decimal(0.881, calculator=64)
SURFACE = decimal(1.5, calculator=60)
SCORE = integer(3)
CRITERIA = integer(3, calculator=51)
DUE = date("2007-01-09")
GESTATION = age(14, 1)

RIGHT: list[tuple[Case, list[Any]]] = [
    (
        CLEARANCE,
        [
            25.2,
            "25.2",
            " 25.2 ",
            "+25.2",
            "25.2 mL/min",
            "25.2mL/min",
            "25.2 ml/min.",
            "25.2 mL per minute",
            "25.2 (mL/min)",
            "25.2 millilitres/min",
            24,
            "2.52e1",
        ],
    ),
    (
        GFR,
        [
            "25.2 mL/min/1.73m²",
            "25.2 ml/min/1.73 m^2",
            "25.2 mL/min per 1.73 m2",
            "25.2 mL/min/(1.73 m**2)",
            "25.2 mL/(min·1.73 m²)",
            "25.2 mL/min/1.73",
        ],
    ),
    (PRESSURE, ["92 mmHg", "92 mm Hg", "92.0 MMHG", "92 millimeters of mercury"]),
    (BMI, ["23.8 kg/m2", "23.8 kg/m²", "23.8 kg / m^2", "23.8 kilograms per square meter"]),
    (QTC, ["447.9 ms", "447.9 msec", "448 milliseconds"]),
    (DOSE, ["6.03 mg", "6.03 mg of Dexamethasone PO", "6.03 mg Dexamethasone", "6.03 milligrams"]),
    (
        OPIOIDS,
        ["1,234.5", "1,234.5 MME/day", "1234.5 mme daily", "1234.5 MME", "1,234.5 mg morphine equivalents per day"],
    ),
    (DEFICIT, [-1.39, "-1.39 L", "\u22121.39", "\u20131.39 liters", "\u2010 1.39".replace(" ", "")]),
    (GAP, ["28 mEq/L", "28 meq per liter", "28 mmol/L"]),
    (OSMOLALITY, ["332.675 mOsm/kg", "332.7 mOsm/kg H2O", "332.7 milliosmoles per kg of water"]),
    (FENA, ["0.495 %", "0.495%", "0.495 percent"]),
    (RATIO, [0.881, "0.881", ".881"]),
    (SURFACE, ["1.5 m²", "1.5 m^2", "1.50 square meters", "1.5 sq m"]),
    (SCORE, [3, 3.0, "3", "3.0", "3 points", "3 pts", "3 point"]),
    (CRITERIA, ["3 criteria", "3 points", "3 criteria met"]),
    (
        DUE,
        [
            "01/09/2007",
            "1/9/2007",
            "1/09/2007",
            "01-09-2007",
            "2007-01-09",
            "2007/1/9",
            "January 9, 2007",
            "Jan 9 2007",
            "9 January 2007",
            "9-Jan-2007",
            "January 9th, 2007",
        ],
    ),
    (
        GESTATION,
        [
            "14 weeks, 1 day",
            "14 weeks, 1 days",
            "14 weeks and 1 day",
            "14 weeks 1 day",
            "(14 weeks, 1 days)",
            "('14 weeks', '1 days')",
            "14w1d",
            "14 wk 1 d",
        ],
    ),
    (
        GESTATION,
        [
            [14, 1],
            [14.0, 1.0],
            ["14 weeks", "1 days"],
            ["14", "1"],
            {"weeks": 14, "days": 1},
            {"days": "1 day", "weeks": "14 weeks"},
        ],
    ),
]

NOT_RIGHT: list[tuple[Case, dict[str, list[Any]]]] = [
    (
        CLEARANCE,
        {
            reasons.WRONG_UNIT: [
                "25.2 mL/min/1.73m²",
                "25.2 L/min",
                "25.2 mg/dL",
                "25.2 mL/hr",
                "25.2 mL",
                "25.2 %",
                "25.2 points",
                "25.2 bananas",
            ],
            reasons.OUT_OF_LIMITS: [-25.2, "\u221225.2", 27, "252e-2", "26.5 mL/min", 0],
            reasons.EXPRESSION: [
                "12.6 * 2",
                "12.6*2",
                "50.4/2",
                "((140 - 60) * 70) / (72 * 2.1)",
                "20 + 5.2",
                "30.2 - 5",
                "sqrt(635)",
                "12.6 x 2",
                "25.2 mL/min * 1",
                "5.02^2",
                "= 25.2",
            ],
            reasons.RANGE: [
                "25-26",
                "25\u201326 mL/min",
                "25 to 26",
                "between 25 and 26",
                "25.2 ± 1",
                "25.2 +/- 1",
                ">25",
                "< 26",
                "\u2265 25",
                "25 mL/min to 26 mL/min",
            ],
            reasons.GUESSES: [
                [25.2],
                [25.2, 26],
                [],
                "25.2 or 26",
                "25.2, 26",
                "25.2; 26",
                "[25.2, 26]",
                "25,2",
                "25.2 mL/min or 26 mL/min",
                "25.2 and 26",
            ],
            reasons.NOT_A_NUMBER: [
                None,
                True,
                False,
                "",
                "  ",
                "unknown",
                "N/A",
                "twenty-five",
                "NaN",
                "inf",
                "1e999",
                {},
                {"value": 25.2},
                "1.2.3",
                "25 26",
                "\u0662\u0665",
                "25.2" * 40,
                "~25.2",
            ],
        },
    ),
    (GFR, {reasons.WRONG_UNIT: ["25.2 mL/min", "25.2 mL/hr/1.73m²", "25.2 mL/min/1.83 m2"][:2]}),
    (DOSE, {reasons.WRONG_UNIT: ["6.03 mg of Hydrocortisone PO", "6.03 mcg", "6.03 g", "6.03 mg/day"]}),
    (GAP, {reasons.WRONG_UNIT: ["28 mEq", "28 mmol/dL", "28 mg/L"]}),
    (RATIO, {reasons.WRONG_UNIT: ["0.881 %", "0.881 mEq/L"]}),
    (FENA, {reasons.OUT_OF_LIMITS: [0.00495, "49.5 %"], reasons.WRONG_UNIT: ["0.495 mEq/L"]}),
    (
        SCORE,
        {
            reasons.NOT_AN_INTEGER: [3.4, 2.6, "3.4", "3.4 points", 3.0001],
            reasons.OUT_OF_LIMITS: [2, 4, -3, "4 points", 1e15],
            reasons.WRONG_UNIT: ["3 %", "3 mg/dL"],
            reasons.EXPRESSION: ["1 + 2", "1+1+1", "3/9"],
            reasons.RANGE: ["2-4", "3 to 4"],
            reasons.GUESSES: [[3, 4], "3 or 4"],
            reasons.NOT_A_NUMBER: [True, None, "three"],
        },
    ),
    (
        DUE,
        {
            reasons.WRONG_VALUE: ["01/10/2007", "09/01/2007", "2007-09-01", "January 9, 2008"],
            reasons.NOT_A_DATE: [
                "01/32/2007",
                "13/01/2007",
                "02/30/2007",
                "1/9/07",
                "January 2007",
                20070109,
                "",
                None,
                True,
                "next week",
                {"month": 1},
                "2007-01-09T00:00 maybe",
            ],
            reasons.GUESSES: [["01/09/2007"], "01/09/2007 or 01/10/2007", "01/09/2007, 01/10/2007"],
            reasons.RANGE: ["01/09/2007 to 01/10/2007", "01/09/2007 - 01/16/2007"],
            reasons.EXPRESSION: ["01/02/2007 + 7 days", "01/16/2007 - 1 week"],
        },
    ),
    (
        GESTATION,
        {
            reasons.WRONG_VALUE: [
                "14 weeks, 2 days",
                "1 week, 14 days",
                "13 weeks, 8 days",
                [1, 14],
                {"weeks": 13, "days": 8},
            ],
            reasons.NOT_WEEKS_DAYS: [
                "14 weeks",
                "14",
                14,
                99,
                "99 days",
                "14.1 weeks",
                None,
                True,
                {"weeks": 14},
                [14, True],
                ["14 days", "1 weeks"],
                [14, 1.5],
                "14 months, 1 day",
            ],
            reasons.GUESSES: [[14], [14, 1, 2], [], "14 weeks, 1 day or 14 weeks, 2 days"],
            reasons.RANGE: ["14 weeks, 1 day to 14 weeks, 3 days"],
            reasons.EXPRESSION: ["14 weeks + 0 weeks, 1 day", "13 + 1 weeks, 1 day"],
        },
    ),
]


def verdict_on(case: Case, answer: Any) -> Verdict:
    return judge(case, wrap("x", json.dumps({"answer": answer})))


@pytest.mark.parametrize(
    ("case", "answer"),
    [(case, answer) for case, answers in RIGHT for answer in answers],
    ids=lambda value: repr(value)[:40],
)
def test_a_right_answer_is_right_in_this_form(case: Case, answer: Any) -> None:
    verdict = verdict_on(case, answer)
    assert (verdict.correct, verdict.reason, verdict.reward) == (True, None, 1.1)


@pytest.mark.parametrize(
    ("case", "answer", "reason"),
    [
        (case, answer, reason)
        for case, by_reason in NOT_RIGHT
        for reason, answers in by_reason.items()
        for answer in answers
    ],
    ids=lambda value: repr(value)[:40],
)
def test_this_form_is_not_right_and_says_why(case: Case, answer: Any, reason: str) -> None:
    verdict = verdict_on(case, answer)
    assert (verdict.correct, verdict.reason) == (False, reason)


@pytest.mark.parametrize(
    ("unit", "right"),
    [
        ("mL/min", True),
        ("ml per min", True),
        (None, True),
        ("", True),
        ("mg/dL", False),
        (5, False),
        ([], False),
        ("mL/min" + " " * 99 + "x", False),
    ],
)
def test_a_unit_beside_the_answer_must_be_right_and_may_be_empty(unit: Any, right: bool) -> None:
    verdict = judge(CLEARANCE, wrap("x", json.dumps({"answer": 25.2, "unit": unit})))
    assert verdict.correct == right
    assert verdict.reason == (None if right else reasons.WRONG_UNIT)


def test_an_attached_unit_and_one_beside_it_must_both_be_right() -> None:
    assert judge(CLEARANCE, wrap("x", '{"answer": "25.2 mL/min", "unit": "ml/min"}')).correct
    assert not judge(CLEARANCE, wrap("x", '{"answer": "25.2 mL/min", "unit": "mg"}')).correct
    assert not judge(CLEARANCE, wrap("x", '{"answer": "25.2 mg", "unit": "mL/min"}')).correct


def test_free_water_may_be_given_in_the_unit_that_its_question_asks_for() -> None:
    asked_in_kg = decimal(-1.39, calculator=38, question="What is the free water deficit in terms of kg?")
    asked_in_kg = type(asked_in_kg).from_json(asked_in_kg.to_json().replace('"unit": "L"', '"unit": "kg"'))
    assert verdict_on(asked_in_kg, "-1.39 kg").correct
    assert not verdict_on(DEFICIT, "-1.39 kg").correct
