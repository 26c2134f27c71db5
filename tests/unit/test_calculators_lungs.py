"""Pneumonia Severity Index, CURB-65, Wells' criteria for pulmonary embolism, the PERC rule."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ehrmind.calculators import CALCULATORS, from_entities
from ehrmind.calculators.calculator import Convention
from ehrmind.calculators.inputs import Flag
from ehrmind.types import InputError

PSI, CURB, WELLS, PERC = (CALCULATORS[number] for number in (29, 45, 8, 48))
FLAGS = {
    number: [item.name for item in CALCULATORS[number].inputs if isinstance(item, Flag)] for number in (29, 45, 8, 48)
}

# A well man of 60: PSI class II by his age alone, no other point anywhere.
WELL_60: dict[str, Any] = {
    "age": 60,
    "sex": "male",
    "temperature": "37 C",
    "heart_rate": 80,
    "respiratory_rate": 16,
    "systolic": 120,
}
WELL_40: dict[str, Any] = {
    "urea_nitrogen": "10 mg/dL",
    "respiratory_rate": 16,
    "systolic": 120,
    "diastolic": 80,
    "age": 40,
}
LOW_RISK: dict[str, Any] = {"age": 30, "heart_rate": 80, "oxygen_saturation": 98}
ALL_BAD: dict[str, Any] = dict.fromkeys(FLAGS[29], True) | {
    "temperature": "34 C",
    "heart_rate": 130,
    "respiratory_rate": 30,
    "systolic": 89,
    "ph": 7.3,
    "urea_nitrogen": "40 mg/dL",
    "sodium": "125 mEq/L",
    "glucose": "300 mg/dL",
    "hematocrit": "25 %",
    "pao2": "50 mm Hg",
}

EXAMPLES: list[tuple[int, dict[str, Any], float]] = [
    (29, WELL_60, 60),
    (29, WELL_60 | {"sex": "female"}, 50),
    # 72 + nursing home 10 + confusion 20 + breathing 20 + pressure 20 + fever 15 + pulse 10: class
    # V.
    (
        29,
        {
            "age": 72,
            "sex": "male",
            "nursing_home": True,
            "confusion": True,
            "respiratory_rate": 32,
            "systolic": 85,
            "temperature": "40.1 C",
            "heart_rate": 130,
        },
        167,
    ),
    # 80 - 10; residence, illnesses 10 + 30 + 20 + 10 + 10 + 10; examination 20 + 10 + 15 + 20 + 20;
    # tests 30 + 20 + 20 + 10 + 10 + 10, effusion 10.
    (29, ALL_BAD | {"age": 80, "sex": "female"}, 355),
    # The paper's other units: 104 F = 40 C, urea nitrogen 11 mmol/L, glucose 14 mmol/L, 7.9 kPa =
    # 59 mm Hg: 60 + 15 + 20 + 10 + 10.
    (
        29,
        WELL_60 | {"temperature": "104 F", "urea_nitrogen": "11 mmol/L", "glucose": "14 mmol/L", "pao2": "7.9 kPa"},
        115,
    ),
    (45, WELL_40, 0),
    (
        45,
        {
            "confusion": True,
            "urea_nitrogen": "30 mg/dL",
            "respiratory_rate": 34,
            "systolic": 84,
            "diastolic": 50,
            "age": 79,
        },
        5,
    ),
    (45, WELL_40 | {"age": 70, "confusion": "yes"}, 2),
    (8, {"heart_rate": 80}, 0),
    (8, dict.fromkeys(FLAGS[8], True) | {"heart_rate": 120}, 12.5),  # 3 + 3 + 1.5 + 1.5 + 1.5 + 1 + 1
    (8, {"heart_rate": 110, "dvt_signs": True, "hemoptysis": True}, 5.5),  # 1.5 + 3 + 1
    (8, {"heart_rate": 80, "pe_likely": True, "treated_cancer": True}, 4),  # 3 + 1: unlikely still, up to 4
    (8, {"heart_rate": 80, "immobilized_3_days": True, "surgery_4_weeks": True}, 1.5),  # one criterion together
    (8, {"heart_rate": 80, "prior_dvt": True, "prior_pe": True}, 1.5),  # and these too
    (48, LOW_RISK, 0),
    (48, {"age": 50, "heart_rate": 100, "oxygen_saturation": 94}, 3),
    (48, dict.fromkeys(FLAGS[48], True) | {"age": 70, "heart_rate": 120, "oxygen_saturation": 80}, 8),
    (48, LOW_RISK | {"prior_dvt": True, "prior_pe": True, "hormones": True}, 2),  # the first two are one criterion
]

# One criterion on its own, its points by the paper, and the nearest finding that earns none.
CRITERIA: list[tuple[int, dict[str, Any], str, Any, Any, float]] = [
    (29, WELL_60, "nursing_home", True, False, 10),
    (29, WELL_60, "neoplastic_disease", True, False, 30),
    (29, WELL_60, "liver_disease", True, False, 20),
    (29, WELL_60, "heart_failure", True, False, 10),
    (29, WELL_60, "cerebrovascular_disease", True, False, 10),
    (29, WELL_60, "renal_disease", True, False, 10),
    (29, WELL_60, "confusion", True, False, 20),
    (29, WELL_60, "pleural_effusion", True, False, 10),
    (29, WELL_60, "respiratory_rate", 30, 29, 20),
    (29, WELL_60, "systolic", 89, 90, 20),
    (29, WELL_60, "temperature", "34.9 C", "35 C", 15),
    (29, WELL_60, "temperature", "94.9 F", "95 F", 15),
    (29, WELL_60, "temperature", "40 C", "39.9 C", 15),
    (29, WELL_60, "heart_rate", 125, 124, 10),
    (29, WELL_60, "ph", 7.34, 7.35, 30),
    (29, WELL_60, "urea_nitrogen", "30 mg/dL", "29.9 mg/dL", 20),
    (29, WELL_60, "sodium", "129 mEq/L", "130 mEq/L", 20),
    (29, WELL_60, "glucose", "250 mg/dL", "249 mg/dL", 10),
    (29, WELL_60, "hematocrit", "29.9 %", "30 %", 10),
    (29, WELL_60, "pao2", "59 mm Hg", "60 mm Hg", 10),
    (45, WELL_40, "confusion", True, False, 1),
    (45, WELL_40, "urea_nitrogen", "7.1 mmol/L", "7 mmol/L", 1),
    (45, WELL_40, "urea_nitrogen", "20 mg/dL", "19.6 mg/dL", 1),
    (45, WELL_40, "respiratory_rate", 30, 29, 1),
    (45, WELL_40, "systolic", 89, 90, 1),
    (45, WELL_40, "diastolic", 60, 61, 1),
    (45, WELL_40 | {"systolic": 80}, "diastolic", 60, 61, 0),  # either pressure, one point
    (45, WELL_40, "age", 65, 64, 1),
    (8, {"heart_rate": 80}, "dvt_signs", True, False, 3),
    (8, {"heart_rate": 80}, "pe_likely", True, False, 3),
    (8, {}, "heart_rate", 101, 100, 1.5),
    (8, {"heart_rate": 80}, "immobilized_3_days", True, False, 1.5),
    (8, {"heart_rate": 80}, "surgery_4_weeks", True, False, 1.5),
    (8, {"heart_rate": 80}, "prior_dvt", True, False, 1.5),
    (8, {"heart_rate": 80}, "prior_pe", True, False, 1.5),
    (8, {"heart_rate": 80}, "hemoptysis", True, False, 1),
    (8, {"heart_rate": 80}, "treated_cancer", True, False, 1),
    (48, LOW_RISK, "age", 50, 49, 1),
    (48, LOW_RISK, "heart_rate", 100, 99, 1),
    (48, LOW_RISK, "oxygen_saturation", 94.9, 95, 1),
    (48, LOW_RISK, "one_leg_swollen", True, False, 1),
    (48, LOW_RISK, "hemoptysis", True, False, 1),
    (48, LOW_RISK, "surgery_or_trauma_4_weeks", True, False, 1),
    (48, LOW_RISK, "prior_dvt", True, False, 1),
    (48, LOW_RISK, "prior_pe", True, False, 1),
    (48, LOW_RISK, "hormones", True, False, 1),
]
AGES, PULSES, BREATHS = st.integers(18, 110), st.integers(30, 220), st.integers(5, 60)
SYSTOLICS, SATURATIONS, TEMPERATURES, UREAS = (
    st.integers(50, 220),
    st.floats(60, 100),
    st.floats(31, 42),
    st.floats(2, 120),
)


def score(number: int, values: dict[str, Any], convention: Convention = "published") -> float:
    return float(CALCULATORS[number](convention, **values).value)  # type: ignore[arg-type]


@pytest.mark.parametrize(("number", "values", "expected"), EXAMPLES)
def test_worked_by_hand(number: int, values: dict[str, Any], expected: float) -> None:
    assert CALCULATORS[number](**values).value == expected


@pytest.mark.parametrize(("number", "base", "name", "bad", "fair", "points"), CRITERIA)
def test_a_criterion_alone_earns_its_points_at_its_threshold(
    number: int, base: dict[str, Any], name: str, bad: Any, fair: Any, points: float
) -> None:
    assert score(number, base | {name: bad}) - score(number, base | {name: fair}) == points


def test_every_finding_has_its_criterion() -> None:
    tried = {(number, name) for number, _, name, *_ in CRITERIA}
    assert {
        (calculator.id, item.name) for calculator in (PSI, CURB, WELLS, PERC) for item in calculator.inputs
    } - tried == {
        (29, "age"),
        (29, "sex"),
    }


def test_what_was_not_measured_counts_as_normal_and_is_told() -> None:
    assumed = " ".join(PSI(**WELL_60).assumed)
    for label in ("arterial pH", "urea nitrogen", "sodium", "glucose", "hematocrit", "PaO2"):
        assert label in assumed


@given(number=st.sampled_from([29, 45, 8, 48]), data=st.data())
def test_no_finding_lowers_a_score_and_none_leaves_its_bounds(number: int, data: st.DataObject) -> None:
    base = {29: WELL_60, 45: WELL_40, 8: {"heart_rate": 80}, 48: LOW_RISK}[number]
    present = data.draw(st.sets(st.sampled_from(FLAGS[number])))
    name = data.draw(st.sampled_from(FLAGS[number]))
    before = score(number, base | dict.fromkeys(present, True))
    after = score(number, base | dict.fromkeys(present | {name}, True))
    assert before <= after
    assert after <= {29: 60 + 120, 45: 1, 8: 11, 48: 5}[number]


@given(age=AGES, sex=st.sampled_from(["male", "female"]), pulse=PULSES, breaths=BREATHS, systolic=SYSTOLICS, urea=UREAS)
def test_sicker_is_never_less(age: int, sex: str, pulse: int, breaths: int, systolic: int, urea: float) -> None:
    def psi(years: int, beats: int, rate: int, pressure: int, nitrogen: float) -> float:
        signs = {
            "heart_rate": beats,
            "respiratory_rate": rate,
            "systolic": pressure,
            "urea_nitrogen": (nitrogen, "mg/dL"),
        }
        return score(29, WELL_60 | signs | {"age": years, "sex": sex})

    def curb(years: int, rate: int, pressure: int, nitrogen: float) -> float:
        signs = {
            "respiratory_rate": rate,
            "systolic": pressure,
            "diastolic": pressure / 2,
            "urea_nitrogen": (nitrogen, "mg/dL"),
        }
        return score(45, signs | {"age": years})

    now, curb_now = psi(age, pulse, breaths, systolic, urea), curb(age, breaths, systolic, urea)
    assert age - 10 <= now <= age + 295
    assert 0 <= curb_now <= 4
    assert psi(age + 1, pulse, breaths, systolic, urea) == now + 1
    assert psi(age, pulse + 5, breaths + 5, systolic, urea + 5) >= now
    assert psi(age, pulse, breaths, systolic - 5, urea) >= now
    assert curb(age + 1, breaths + 5, systolic - 5, urea + 5) >= curb_now


@given(age=AGES, pulse=PULSES, saturation=SATURATIONS)
def test_an_embolism_is_never_less_likely_with_age_pulse_and_a_lower_saturation(
    age: int, pulse: int, saturation: float
) -> None:
    signs = {"age": age, "heart_rate": pulse, "oxygen_saturation": saturation}
    worse = {"age": age + 5, "heart_rate": pulse + 10, "oxygen_saturation": saturation - 3}
    assert 0 <= score(48, signs) <= score(48, worse) <= 3
    assert score(8, {"heart_rate": pulse}) <= score(8, {"heart_rate": pulse + 10})


@given(
    age=AGES,
    temperature=TEMPERATURES,
    urea=UREAS,
    glucose=st.floats(40, 600),
    sodium=st.floats(110, 160),
    pao2=st.floats(30, 120),
)
def test_the_unit_does_not_matter(
    age: int, temperature: float, urea: float, glucose: float, sodium: float, pao2: float
) -> None:
    bounds = ((temperature, (35, 40)), (urea, (19.61,)), (pao2, (60,)))
    assume(all(abs(value - bound) > 1e-3 for value, near in bounds for bound in near))  # where a rounding decides
    assume(
        not 30 <= urea < 11 * 2.8015 and not 250 <= glucose < 14 * 18.016
    )  # the publication's limits in mmol/L are higher
    usual = {
        "temperature": (temperature, "C"),
        "urea_nitrogen": (urea, "mg/dL"),
        "glucose": (glucose, "mg/dL"),
        "sodium": (sodium, "mEq/L"),
        "pao2": (pao2, "mm Hg"),
    }
    other = {
        "temperature": (temperature * 1.8 + 32, "F"),
        "urea_nitrogen": (urea / 2.8014, "mmol/L"),
        "glucose": (glucose / 18.0156, "mmol/L"),
        "sodium": (sodium, "mmol/L"),
        "pao2": (pao2 * 0.133322387415, "kPa"),
    }
    months = {"age": (age * 12, "months")}
    assert score(29, WELL_60 | other | months) == score(29, WELL_60 | usual | {"age": age})
    assert score(45, WELL_40 | {"urea_nitrogen": other["urea_nitrogen"]} | months) == score(
        45, WELL_40 | {"urea_nitrogen": usual["urea_nitrogen"], "age": age}
    )
    assert score(48, LOW_RISK | months) == score(48, LOW_RISK | {"age": age})


@pytest.mark.parametrize(
    ("number", "values", "said"),
    [
        (29, WELL_60 | {"age": 17}, "outside 18"),  # derived in adults
        (29, WELL_60 | {"temperature": 37}, "temperature: give the unit"),
        (29, WELL_60 | {"temperature": "98.6 C"}, "outside 20 to 45 C"),
        (29, {"age": 60, "sex": "male"}, "needs temperature"),
        (45, {"age": 60, "respiratory_rate": 16, "systolic": 120, "diastolic": 80}, "needs urea_nitrogen"),
        (45, WELL_40 | {"urea_nitrogen": "10 mm Hg"}, "does not convert to mg/dL of urea nitrogen"),
        (8, {"dvt_signs": True}, "needs heart_rate"),
        (8, {"heart_rate": 80, "dvt_signs": "perhaps"}, "neither yes nor no"),
        (8, {"heart_rate": 80, "dvt_sign": True}, "did you mean dvt_signs"),
        (48, {"age": 30, "heart_rate": 80}, "needs oxygen_saturation"),
        (48, LOW_RISK | {"oxygen_saturation": 120}, "outside 20 to 100 %"),
    ],
)
def test_what_cannot_be_worked_is_refused(number: int, values: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        CALCULATORS[number](**values)


@pytest.mark.parametrize("convention", ["medcalc", "medcalc-verified"])
@pytest.mark.parametrize(
    ("number", "values", "more"),
    [
        (29, WELL_60 | {"temperature": "39.95 C"}, 15),  # fever from 39.9 there
        (29, WELL_60 | {"temperature": "39.9 C"}, 0),
        (29, WELL_60 | {"glucose": "250 mg/dL"}, -10),  # above 250 there
        (45, WELL_40 | {"urea_nitrogen": "19.3 mg/dL"}, 1),  # above 19 there
        (45, WELL_40 | {"urea_nitrogen": "19 mg/dL"}, 0),
    ],
)
def test_the_releases_have_other_thresholds(
    convention: Convention, number: int, values: dict[str, Any], more: int
) -> None:
    assert score(number, values, convention) - score(number, values) == more


def test_the_first_release_takes_its_misspelt_celsius_for_fahrenheit() -> None:
    row = {
        "age": [60, "years"],
        "sex": "Male",
        "Temperature": [37.0, "degrees celsisus"],
        "Heart Rate or Pulse": [80.0, "beats per minute"],
    }
    row |= {"respiratory rate": [16.0, "breaths per minute"], "Systolic Blood Pressure": [120.0, "mm hg"]}
    assert [from_entities(29, row, found).value for found in ("published", "medcalc", "medcalc-verified")] == [
        60,
        75,
        60,
    ]
