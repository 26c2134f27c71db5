"""A cell has one reading or none is taken: numbers in either convention, nulls, labels; drawn
spellings come back as what they spell.
"""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ehrmind.calculators.inputs import Quantity
from ehrmind.data.cells import (
    CellError,
    Column,
    Decimal,
    TypedNumber,
    decimal_of,
    decimal_readings,
    is_null,
    is_null_text,
    is_number,
    label,
    number,
    whole,
)
from ehrmind.labels import label_key
from ehrmind.types import InputError

SPELLED_NULLS = [
    "",
    " ",
    "\u00a0",
    "\ufeff",
    "NA",
    "N/A",
    "n/a",
    "NaN",
    "nan",
    "-NaN",
    "NaT",
    "NULL",
    "Null",
    "None",
    "\\N",
    "<NA>",
    "#N/A",
    "#DIV/0!",
]


def column(*cells: str, semicolons: bool = False) -> Column:
    return Column("q.csv", "answer", cells, semicolons)


def grouped(digits: str, mark: str, *, indian: bool = False) -> str:
    """The digits of a whole number with a mark between thousands, or as in India."""
    head, tail = digits[:-3], digits[-3:]
    size = 2 if indian else 3
    parts = []
    while head:
        parts.insert(0, head[-size:])
        head = head[:-size]
    return mark.join([*parts, tail])


@st.composite
def spelled_numbers(draw: st.DrawFn, decimal: Decimal) -> tuple[str, float]:
    """(a number as someone writes it in a convention, the number)."""
    digits, part = str(draw(st.integers(0, 10**9))), draw(st.from_regex(r"[0-9]{0,5}", fullmatch=True))
    sign = draw(st.sampled_from(["", "", "-", "+", "\u2212"]))
    mark = "." if decimal == "point" else ","
    groups = [None, " ", "\u202f", "\u2009", "\u00a0", "'", "\u2019", "," if decimal == "point" else "."]
    group = draw(st.sampled_from(groups))
    body = (
        digits
        if group is None or len(digits) < 4
        else grouped(digits, group, indian=group == "," and draw(st.booleans()))
    )
    written = sign + body + (mark + part if part else "")
    if draw(st.booleans()):
        written = written.translate({ord("0") + n: chr(0xFF10 + n) for n in range(10)})
    space = draw(st.sampled_from(["", " ", "\u00a0", "\t"]))
    return space + written + space, float(f"{'-' if sign in ('-', chr(0x2212)) else ''}{digits}.{part or 0}")


@given(
    st.sampled_from(["point", "comma"]).flatmap(lambda decimal: st.tuples(st.just(decimal), spelled_numbers(decimal)))
)
def test_a_number_in_its_convention_reads_back(drawn: tuple[Decimal, tuple[str, float]]) -> None:
    decimal, (cell, value) = drawn
    assert number(cell, decimal) == value


@given(
    st.sampled_from(["point", "comma"]).flatmap(
        lambda d: st.tuples(st.just(d), st.lists(spelled_numbers(d), min_size=1, max_size=6))
    )
)
def test_a_column_in_one_convention_is_read_in_it_or_refused_and_never_read_as_other_numbers(
    drawn: tuple[Decimal, list[tuple[str, float]]],
) -> None:
    decimal, cells = drawn
    written = column(*(cell for cell, _ in cells))
    assert [number(cell, decimal_of(written, decimal)) for cell in written.cells] == [value for _, value in cells]
    try:
        found = decimal_of(written)
    except InputError as error:
        assert "q.csv, row " in str(error) and "column 'answer'" in str(error)
        return
    if (
        decimal == "comma" and found == "point"
    ):  # only three decimals with a point may be taken for what they mostly are
        assume(all(decimal_readings(cell).keys() != {"comma"} for cell in written.cells))
        return
    assert [number(cell, found) for cell in written.cells] == [value for _, value in cells]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_a_program_writes_is_read_back_exactly(value: float) -> None:
    assert number(TypedNumber(value)) == value
    if "e" not in repr(value):
        assert number(repr(value).replace(".", ","), "comma") == value


@given(st.text(max_size=12))
def test_any_text_is_a_number_a_null_or_refused(text: str) -> None:
    for read in (number, whole):
        try:
            found = read(text)
        except CellError:
            continue
        assert found is None or found == found
        assert found is not None or not any(character.isdigit() for character in text)


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["93,3", "76,7", "4,25"], "comma"),
        (["93.3", "1,234"], "point"),
        (["0,500"], "comma"),
        (["1.234,5", "2.345"], "comma"),
        (["1.234.567"], "comma"),
        (["1,234,567"], "point"),
        (["12,34,567"], "point"),
        (["1.234", "2.345"], "point"),
        (["12", "7", "", "NaN"], "point"),
        (["93,3", TypedNumber("1.234")], "comma"),
        (["1e5", "2,5"], "comma"),
    ],
)
def test_the_cells_of_a_column_say_what_its_decimal_mark_is(cells: list[str], expected: str) -> None:
    assert decimal_of(column(*cells)) == expected


