"""Steroid conversion and morphine milligram equivalents."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehrmind.calculators import CALCULATORS, from_entities
from ehrmind.calculators.medicines import EQUAL_DOSES, MORPHINE_FACTORS
from ehrmind.types import InputError

STEROIDS, MME = CALCULATORS[24], CALCULATORS[49]
NAMES = st.sampled_from(sorted(EQUAL_DOSES))
BY_THE_MILLIGRAM = sorted(set(MORPHINE_FACTORS) - {"fentanyl_buccal", "fentanyl_patch"})


def convert(steroid: str, dose: str, target: str) -> dict[str, Any]:
    return {"steroid": steroid, "steroid_dose": dose, "target_steroid": target}


EXAMPLES: list[tuple[int, dict[str, Any], float]] = [
    # The classic row of equal doses: hydrocortisone 20 = prednisone 5 = methylprednisolone 4 =
    # dexamethasone 0.75.
    (24, convert("hydrocortisone", "20 mg", "prednisone"), 5),
    (24, convert("prednisone PO", "5 mg", "methylprednisolone IV"), 4),
    (24, convert("Dexamethasone IV", "6 mg", "PrednisoLONE PO"), 40),  # 6 * 5 / 0.75, the dose of the pandemic
    (24, convert("Cortisone PO", "25 mg", "Triamcinolone IV"), 4),
    (24, convert("methylprednisolone", "1 g", "dexamethasone"), 187.5),  # 1000 * 0.75 / 4
    (24, convert("betamethasone IV", "12 mg", "dexamethasone oral"), 12),
    # CDC 2022's own example: 20 mg of hydrocodone and 20 mg of oxycodone: 20 * 1 + 20 * 1.5.
    (49, {"hydrocodone_dose": "5 mg", "hydrocodone_doses_per_day": 4, "oxycodone_dose": "10 mg", "oxycodone_doses_per_day": 2}, 50),
    (49, {"morphine_dose": "15 mg", "morphine_doses_per_day": "2 per day"}, 30),
    (49, {"methadone_dose": "10 mg", "methadone_doses_per_day": 3}, 141),  # 30 * 4.7
    (49, {"tramadol_dose": "50 mg", "tramadol_doses_per_day": 4, "codeine_dose": "30 mg", "codeine_doses_per_day": 6}, 67),  # 40 + 27
    (49, {"fentanyl_patch_dose": "25 mcg/h"}, 60),  # 25 * 2.4
    (49, {"fentanyl_buccal_dose": "0.2 mg", "fentanyl_buccal_doses_per_day": 4}, 104),  # 200 * 4 * 0.13
    # 4 * 2 * 5 + 10 * 3 * 3 + 50 * 2 * 0.4
    (49, {"hydromorphone_dose": "4 mg", "hydromorphone_doses_per_day": 2, "oxymorphone_dose": "10 mg", "oxymorphone_doses_per_day": 3,
          "tapentadol_dose": "50 mg", "tapentadol_doses_per_day": 2}, 170),
]  # fmt: skip


@pytest.mark.parametrize(("number", "values", "expected"), EXAMPLES)
def test_worked_by_hand(number: int, values: dict[str, Any], expected: float) -> None:
    assert CALCULATORS[number](**values).value == pytest.approx(expected)


@given(NAMES, NAMES, st.floats(0.5, 100))
def test_converting_there_and_back_is_the_same_dose(here: str, there: str, dose: float) -> None:
    wanted: Any = STEROIDS(steroid=here, steroid_dose=(dose, "mg"), target_steroid=there).value
    assert STEROIDS(steroid=there, steroid_dose=(wanted, "mg"), target_steroid=here).value == pytest.approx(dose)


@given(NAMES, NAMES, st.floats(0.5, 100))
def test_the_unit_of_a_steroids_dose_does_not_matter(here: str, there: str, dose: float) -> None:
    in_mg = STEROIDS(steroid=here, steroid_dose=(dose, "mg"), target_steroid=there).value
    assert STEROIDS(steroid=here, steroid_dose=(dose * 1000, "mcg"), target_steroid=there).value == pytest.approx(in_mg)


@given(st.dictionaries(st.sampled_from(BY_THE_MILLIGRAM), st.tuples(st.floats(1, 100), st.integers(1, 6)), min_size=1))
def test_opioids_add_up(taken: dict[str, tuple[float, int]]) -> None:
    def inputs(name: str) -> dict[str, Any]:
        dose, times = taken[name]
        return {f"{name}_dose": (dose, "mg"), f"{name}_doses_per_day": times}

    together = MME(**{key: value for name in taken for key, value in inputs(name).items()}).value
    alone: list[Any] = [MME(**inputs(name)).value for name in taken]
    assert together == pytest.approx(sum(alone))
    more = {name: (dose * 2, times) for name, (dose, times) in taken.items()}
    doubled = MME(
        **{f"{name}_dose": (more[name][0], "mg") for name in more},
        **{f"{name}_doses_per_day": more[name][1] for name in more},
    )
    assert doubled.value == pytest.approx(2 * together)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("number", "values", "said"),
    [
        (24, {"steroid": "prednisone", "target_steroid": "cortisone"}, "needs steroid_dose"),
        (24, convert("prednisone", "20", "cortisone"), "give the unit"),
        (24, convert("prednisone", "20 mL", "cortisone"), "does not convert to mg"),
        (24, convert("testosterone", "20 mg", "cortisone"), "none of betamethasone"),
        (24, convert("prednisone IV", "20 mg", "cortisone"), "none of betamethasone"),  # there is none
        (49, {}, "at least one opioid"),
        (49, {"morphine_dose": "15 mg"}, "morphine_doses_per_day: give it with morphine_dose"),
        (49, {"morphine_doses_per_day": 2}, "morphine_dose: give it with morphine_doses_per_day"),
        (49, {"morphine_dose": "15 mg", "morphine_doses_per_day": 200}, "outside 0 to 48"),
        (49, {"fentanyl_patch_dose": "60 mg"}, "'mg' does not convert to mcg/h"),  # a patch is named by its rate
        (49, {"heroin_dose": "15 mg"}, "no input 'heroin_dose'"),
    ],
)
def test_what_cannot_be_worked_is_refused(number: int, values: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        CALCULATORS[number](**values)


def test_a_patch_holds_all_day_however_many_are_stuck_on() -> None:
    values = {"fentanyl_patch_dose": "25 mcg/h", "fentanyl_patch_doses_per_day": 2}
    assert MME(**values).value == pytest.approx(60)
    assert MME("medcalc", **values).value == pytest.approx(120)


def test_the_first_release_takes_a_patch_in_mg_for_one_in_mcg_an_hour() -> None:
    entities = {"FentANYL patch Dose": [25, "mg"], "FentANYL patch Dose Per Day": [2, "per day"]}
    assert from_entities(49, entities, "medcalc").value == pytest.approx(120)
    with pytest.raises(InputError, match="fentanyl_patch_dose: 'mg' does not convert"):
        from_entities(49, entities)


def test_the_entities_name_the_steroid_with_its_dose() -> None:
    entities = {"input steroid": ["PredniSONE PO", 10.0, "mg"], "target steroid": "Hydrocortisone IV"}
    assert from_entities(24, entities).value == pytest.approx(40)


def test_the_first_release_rounds_the_factor_and_the_dose() -> None:
    # 6.67 mg of prednisone and 26.67 of hydrocortisone to 1 of dexamethasone: 26.67 / 6.67 = 3.999;
    # 1 / 26.67 = 0.037.
    assert STEROIDS("medcalc", **convert("prednisone", "10 mg", "hydrocortisone")).value == 39.99
    assert STEROIDS("medcalc", **convert("hydrocortisone", "11.11 mg", "dexamethasone")).value == 0.411
