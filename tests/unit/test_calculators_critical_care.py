"""Glasgow Coma Score, SOFA and the SIRS criteria."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehrmind.calculators import CALCULATORS
from ehrmind.calculators.critical_care import EYE, MOTOR, NOT_TESTABLE, VERBAL
from ehrmind.types import InputError

GCS, SOFA, SIRS = (CALCULATORS[number] for number in (21, 43, 51))


def coma(eye: str, verbal: str, motor: str) -> dict[str, Any]:
    return {"eye_response": eye, "verbal_response": verbal, "motor_response": motor}


# Every organ at its best: no points.
WELL: dict[str, Any] = {
    "pao2": "95 mm Hg",
    "fio2": "21 %",
    "platelets": "250 K/uL",
    "gcs": 15,
    "bilirubin": "0.8 mg/dL",
}
WELL |= {"systolic": 120, "diastolic": 80, "creatinine": "0.9 mg/dL", "urine_output": "1800 mL/day"}
CALM: dict[str, Any] = {"temperature": "37 C", "heart_rate": 80, "respiratory_rate": 14, "white_cells": "8 K/uL"}
EXAMPLES: list[tuple[int, dict[str, Any], int]] = [
    (21, coma("spontaneous", "oriented", "obeys commands"), 15),  # 4 + 5 + 6, the best of Teasdale and Jennett 1974
    (21, coma("none", "none", "none"), 3),  # 1 + 1 + 1, the worst
    (21, coma("to speech", "confused", "localizes pain"), 12),  # 3 + 4 + 5
    (21, coma("to pain", "incomprehensible sounds", "withdrawal from pain"), 8),  # 2 + 2 + 4, the border of coma
    (43, WELL, 0),
    # Ventilated with 80 / 0.9 = 88.9 (4), platelets 15 (4), GCS 5 (4), bilirubin 13 (4),
    # epinephrine 0.2 (4), urine 100 mL (4).
    (43, WELL | {"pao2": "80 mm Hg", "fio2": "90 %", "ventilated": True, "platelets": "15 K/uL", "gcs": 5, "bilirubin": "13 mg/dL",
                 "epinephrine": "0.2 mcg/kg/min", "urine_output": "100 mL/day"}, 24),
    # 90 / 0.5 = 180: with a ventilator 3, without one 2.
    (43, WELL | {"pao2": "90 mm Hg", "fio2": "50 %", "ventilated": True}, 3),
    (43, WELL | {"pao2": "90 mm Hg", "fio2": "50 %"}, 2),
    # Mean pressure (80 + 2 * 50) / 3 = 60 (1), platelets 99 (2), creatinine 2.1 (2), GCS 14 (1).
    (43, WELL | {"systolic": 80, "diastolic": 50, "platelets": "99 K/uL", "creatinine": "2.1 mg/dL", "gcs": 14}, 6),
    (43, WELL | {"dopamine": "5 mcg/kg/min"}, 2),
    (43, WELL | {"dopamine": "5.1 mcg/kg/min"}, 3),
    (43, WELL | {"dopamine": "3 mcg/kg/min", "norepinephrine": "0.1 mcg/kg/min"}, 3),
    (43, WELL | {"norepinephrine": "0.11 mcg/kg/min"}, 4),
    (51, CALM, 0),
    (51, {"temperature": "39 C", "heart_rate": 120, "respiratory_rate": 28, "white_cells": "18 K/uL"}, 4),
    (51, {"temperature": "38 C", "heart_rate": 90, "respiratory_rate": 20, "white_cells": "12 K/uL", "paco2": "32 mm Hg"}, 0),  # the limits
    (51, CALM | {"temperature": "35.9 C", "paco2": "31 mm Hg", "white_cells": "3.9 K/uL"}, 3),
]  # fmt: skip


@pytest.mark.parametrize(("number", "values", "expected"), EXAMPLES)
def test_worked_by_hand(number: int, values: dict[str, Any], expected: int) -> None:
    value = CALCULATORS[number](**values).value
    assert value == expected
    assert isinstance(value, int)


TESTABLE = [[option for option in item.options if option != NOT_TESTABLE] for item in (EYE, VERBAL, MOTOR)]


@given(*(st.integers(0, len(options) - 2) for options in TESTABLE), st.integers(0, 2))
def test_a_worse_response_costs_a_point(eye: int, verbal: int, motor: int, which: int) -> None:
    places = [eye, verbal, motor]
    before = GCS(**coma(*(options[place] for options, place in zip(TESTABLE, places, strict=True)))).value
    places[which] += 1
    after = GCS(**coma(*(options[place] for options, place in zip(TESTABLE, places, strict=True)))).value
    assert before == after + 1  # type: ignore[operator]
    assert 3 <= after < before <= 15  # type: ignore[operator]


SICK = st.fixed_dictionaries(
    {
        "pao2": st.floats(40, 300).map(lambda value: (value, "mm Hg")),
        "fio2": st.integers(21, 100).map(lambda value: (value, "%")),
        "ventilated": st.booleans(),
        "platelets": st.floats(1, 400).map(lambda value: (value, "10^9/L")),
        "gcs": st.integers(3, 15),
        "bilirubin": st.floats(0.1, 30).map(lambda value: (value, "mg/dL")),
        "systolic": st.integers(40, 200),
        "diastolic": st.integers(20, 120),
        "dopamine": st.floats(0, 30).map(lambda value: (value, "mcg/kg/min")),
        "norepinephrine": st.floats(0, 1).map(lambda value: (value, "mcg/kg/min")),
        "creatinine": st.floats(0.3, 9).map(lambda value: (value, "mg/dL")),
        "urine_output": st.floats(0, 3000).map(lambda value: (value, "mL/day")),
    }
)


@given(SICK, st.floats(0, 1))
def test_a_failing_organ_never_lowers_the_sofa_score(values: dict[str, Any], share: float) -> None:
    before: Any = SOFA(**values).value
    assert 0 <= before <= 24
    for name, factor in (("pao2", 1 - share / 2), ("platelets", 1 - share), ("creatinine", 1 + share), ("bilirubin", 1 + share),
                         ("norepinephrine", 1 + share), ("urine_output", 1 - share)):  # fmt: skip
        number, unit = values[name]
        assert (
            SOFA(**{**values, name: (number * factor if name != "pao2" else max(number * factor, 20), unit)}).value
            >= before
        )


@given(SICK)
def test_units_do_not_matter_to_sofa(values: dict[str, Any]) -> None:
    other = {
        **values,
        "platelets": (values["platelets"][0] * 1000, "/uL"),
        "pao2": (values["pao2"][0] * 0.133322387415, "kPa"),
    }
    # Where a value lies on a limit, the rounding of a conversion decides; those are left to the
    # examples.
    if all(abs(values["platelets"][0] - limit) > 1e-6 for limit in (20, 50, 100, 150)):
        ratio = values["pao2"][0] / (values["fio2"][0] / 100)
        if all(
            abs(ratio - limit) > 0.5 for limit in (100, 200, 300, 400)
        ):  # in kPa the table's limits are 13.3, 26.7, 40 and 53.3
            assert SOFA(**other).value == SOFA(**values).value


@given(
    temperature=st.floats(33, 42), rate=st.integers(40, 180), breaths=st.integers(6, 60), cells=st.integers(100, 40000)
)
def test_sirs_counts_its_four_criteria(temperature: float, rate: int, breaths: int, cells: int) -> None:
    result = SIRS(temperature=(temperature, "C"), heart_rate=rate, respiratory_rate=breaths, white_cells=(cells, "/uL"))
    expected = [not 36 <= temperature <= 38, rate > 90, breaths > 20, not 4000 <= cells <= 12000]
    assert result.value == sum(expected)
    assert [bool(step.points) for step in result.steps if step.points is not None] == expected


@pytest.mark.parametrize(
    ("number", "values", "said"),
    [
        (21, {"eye_response": "spontaneous", "verbal_response": "oriented"}, "needs motor_response"),
        (
            21,
            coma("spontaneous", "not testable", "obeys commands"),
            "verbal_response: not testable, so there is no total",
        ),
        (21, coma("winks", "oriented", "obeys commands"), "is none of spontaneous"),
        (43, {name: value for name, value in WELL.items() if name != "platelets"}, "needs platelets"),
        (43, WELL | {"gcs": 16}, "outside 3 to 15"),
        (43, WELL | {"norepinephrine": "4 mg"}, "does not convert to mcg/kg/min"),
        (51, CALM | {"temperature": "99 C"}, "outside 20 to 45 C"),
        (51, CALM | {"white_cells": "8 mg"}, "white_cells"),
    ],
)
def test_what_cannot_be_worked_is_refused(number: int, values: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        CALCULATORS[number](**values)


def test_without_a_pressure_hypotension_is_as_said_and_a_measured_one_outweighs_it() -> None:
    unmeasured = {name: value for name, value in WELL.items() if name not in ("systolic", "diastolic")}
    assert SOFA(**unmeasured).value == 0
    assert SOFA(**unmeasured, hypotension=True).value == 1
    assert SOFA(**WELL, hypotension=True).value == 0


def test_what_is_not_measured_is_said() -> None:
    result = SOFA(**{name: value for name, value in WELL.items() if name not in ("creatinine", "urine_output")})
    assert {"creatinine: not given, so taken as normal", "urine output: not given, so taken as normal"} <= set(
        result.assumed
    )


def test_the_first_release_counts_the_verbal_response_twice() -> None:
    assert GCS("medcalc", **coma("to speech", "confused", "localizes pain")).value == 16
    assert GCS("medcalc", **coma("not testable", "inappropriate words", "flexion to pain")).value == 13  # 4 + 3 + 3 + 3


def test_the_verified_release_gives_what_is_not_testable_or_not_said_its_best_score() -> None:
    assert GCS("medcalc-verified", **coma("to speech", "not testable", "localizes pain")).value == 13
    assert GCS("medcalc-verified", eye_response="to speech").value == 14


def test_the_first_releases_sofa_divides_by_percent_and_passes_over_creatinine_and_stronger_infusions() -> None:
    lungs = 2  # 95 / 21 is far below 300
    assert SOFA("medcalc", **WELL).value == lungs
    assert SOFA("medcalc", **WELL | {"creatinine": "6 mg/dL"}).value == lungs
    assert (
        SOFA("medcalc", **WELL | {"dobutamine": "2 mcg/kg/min", "norepinephrine": "0.3 mcg/kg/min"}).value == lungs + 2
    )
    assert SOFA("medcalc", **WELL | {"urine_output": "100 mL/day"}).value == lungs + 3


def test_the_first_releases_sirs_always_gives_the_heart_rates_point() -> None:
    assert SIRS("medcalc", **CALM).value == 1