@pytest.mark.parametrize(
    ("cells", "row"),
    [
        (["1,234"], 1),
        (["12", "1,234"], 2),
        (["93.3", "88.1", "93,3"], 3),
        (["93,3", "1.234"], 2),
        (["93,3", "88,1", "12.5"], 3),
        (["1,234", "1.234"], 1),
    ],
)
def test_a_column_with_two_readings_is_refused_with_its_row_and_the_option(cells: list[str], row: int) -> None:
    with pytest.raises(InputError, match=rf"q\.csv, row {row}, column 'answer': .*--decimal comma") as refused:
        decimal_of(column(*cells))
    assert all(cell not in str(refused.value) for cell in cells if len(cell) > 4)


def test_semicolons_between_columns_make_a_lone_point_doubtful() -> None:
    assert decimal_of(column("1.234")) == "point"
    with pytest.raises(InputError, match="row 1"):
        decimal_of(column("1.234", semicolons=True))
    assert decimal_of(column("1.234", "3.5", semicolons=True)) == "point"
    assert decimal_of(column("1.234", semicolons=True), "comma") == "comma"


def test_whole_numbers_decide_by_being_whole_where_only_one_reading_is() -> None:
    assert decimal_of(column("1,234", "150,000"), whole_numbers=True) == "point"
    assert [whole(cell, "point") for cell in ("3.0", "1,234", "-7", "+7")] == [3, 1234, -7, 7] and whole(
        "3,0", "comma"
    ) == 3
    for cells in (["1,000"], ["1.234"], ["1.000"]):
        with pytest.raises(InputError, match="row 1"):
            decimal_of(column(*cells), whole_numbers=True)


@pytest.mark.parametrize(
    "cell",
    [
        "1_000",
        "0x10",
        "5%",
        "93 mg",
        "<5",
        "5-7",
        "(5)",
        "1/2",
        "½",
        "10²",
        "1e400",
        "1e-400",
        "12,34",
        "1,23,4",
        "9007199254740993",
        "--5",
        "5,",
        "1 23",
    ],
)
def test_what_is_no_single_number_is_refused(cell: str) -> None:
    with pytest.raises(CellError):
        number(cell, "point")


@given(st.sampled_from(SPELLED_NULLS))
def test_every_spelling_of_nothing_is_null_in_every_kind_of_column(cell: str) -> None:
    assert (
        is_null(cell)
        and number(cell) is None
        and whole(cell) is None
        and label(cell, ["no", "yes"]) is None
        and not is_number(cell)
    )


@pytest.mark.parametrize("cell", ["0", "0.0", "-0", "0,0", "1970-01-01", "false", "no", "unknown", "nab"])
def test_zero_and_the_first_day_are_values(cell: str) -> None:
    assert not is_null(cell) and not is_null_text(cell)


def test_infinities_are_no_numbers_and_words_of_a_text_are_its_words() -> None:
    assert number("inf") is None and number("-Infinity", "comma") is None
    assert is_null_text("NaN") and is_null_text("\\N") and not is_null_text("N/A") and not is_null_text("None")


@pytest.mark.parametrize("given", ["0,500 mg", "00,500 mg", "1234,567 mg", "93,3 mg", "12,34 mg"])
def test_an_input_of_a_calculator_with_a_decimal_comma_is_refused_and_not_multiplied(given: str) -> None:
    with pytest.raises(InputError, match="decimal comma"):
        Quantity("dose", "dose", "mg", 0, 1e9).read(given)


WORDS = st.from_regex(r"[a-z]{1,6}", fullmatch=True)


@given(st.lists(WORDS, min_size=2, max_size=4), st.data())
def test_a_label_is_read_however_it_is_spelled(words: list[str], data: st.DataObject) -> None:
    labels = [" ".join(words[: n + 1]) for n in range(len(words))]
    assume(not any(is_null(name) for name in labels))
    place = data.draw(st.integers(0, len(labels) - 1))
    joint = data.draw(st.sampled_from([" ", "-", "_", "  ", "\u00a0", "\u2013"]))
    case = data.draw(st.sampled_from([str.upper, str.lower, str.title]))
    end = data.draw(st.sampled_from(["", ".", " "]))
    assert label(case(joint.join(words[: place + 1])) + end, labels) == place


def test_a_number_is_the_label_that_is_called_so_and_a_place_only_where_that_is_said() -> None:
    assert [label(cell, ["1", "2", "3"]) for cell in ("1", "2.0", "3,0", "03", TypedNumber("2"))] == [0, 1, 2, 2, 1]
    with pytest.raises(CellError, match="labels-from"):
        label("1", ["I", "II", "III", "IV"])
    assert label("1", ["I", "II", "III", "IV"], 1) == 0 and label("3.0", ["I", "II", "III", "IV"], 0) == 3
    for cell in ("0", "5", "-1"):
        with pytest.raises(CellError, match="no place"):
            label(cell, ["I", "II", "III", "IV"], 1)
    with pytest.raises(CellError, match="none of the labels"):
        label("\u00b2x", ["a", "b"])


def test_a_declared_label_wins_over_null_and_booleans_are_no_and_yes() -> None:
    assert (
        label("None", ["none", "some"]) == 0 and label("NA", ["Na", "K"]) == 0 and label("N/A", ["no", "yes"]) is None
    )
    assert label("True", ["no", "yes"]) == 1 and label("false", ["false", "true"]) == 0
    with pytest.raises(CellError):
        label("true", ["benign", "malignant"])


def test_spellings_that_mean_different_labels_stay_apart() -> None:
    keys = [label_key(word) for word in ("A+", "A-", "A", "1", "-1", "T1-T2", "T1", "10", "1.5")]
    assert len(set(keys)) == len(keys)
