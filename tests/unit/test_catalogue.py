"""The 55 calculators: ids, kinds, names in any spelling, units."""

from __future__ import annotations

import pytest

from ehrmind.calculators.catalogue import CATALOGUE, CATEGORIES, CATEGORY_SPELLINGS, entry_by_name, unit_asked
from ehrmind.types import InputError

# The benchmark's rule-based calculators, as its scoring rules list them.
SCORES = {4, *range(15, 19), 20, 21, 25, 27, 28, 29, 32, 33, 36, 43, 45, 48, 51}


def test_there_are_55_calculators_with_their_kinds_of_answer() -> None:
    assert len(CATALOGUE) == 55
    assert {number for number, calculator in CATALOGUE.items() if calculator.kind == "integer"} == SCORES
    assert {number for number, calculator in CATALOGUE.items() if calculator.kind == "date"} == {13, 68}
    assert {number for number, calculator in CATALOGUE.items() if calculator.kind == "weeks_days"} == {69}


def test_slugs_and_names_are_unique_and_categories_canonical() -> None:
    assert len({calculator.slug for calculator in CATALOGUE.values()}) == 55
    assert len({calculator.name for calculator in CATALOGUE.values()}) == 55
    assert {calculator.category for calculator in CATALOGUE.values()} == set(CATEGORIES)
    assert (CATEGORY_SPELLINGS["lab test"], CATEGORY_SPELLINGS["dosage conversion"]) == ("lab", "dosage")


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("Wells' Criteria for DVT", 16),
        ("Wells’ criteria for DVT ", 16),
        ("Estimated of Conception", 68),
        ("estimated date of conception", 68),
        ("HOMA-IR (Homeostatic Model Assessment for Insulin Resistance)", 31),
        ("cha2ds2-vasc", 4),
    ],
)
def test_a_calculator_is_found_in_any_spelling(name: str, number: int) -> None:
    assert entry_by_name(name).id == number


def test_an_unknown_calculator_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="Horoscope"):
        entry_by_name("Horoscope")


def test_the_unit_is_the_one_the_question_asks_for() -> None:
    assert unit_asked(38, "What is the free water deficit in terms of liters?") == "L"
    assert unit_asked(38, "What is the free water deficit in terms of kg? Sodium is 140 mEq/L.") == "kg"
    assert unit_asked(10, "What is the ideal body weight in terms of kg?") == "kg"
    assert unit_asked(64, "What is the delta ratio?") is None
