"""The benchmark's entity dictionaries and the calculators' inputs."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from ehrmind.calculators import CALCULATORS, from_entities
from ehrmind.types import InputError

CLEARANCE = {
    "sex": "Male",
    "age": [40, "years"],
    "weight": [70.0, "kg"],
    "height": [175.0, "cm"],
    "creatinine": [1.0, "mg/dL"],
}


def test_a_row_gives_value_and_steps() -> None:
    result = from_entities(2, CLEARANCE)
    assert result.value == pytest.approx(97.222, rel=1e-4)
    assert result.steps[-1].what == "creatinine clearance"
    assert result.ignored == ()


def test_the_calculator_is_found_by_id_name_or_slug() -> None:
    values = {
        from_entities(key, CLEARANCE).value
        for key in (2, "2", "creatinine-clearance", "Creatinine Clearance (Cockcroft-Gault Equation)")
    }
    assert len(values) == 1


@pytest.mark.parametrize(
    ("number", "entities", "expected"),
    [
        (13, {"cycle length": 28, "Last menstrual date": "01/01/2023"}, datetime.date(2023, 10, 8)),
        (69, {"Current Date": "05/23/2024", "Last menstrual date": "02/14/2024"}, (14, 1)),
        (24, {"input steroid": ["PredniSONE PO", 20.0, "mg"], "target steroid": "MethylPrednisoLONE IV"}, 16.0),
        (49, {"HYDROcodone Dose": [10, "mg"], "HYDROcodone Dose Per Day": [3, "per day"]}, 30.0),
        (19, {"age": [50, "years"], "Alanine aminotransferase": [25, "U/L"], "Aspartate aminotransferase": [40, "U/L"],
              "Platelet count": [2e5, "µL"]}, 2.0),
        (30, {"Blood Urea Nitrogen (BUN)": [28, "mg/dL"], "Glucose": [90, "mg/dL"], "Sodium": [140, "mmol/L"]}, 295.0),
        (51, {"Temperature": [39, "degrees celsius"], "Heart Rate or Pulse": [100, "bpm"], "respiratory rate": [12, "breaths per minute"],
              "White blood cell count": [9000, "m^3"], "PaCO₂": [30, "mm hg"]}, 3),
    ],
)  # fmt: skip
def test_every_shape_of_entity_is_read(number: int, entities: dict[str, Any], expected: object) -> None:
    assert from_entities(number, entities).value == expected


def test_keys_are_read_by_their_letters() -> None:
    spelled = {key.upper().replace(" ", "_"): value for key, value in CLEARANCE.items()}
    assert from_entities(2, spelled).value == from_entities(2, CLEARANCE).value


def test_an_entity_of_another_calculator_is_named_as_ignored() -> None:
    result = from_entities(
        33, {"Purulent tonsils": True, "Altered mental status for PECARN head injury criteria": False}
    )
    assert (result.value, result.ignored) == (1, ("Altered mental status for PECARN head injury criteria",))


def test_two_keys_of_one_finding_count_once_and_two_values_of_one_measurement_are_refused() -> None:
    assert from_entities(45, {**CURB, "Altered mental status": True, "Confusion": False}).value == 1
    with pytest.raises(InputError, match="creatinine: the entities give it twice"):
        from_entities(2, {**CLEARANCE, "serum creatinine": [2.0, "mg/dL"]})


CURB = {
    "age": [40, "years"],
    "Systolic Blood Pressure": [120, "mm hg"],
    "Diastolic Blood Pressure": [80, "mm hg"],
    "Blood Urea Nitrogen (BUN)": [10, "mg/dL"],
    "respiratory rate": [16, "breaths per minute"],
}


def test_what_is_not_mentioned_is_as_if_it_were_not_there() -> None:
    assert from_entities(45, {**CURB, "Confusion": "Not mentioned"}) == from_entities(45, CURB)


@pytest.mark.parametrize(
    ("number", "entities", "said"),
    [
        (2, {"sex": "Male"}, "needs age"),
        (2, {**CLEARANCE, "creatinine": [1.0, "bananas"]}, "creatinine: 'bananas'"),
        (2, {**CLEARANCE, "creatinine": "high"}, "creatinine: 'high' is not a number with a unit"),
        (2, {**CLEARANCE, "weight": [7000.0, "kg"]}, "weight: 7000 kg is outside"),
        (999, {}, "999 is not the id of a calculator"),
    ],
)
def test_a_row_that_cannot_be_computed_is_refused_by_input(number: int, entities: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        from_entities(number, entities)


def test_the_benchmarks_convention_refuses_no_size_and_divides_by_nothing() -> None:
    assert from_entities(2, {**CLEARANCE, "weight": [7000.0, "kg"]}, "medcalc").value
    empty = {
        "age": [50, "years"],
        "Alanine aminotransferase": [0, "U/L"],
        "Aspartate aminotransferase": [40, "U/L"],
        "Platelet count": [0, "µL"],
    }
    with pytest.raises(InputError, match="cannot be computed"):
        from_entities(19, empty, "medcalc")


def test_an_unknown_convention_is_refused() -> None:
    with pytest.raises(InputError, match="not a convention; there are published, medcalc, medcalc-verified"):
        CALCULATORS[6]("folklore", weight="70 kg", height="170 cm")  # type: ignore[arg-type]
