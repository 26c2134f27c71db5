"""Spellings of one number or name meet, those of two do not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehrmind.data.cells import CellError, TypedNumber
from ehrmind.data.identity import group_key, record_key, short_id

NUMBERS = st.integers(0, 10**12)
NAMES = st.from_regex(r"[a-z]{1,4}(-[0-9]{1,4})?", fullmatch=True).filter(lambda name: record_key(name) != "")


@st.composite
def spelled(draw: st.DrawFn, number: int) -> str:
    text = draw(
        st.sampled_from(
            [str(number), f"{number}.0", f"{number},0", f"{number}.", f"{number:09d}", f"{number}.00", f"{number:,}"]
        )
    )
    if draw(st.booleans()):
        text = text.translate({ord("0") + n: chr(0xFF10 + n) for n in range(10)})
    around = st.sampled_from(["", " ", "\u00a0", "\ufeff", "\t", "\u200b"])
    return draw(around) + text + draw(around)


@given(NUMBERS, NUMBERS, st.data())
def test_spellings_of_numbers_meet_if_and_only_if_they_are_one_number(
    one: int, other: int, data: st.DataObject
) -> None:
    left, right = data.draw(spelled(one)), data.draw(spelled(other))
    assert (record_key(left) == record_key(right)) == (one == other)
    assert record_key(left) == record_key(data.draw(spelled(one)))


@given(
    NAMES,
    NAMES,
    st.sampled_from([str.upper, str.lower, str.title]),
    st.sampled_from(["-", "\u2010", "\u2011", "\u2013"]),
)
def test_spellings_of_names_meet_if_and_only_if_they_are_one_name(
    one: str, other: str, case: object, dash: str
) -> None:
    assert callable(case)
    assert (record_key(case(one).replace("-", dash) + " ") == record_key(other)) == (one == other)


@given(st.floats(1, 2**53).map(int))
def test_a_number_that_a_program_wrote_as_a_float_meets_the_whole_number(number: int) -> None:
    assert record_key(TypedNumber(float(number))) == record_key(str(number))


@pytest.mark.parametrize("cell", ["1.23457E+11", "1,23457e+11", TypedNumber("1e+16")])
def test_a_number_that_lost_its_digits_is_refused(cell: str) -> None:
    with pytest.raises(CellError, match="lost digits"):
        record_key(cell)


def test_nothing_has_no_key_and_zero_has_one() -> None:
    assert [record_key(cell) for cell in ("", "NaN", "NULL", "\\N", " ")] == [""] * 5 and group_key("NaN", "ward") == ""
    assert record_key("0") == record_key("000") == record_key("0.0") == record_key("-0") == "0"
    assert record_key("1E5") != record_key("100000") and record_key("7.5") != record_key("75")


def test_a_namespace_keeps_numbers_of_two_collections_apart() -> None:
    assert group_key("7.0", "ward") == group_key("007", "ward") != group_key("7") and group_key(
        "7", "ward"
    ) != group_key("7", "clinic")


def test_a_rows_number_loses_what_a_spreadsheet_added_and_keeps_its_zeros() -> None:
    assert [short_id(cell) for cell in ("2.0", "2,00", " 2 ", "007", "pmc-1", "NaN")] == [
        "2",
        "2",
        "2",
        "007",
        "pmc-1",
        "",
    ]
